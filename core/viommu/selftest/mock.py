"""Mock hardware: devices with a cache, nested domains with an IOTLB, vIOMMUs with a page of registers."""

from __future__ import annotations

import mmap
import os
from enum import IntFlag
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.faults import Refusal, Report

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault
    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.mmap import Region
    from viommu.objects.viommu import Viommu
    from viommu.selftest.page_table import MockPageTable

CACHE_ENTRIES = 4
CACHE_VALUE = 0xBADDAD
REGISTER_BYTES = 2 * 4096
HW_QUEUES = 2

HW_INFO_TYPE = 0xFEEDBEEF
HW_INFO_REGISTER = 0xDEADBEEF
HWPT_DATA_TYPE = 0xDEAD
VIOMMU_TYPE = HW_QUEUE_TYPE = INVALIDATE_TYPE = 0xDEADBEEF
VEVENT_TYPE = 0xBEEFBEEF
MAX_PASIDS = 1 << 20
FAILING_PASID = 1024
"""A trap for the core's error path: replacing what this PASID is attached to fails once."""


class MockFlags(IntFlag):
    """What a mock device lacks or has."""

    NO_DIRTY = 1
    PASID = 4


@define(eq=False)
class MockDevice:
    """One device. ``viommu`` and ``virt_id`` are those of the moment in which it was attached."""

    flags: MockFlags
    cache: list[int] = field(factory=lambda: [CACHE_VALUE] * CACHE_ENTRIES)
    viommu: Viommu | None = None
    virt_id: int = 0
    fails_next: bool = False

    def remember(self, viommu: Viommu | None, virt_id: int) -> None:
        """Take note of the vIOMMU that an attached nested domain belongs to."""
        if viommu is not self.viommu:
            self.viommu, self.virt_id = viommu, virt_id


@define(eq=False)
class MockNested:
    """A nested domain."""

    iotlb: list[int]
    viommu: Viommu | None = None


@define(eq=False)
class MockViommu:
    """A vIOMMU: registers that user space maps, and queues."""

    parent: MockPageTable
    fd: int = field(factory=lambda: os.memfd_create("mock registers", os.MFD_CLOEXEC))
    """Their memory, for programs that map them from elsewhere."""
    memory: mmap.mmap = field(init=False)
    region: Region | None = None
    queues: dict[int, HwQueue] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        os.ftruncate(self.fd, REGISTER_BYTES)
        self.memory = mmap.mmap(self.fd, REGISTER_BYTES)

    def __del__(self) -> None:
        os.close(self.fd)

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes of the registers."""
        return bytes(self.memory[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes in the registers."""
        self.memory[offset : offset + len(data)] = data


@define(eq=False)
class MockQueue:
    """A hardware queue's place in line."""

    index: int
    previous: HwQueue | None


@frozen
class MockHardware:
    """Silicon in name only: mock devices make no DMA, so that every access is refused."""

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Refusal:  # noqa: ARG002
        """Refuse."""
        return Refusal("MOCK", silent=True)

    def report(self, fault: Fault) -> Report:  # noqa: ARG002
        """Record nothing."""
        return Report("abort", "MOCK")
