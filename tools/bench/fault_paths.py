"""What a page request costs: from the device's fault through a FAULT's fd and the answer to the retried DMA."""

from __future__ import annotations

from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from tools.bench.paths import Path
from viommu import Iotlb, Machine
from viommu.iommufd.uapi import HwptVtdS1, HwptVtdS1Invalidate

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 0x1000
BASE, IOVA = 0x10_0000, 0x40_0000
"""Where the guest has memory, and the address that its device uses."""
ROOT, DATA = BASE, BASE + 4 * PAGE
LEAF = 3 * PAGE + (IOVA >> 12 & 0x1FF) * 8
"""Where in the guest's memory the leaf lies: its tables are the first four pages."""
TABLE_BITS, LEAF_BITS = 0x27, 0x67
"""Present, writable, for all, accessed; a leaf dirty too."""
TRIPS = 200


class RoundTrip:
    """A guest on VT-d, first stage over second, whose device asks for a page that the guest has not mapped."""

    def __init__(self) -> None:
        self.machine = Machine("vtd", memory="64M", iotlb=Iotlb())
        self.iommu = self.machine.open_iommufd()
        self.endpoint = self.machine.add_device(0x0108, ats=True, page_requests=True)
        device = self.iommu.bind(self.endpoint)
        memory = self.machine.buffer(8 * PAGE)
        self.words = memory.view(np.uint64)
        ioas = self.iommu.ioas_alloc()
        ioas.map(memory, BASE)
        self._write_tables()
        self.faults = self.iommu.fault_alloc()
        parent = ioas.hwpt_alloc(device, nest_parent=True)
        self.hwpt = parent.hwpt_alloc(device, HwptVtdS1.of(pgtbl_addr=ROOT, addr_width=48), fault=self.faults)
        device.attach(self.hwpt)

    def _write_tables(self) -> None:
        for level in (3, 2, 1):
            table = (3 - level) * PAGE
            self.words[(table >> 3) + (IOVA >> 12 + 9 * level & 0x1FF)] = BASE + table + PAGE | TABLE_BITS

    def median(self) -> float:
        """Give the nanoseconds of the trip in the middle (wall clock, as the device waits)."""
        return median(self.trip() for _ in range(TRIPS))

    def trip(self) -> int:
        """Let the device fault, answer it, and let it try again; the nanoseconds of that."""
        self.words[LEAF >> 3] = 0
        self.hwpt.invalidate([HwptVtdS1Invalidate.of(addr=IOVA, npages=1)])
        before = perf_counter_ns()
        self.endpoint.translate_by_ats(IOVA)
        self.endpoint.request_page(IOVA)
        (request,) = self.faults.read()
        self.words[LEAF >> 3] = DATA | LEAF_BITS
        self.faults.respond(request)
        after = self.endpoint.translate_by_ats(IOVA)
        taken = perf_counter_ns() - before
        assert hasattr(after, "pa"), after
        return taken


def round_trips() -> list[Path]:
    """Give the path of page requests."""
    return [Path("page request, VT-d", figure=RoundTrip().median)]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give every group of faults."""
    return {"page requests": round_trips}
