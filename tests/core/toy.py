"""A driver made up for tests: a device table of 16-byte entries, and page tables described at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import viommu
from viommu.faults import FaultKind, Refusal, Report
from viommu.formats import Context, Described
from viommu.hookspecs import DriverInfo
from viommu.layout import Bit, Bits, Descriptor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.faults import ConfigurationLog, Fault
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.memory import PhysicalMemory

PRESENT, WRITE, ACCESSED, DIRTY, LEAF = 1, 2, 0x20, 0x40, 0x80
ADDRESS = 0x000F_FFFF_FFFF_F000


class Device(Descriptor, width=128):
    Valid = Bit(0)
    Bypass = Bit(1)
    Table = Bits(51, 12, shift=12)
    Domain = Bits(79, 64)


class Hardware:
    """TABLE: where the device table lies; SIZE: how many entries it has."""

    def __init__(self, memory: PhysicalMemory, registers: Registers) -> None:
        self._memory = memory
        self._registers = registers

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        if requester >= self._registers["SIZE"]:
            log.note("the device table ends before this requester")
            return Refusal("TOO_HIGH", 1)
        address = self._registers["TABLE"] + 16 * requester
        raw = self._memory.read(address, 16)
        log.fetched(Device, address, raw, "with a PASID" if pasid is not None else "")
        if raw is None:
            return Refusal("UNREADABLE", 2, address=address)
        device = Device.decode(raw)
        if not device.Valid:
            return Refusal("INVALID", 3, silent=True)
        if device.Bypass:
            return Context()
        return Context(stage1=page_tables(device.Table), stage1_tag=device.Domain)

    def report(self, fault: Fault) -> Report:
        if fault.refusal is not None and fault.refusal.silent:
            return Report("abort", fault.refusal.reason)
        code = int(fault.kind) if fault.refusal is None else 0x10 + fault.refusal.code
        reason = hex(code) if fault.kind is FaultKind.CONFIGURATION else fault.kind.name
        record = fault.iova.to_bytes(8, "little") + fault.requester.to_bytes(4, "little") + code.to_bytes(4, "little")
        return Report("fault", reason, record)


def page_tables(table: int) -> Described:
    return Described(
        table=table,
        granule_lg2=12,
        index_lg2=[9, 9, 9],
        address_mask=ADDRESS,
        present_mask=PRESENT,
        present_value=PRESENT,
        leaf_mask=LEAF,
        leaf_value=LEAF,
        leaf_levels=0b110,
        write_mask=WRITE,
        accessed_mask=ACCESSED,
        dirty_mask=DIRTY,
    )


class ToyDriver:
    """The hooks; a test makes a broken one by overriding."""

    __name__ = "toy"
    hookspec_version = viommu.HOOKSPEC_VERSION

    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return DriverInfo("toy", "A toy", requester_bits=8, pasid_bits=4, supports=("nothing much",))

    @viommu.hookimpl
    def viommu_layouts(self) -> Mapping[str, type[Descriptor]]:
        return {"Device": Device}

    @viommu.hookimpl
    def viommu_hardware(self, memory: PhysicalMemory, registers: Registers) -> HardwareModel:
        return Hardware(memory, registers)


class NamedToy(ToyDriver):
    """The toy under another name, without PASIDs."""

    def __init__(self, name: str) -> None:
        self._name = name

    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return DriverInfo(self._name, "A toy", requester_bits=8, pasid_bits=0)


RAM_SIZE = 1 << 20
DEVICE_TABLE, ROOT = 0, 0x1000


class Guest:
    """Software that programs the toy: device 3 has page tables, device 4 passes through, all else is invalid."""

    def __init__(self) -> None:
        self.memory = viommu.PhysicalMemory()
        self.ram = self.memory.add_ram(RAM_SIZE)
        self._free = ROOT + 0x1000
        self.registers = {"TABLE": self.ram.pa(DEVICE_TABLE), "SIZE": 16}
        self.set_device(3, Device(Valid=1, Table=self.ram.pa(ROOT), Domain=7))
        self.set_device(4, Device(Valid=1, Bypass=1))

    def set_device(self, requester: int, device: Device) -> None:
        self.memory.write(self.ram.pa(DEVICE_TABLE) + 16 * requester, device.encode())

    def map(self, iova: int, pa: int, *, level: int = 0, writable: bool = True) -> int:
        """Map one page, and give the address of its entry."""
        table = int(self.ram.pa(ROOT))
        for above in range(2, level, -1):
            entry = table + self._index(iova, above)
            table = (self.memory.load(entry) or 0) & ADDRESS or self._new_table(entry)
        entry = table + self._index(iova, level)
        self.memory.store(entry, pa | PRESENT | (WRITE if writable else 0) | (LEAF if level else 0))
        return entry

    def _index(self, iova: int, level: int) -> int:
        return (iova >> (12 + 9 * level) & 0x1FF) * 8

    def _new_table(self, entry: int) -> int:
        table = int(self.ram.pa(self._free))
        self._free += 0x1000
        self.memory.store(entry, table | PRESENT | WRITE)
        return table

    def pages(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the RAM as a capture holds it."""
        raw = self.memory.read(self.ram.pa(), RAM_SIZE)
        assert raw is not None
        page = np.frombuffer(raw, np.uint8).reshape(-1, 4096)
        return np.arange(len(page), dtype=np.uint64) * 4096 + self.ram.pa(), page
