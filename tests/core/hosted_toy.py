"""The toy with a host driver: hardware that keeps a table of roots by device, and records faults in one word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import viommu
from tests.core.toy import ToyDriver, page_tables
from viommu.faults import Refusal, Report
from viommu.formats import Context
from viommu.kernel_errors import NoDevice
from viommu.ops import DeviceFacts
from viommu.platform import Completion, Interrupt

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.memory import PhysicalMemory
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.platform import PageRequest, Platform, RequestKind
    from viommu.stale import StaleUse

TABLE, RECORD, RING = 0x10, 0x18, 0x20
"""Registers: where the table of roots lies, where faults are recorded, and one that raises interrupts when written."""


class RecordingHardware:
    """Live silicon: a device's root is the table's word of its number; a fault's IOVA is stored, with an interrupt."""

    def __init__(self, memory: PhysicalMemory, platform: Platform) -> None:
        self.memory, self.platform = memory, platform
        self.registers: dict[int, int] = {}

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:  # noqa: ARG002
        root = self.memory.load(self.registers.get(TABLE, 0) + 8 * requester)
        return Context(stage1=page_tables(root)) if root else Refusal("BLOCKED")

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        return self.registers.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        self.registers[offset] = value
        if offset == RING:
            for number in range(value):
                self.platform.interrupt(Interrupt(f"rung {number}"))

    def report(self, fault: Fault) -> Report:  # noqa: ARG002
        return Report("fault", "BLOCKED")

    def record(self, fault: Fault) -> Report:
        self.memory.store(self.registers.get(RECORD, 0), fault.iova)
        self.platform.interrupt(Interrupt("fault"))
        return self.report(fault)

    def admit(self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog) -> None:
        """Let ATS requests pass."""

    def complete(self, fault: Fault) -> Completion:  # noqa: ARG002
        return Completion.UNSUPPORTED_REQUEST

    def page_request(self, request: PageRequest) -> None:
        """Lose it."""

    def cure(self, use: StaleUse) -> str:  # noqa: ARG002
        return "FLUSH"


class HostedToy(ToyDriver):
    """Notes what it is asked. ``rings``: what its interrupt handler writes to RING, once for each interrupt."""

    def __init__(self, *, rings: int = 0) -> None:
        self.told: list[object] = []
        self.depth = self.deepest = 0
        self.rings = rings

    @viommu.hookimpl
    def viommu_hardware(  # type: ignore[override]
        self,
        memory: PhysicalMemory,
        registers: Registers,  # noqa: ARG002
        platform: Platform,
    ) -> HardwareModel:
        return RecordingHardware(memory, platform)

    @viommu.hookimpl
    def viommu_device_facts(self, device: PhysicalDevice) -> DeviceFacts:
        return DeviceFacts(max_pasids=1 << device.features.pasid_bits)

    @viommu.hookimpl
    def viommu_probe(self, iommu: PhysicalIommu) -> None:
        self.told.append("probe")
        iommu.data = iommu.port.memory.add_ram(0x1000)
        iommu.port.write(TABLE, 8, iommu.data.pa())
        iommu.port.write(RECORD, 8, iommu.data.pa(0xFF8))
        iommu.port.write(RING, 4, 1)
        self.told.append("probed")

    @viommu.hookimpl
    def viommu_probe_device(self, device: PhysicalDevice) -> None:
        if device.requester == 0x66:
            raise NoDevice(device.name, "requester", device.requester, "any other")
        self.told.append(("device", device.requester))

    @viommu.hookimpl
    def viommu_release_device(self, device: PhysicalDevice) -> None:
        self.told.append(("released", device.requester))

    @viommu.hookimpl
    def viommu_reset(self, device: PhysicalDevice) -> None:
        self.told.append(("reset", device.requester))

    @viommu.hookimpl
    def viommu_interrupt(self, iommu: PhysicalIommu, interrupt: Interrupt) -> None:
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        recorded = iommu.port.memory.load(iommu.port.read(RECORD, 8))
        self.told.append((interrupt.source, recorded) if interrupt.source == "fault" else interrupt.source)
        if self.rings:
            ring, self.rings = self.rings, 0
            iommu.port.write(RING, 4, ring)
        self.depth -= 1
