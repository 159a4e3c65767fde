"""The toy with a host side: domains of any aperture and page size, a device table, one register that empties caches."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from attrs import define, field

import viommu
from tests.core.toy import ACCESSED, ADDRESS, DIRTY, LEAF, PRESENT, WRITE, Device, Hardware, ToyDriver
from viommu.faults import Refusal
from viommu.io_page_table import IoPageTable, TableShape
from viommu.ops import DeviceFacts
from viommu.platform import Completion

if TYPE_CHECKING:
    from viommu.faults import Fault, Report
    from viommu.hookspecs import HardwareModel
    from viommu.memory import PhysicalMemory
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.ops import DomainFlags, Prot, UserData
    from viommu.platform import Interrupt, PageRequest, Platform
    from viommu.stale import StaleUse

SHAPE = TableShape(
    levels=3,
    table_flags=(PRESENT | WRITE,) * 3,
    leaf_flags=(PRESENT | ACCESSED, PRESENT | LEAF | ACCESSED, PRESENT | LEAF | ACCESSED),
    rights=(0, 0, WRITE | DIRTY, WRITE | DIRTY),
    address_mask=ADDRESS,
)
TABLE, EMPTY, DEVICES = 8, 16, 64
"""Registers: where the device table lies, and what empties caches; entries of the table."""


class LiveToy(Hardware):
    """The toy's silicon, programmed by two registers."""

    def __init__(self, memory: PhysicalMemory, platform: Platform) -> None:
        super().__init__(memory, {"TABLE": 0, "SIZE": 0})  # type: ignore[arg-type]
        self._platform = platform

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002 - registers that are written alone
        return 0

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        if offset == TABLE:
            self._registers = {"TABLE": value & ADDRESS, "SIZE": DEVICES}  # type: ignore[assignment]
        if offset in {TABLE, EMPTY}:
            self._platform.caches.invalidate_contexts()
            self._platform.caches.invalidate_all()

    def record(self, fault: Fault) -> Report:
        return self.report(fault)

    def admit(self, *_: object) -> Refusal:
        return Refusal("NO_ATS", 4)

    def complete(self, fault: Fault) -> Completion:  # noqa: ARG002
        return Completion.UNSUPPORTED_REQUEST

    def page_request(self, request: PageRequest) -> None: ...

    def cure(self, use: StaleUse) -> str:  # noqa: ARG002
        return "a write to EMPTY"


@define(eq=False)
class Domain:
    """One page table."""

    iommu: PhysicalIommu
    number: int
    page_sizes: int
    aperture: tuple[int, int]
    table: IoPageTable = field(init=False)
    dirty_tracking: bool = False

    def __attrs_post_init__(self) -> None:
        self.table = IoPageTable(self.iommu.port.frames, SHAPE)

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        self.table.map(iova, pa, length, prot, largest)

    def unmap(self, iova: int, length: int) -> None:
        gone = self.table.unmap(iova, length)
        self.iommu.port.write(EMPTY, 8, 0)
        gone.free()

    def physical(self, iova: int) -> int | None:
        return self.table.physical(iova)

    def enforce_coherency(self) -> bool:
        return True


class SmallHost(ToyDriver):
    """A host driver whose domains have what a test says."""

    def __init__(self, *, aperture: tuple[int, int] = (0, (1 << 39) - 1), page_sizes: int = SHAPE.page_sizes) -> None:
        self._aperture, self._page_sizes, self._numbers = aperture, page_sizes, count(1)

    @viommu.hookimpl
    def viommu_hardware(  # type: ignore[override]
        self, memory: PhysicalMemory, platform: Platform
    ) -> HardwareModel:
        return LiveToy(memory, platform)

    @viommu.hookimpl
    def viommu_probe(self, iommu: PhysicalIommu) -> None:
        iommu.data = iommu.port.frames.allocate()
        iommu.port.write(TABLE, 8, iommu.data)

    @viommu.hookimpl
    def viommu_interrupt(self, iommu: PhysicalIommu, interrupt: Interrupt) -> None: ...

    @viommu.hookimpl
    def viommu_device_facts(self) -> DeviceFacts:
        return DeviceFacts(enforces_coherency=True)

    @viommu.hookimpl
    def viommu_alloc_paging(self, device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> Domain:
        if flags or data is not None:
            raise viommu.kernel_errors.Unsupported(device.name, "flags", int(flags), "none")
        return Domain(device.iommu, next(self._numbers) & 0xFFFF, self._page_sizes, self._aperture)

    @viommu.hookimpl
    def viommu_free_domain(self, domain: Domain) -> None:
        domain.table.free()

    @viommu.hookimpl
    def viommu_attach(self, device: PhysicalDevice, domain: Domain) -> None:
        self._govern(device, Device(Valid=1, Table=domain.table.root, Domain=domain.number).encode())

    @viommu.hookimpl
    def viommu_detach(self, device: PhysicalDevice) -> None:
        self._govern(device, bytes(16))

    def _govern(self, device: PhysicalDevice, entry: bytes) -> None:
        port = device.iommu.port
        port.memory.write(device.iommu.data + 16 * device.requester, entry)
        port.write(EMPTY, 8, 0)
