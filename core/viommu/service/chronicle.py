"""Tells the log what programs ask, and what devices tell them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from viommu.service.course import Through
from viommu.service.names import name_of_file, name_of_question, told_result

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from viommu.service.calls import Caller
    from viommu.service.course import Course
    from viommu.service.files import Served
    from viommu.service.programs import Program
    from viommu.service.wire import Packet
    from viommu.vfio.devices import Devices
    from viommu.vfio.uapi import Irq

log = structlog.get_logger()


class Chronicle(Through):
    """Logs at debug level, and leaves the rest to another."""

    def __init__(self, inner: Course, devices: Devices) -> None:
        """Log what ``inner`` is told of, and interrupts of devices."""
        super().__init__(inner)
        for function in devices:
            before = function.interrupts.told
            function.interrupts.told = partial(_interrupted, function.name, before)

    def answered(self, program: Program, question: Packet, act: Callable[[Caller], Packet]) -> Packet:
        """Have a question answered, and log both."""
        name = name_of_question(question, self.files)
        answer = super().answered(program, question, act)
        log.debug("call", name=name, pid=program.pid, result=told_result(answer.result))
        return answer

    def closing(self, served: Served) -> AbstractContextManager[object]:
        """Log a file that is closed."""
        log.debug("last close", file=name_of_file(served.file))
        return super().closing(served)


def _interrupted(device: str, before: Callable[[Irq, int], None] | None, irq: Irq, vector: int) -> None:
    log.debug("interrupt", device=device, kind=irq.name, vector=vector)
    if before is not None:
        before(irq, vector)
