"""What a device's copies cost beside memcpy: dma-tester behind VT-d, with 4 KiB and with 2 MiB pages.

One mebibyte of memory is what all of them count. It is one mebibyte copied over and over, which lies in the host's
caches, or (cold) one of 32 that are copied to 32 others. So much the device does within the call that rings its bell.
"""

from __future__ import annotations

import os
from functools import partial
from statistics import median
from time import thread_time_ns
from typing import TYPE_CHECKING

import numpy as np
from attrs import asdict

from tools.bench.paths import Path
from viommu import Iotlb, Machine
from viommu.models import dma_tester
from viommu.models.dma_tester.work import Completion, Operation, Status, Work
from viommu.vfio.function import Function
from viommu.vfio.uapi import Irq, IrqSet, Region, SetIrqs

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
RING, RECORDS, DATA = 0x10_0000, 0x20_0000, 0x4000_0000
"""IOVAs of the ring, of its completion records, and of memory."""
SIZE, COLD = 64 * MIB, 32
TIMES, TRIES = 64, 9
TRIGGER_EVENTFD = IrqSet.DATA_EVENTFD | IrqSet.ACTION_TRIGGER


class Tester:
    """A program that owns a tester and 64 MiB; ``large``: its IOMMU maps them by 2 MiB pages."""

    def __init__(self, *, large: bool) -> None:
        self.machine = Machine("vtd", iotlb=Iotlb(entries=65536))
        self.function = Function("0000:00:10.0")
        model = dma_tester.viommu_model(self.function.bus, {})
        assert model is not None
        assert model.shape.features is not None
        self.endpoint = self.machine.add_device(0x80, **asdict(model.shape.features))
        self.function.plug(model, self.endpoint)
        self.function.open()
        self.iommu = self.machine.open_iommufd()
        device = self.iommu.bind(self.endpoint)
        self.ring, self.records = self.machine.buffer(4096), self.machine.buffer(4096)
        whole = self.machine.buffer(SIZE + 2 * MIB)
        ioas = self.iommu.ioas_alloc()
        ioas.huge_pages = large
        ioas.map(self.ring, RING)
        ioas.map(self.records, RECORDS)
        ioas.map(whole, DATA)
        device.attach(ioas)
        self.memory = whole[:SIZE]
        found = device.translate(DATA)
        assert hasattr(found, "page_size")
        assert found.page_size == (2 * MIB if large else 4096), hex(found.page_size)
        self.done = 0
        self.raised = os.eventfd(0)
        self._enable()

    def _enable(self) -> None:
        self.function.store(Region.CONFIG, 4, b"\6\0")
        for offset, size, value in (
            (0x00, 8, RING),
            (0x08, 8, RECORDS),
            (0x10, 4, 5),
            (0x18, 4, 1),
        ):
            self.function.store(0, 0x1000 + offset, value.to_bytes(size, "little"))

        vectors = SetIrqs.of(argsz=SetIrqs.total + 4, flags=TRIGGER_EVENTFD, index=Irq.MSIX, start=0, count=1)
        self.function.interrupts.set(vectors, lambda _: self.raised.to_bytes(4, "little"), os.dup)

    def copy(self, length: int, times: int = 1) -> int:
        """Let the device copy the first part of memory to the middle; the nanoseconds from doorbell to interrupt."""
        place, phase = self.done % 32, ~(self.done >> 5) & 1
        work = Work(
            Opcode=Operation.COPY,
            Interrupt=1,
            Source=DATA,
            Target=DATA + SIZE // 2,
            Length=length,
            Operand=times,
        )
        self.ring[64 * place : 64 * place + 64] = np.frombuffer(work.encode(), np.uint8)
        self.done += 1
        before = thread_time_ns()
        self.function.store(0, 0x1020, self.done.to_bytes(4, "little"))
        os.eventfd_read(self.raised)
        taken = thread_time_ns() - before
        record = Completion.decode(self.records[32 * place : 32 * place + 32].tobytes())
        assert (record.Status, record.Result, record.Phase) == (Status.DONE, length * times, phase), record
        return taken

    def per_mib(self, mebibytes: int, times: int) -> float:
        """Give the nanoseconds of one mebibyte, of the copy in the middle of some."""
        taken = median(self.copy(mebibytes * MIB, times) for _ in range(TRIES))
        return taken / (mebibytes * times)

    def numpy_per_mib(self, mebibytes: int, times: int) -> float:
        """The same for NumPy, which copies what the device copies."""
        source = self.memory[: mebibytes * MIB]
        target = self.memory[SIZE // 2 :][: mebibytes * MIB]

        def once() -> int:
            before = thread_time_ns()
            for _ in range(times):
                np.copyto(target, source)
            return thread_time_ns() - before

        return median(once() for _ in range(TRIES)) / (mebibytes * times)


def copies() -> list[Path]:
    """Give the device's copies, and NumPy's of the same memory."""
    small, large = Tester(large=False), Tester(large=True)
    small.memory[:MIB] = np.random.default_rng(1).integers(0, 256, MIB, np.uint8)
    small.copy(MIB)
    assert np.array_equal(small.memory[:MIB], small.memory[SIZE // 2 :][:MIB])
    return [
        Path("dma-tester copies 1 MiB, 4K pages", figure=partial(small.per_mib, 1, TIMES)),
        Path("dma-tester copies 1 MiB, 2M pages", figure=partial(large.per_mib, 1, TIMES)),
        Path("memcpy of 1 MiB", figure=partial(small.numpy_per_mib, 1, TIMES)),
        Path("dma-tester copies 1 MiB of 32, cold, 4K pages", figure=partial(small.per_mib, COLD, 1)),
        Path("dma-tester copies 1 MiB of 32, cold, 2M pages", figure=partial(large.per_mib, COLD, 1)),
        Path("memcpy of 1 MiB of 32, cold", figure=partial(small.numpy_per_mib, COLD, 1)),
        Path("dma-tester copies 1 MiB, from doorbell to interrupt", figure=partial(small.per_mib, 1, 1)),
    ]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give every group of devices."""
    return {"copies of a device": copies}
