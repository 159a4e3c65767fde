"""Several programs and devices at once on one unit: nobody waits for ever, and everything is told."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from attrs import define

from tests.plugins.vtd.program import PAGE, RID, Buffer, Program, entry
from tests.plugins.vtd.test_vtd_page_requests import Listener
from viommu.faults import Access, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

IOVA = 0x40_0000
SECONDS = 1.0
PATIENCE = 60


@define(eq=False)
class Scene:
    """A device that asks for pages, and another program's that loses its memory again and again."""

    listener: Listener
    hwpt: int
    other: Program
    ioas: int
    buffer: Buffer
    asked: int = 0

    @classmethod
    def make(cls) -> Scene:
        listener = Listener.make()
        hwpt = listener.attach()
        listener.endpoint.responses = deque()  # all of them, not the latest alone
        other = Program.on(listener.program.host)
        ioas, buffer = other.ioas(), other.buffer()
        other.bind(other.host.device(RID + 8, ats=True)).attach(ioas)
        return cls(listener, hwpt, other, ioas, buffer)

    def ask(self) -> None:
        self.listener.endpoint.request_page(IOVA, Access.READ, group=self.asked & 0x1FF)
        self.asked += 1

    def answer(self) -> None:
        while requests := self.listener.read():
            for request in requests:
                self.listener.answer(request.cookie)

    def map_and_unmap(self) -> None:
        machine = self.other.host.machine
        self.other.map(self.ioas, IOVA, self.buffer)
        assert machine.dma_read(RID + 8, IOVA, 8) == bytes(8)
        self.other.unmap(self.ioas, IOVA, PAGE)
        assert isinstance(machine.dma_read(RID + 8, IOVA, 8), Fault)

    def invalidate(self) -> None:
        self.listener.program.must(self.listener.program.invalidate_command(self.hwpt, entry()))


def test_page_requests_faults_maps_and_invalidations_at_once_end_and_lose_nothing() -> None:
    scene = Scene.make()
    run(scene.ask, scene.answer, scene.map_and_unmap, scene.invalidate)
    scene.answer()
    assert len(scene.listener.responses) == scene.asked > 10
    assert not scene.listener.status.PRO
    assert scene.other.host.unit.faults


def run(*works: Callable[[], None]) -> None:
    """Do each again and again in a thread of its own; what one raises is raised here."""
    stop = time.monotonic() + SECONDS
    raised: list[BaseException] = []

    def repeat(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < stop:
                work()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            raised.append(error)

    threads = [threading.Thread(target=repeat, args=(work,), daemon=True) for work in works]
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        faulthandler.cancel_dump_traceback_later()
    if raised:
        raise raised[0]
