"""The way to a context: device and process directories (RISC-V IOMMU 1.0, "Process to translate an IOVA")."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import frozen
from viommu.faults import Access, FaultKind, Refusal
from viommu.formats import walk

from viommu_riscv.hardware.checks import device_wrong, process_wrong
from viommu_riscv.hardware.words import swapped_words
from viommu_riscv.spec.directories import DeviceContext, DirectoryEntry, ExtendedDeviceContext, ProcessContext
from viommu_riscv.spec.records import Cause

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog
    from viommu.formats import Context
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory

    from viommu_riscv.hardware.settings import Settings

LayoutT = TypeVar("LayoutT", bound="Descriptor")

ABORTS = frozenset({FaultKind.EXTERNAL_ABORT, FaultKind.ADDRESS_SIZE, FaultKind.UPDATE_FAILED})
"""Ends of a walk that are no page fault: memory did not answer."""


def refuse(cause: Cause, detail: str = "", *, address: int | None = None) -> Refusal:
    """Refuse a transaction with a cause."""
    return Refusal(hex(cause), int(cause), address=address, detail=detail)


@frozen
class Search:
    """One way through the directories."""

    settings: Settings
    memory: PhysicalMemory
    log: ConfigurationLog

    def device_context(self, device: int) -> DeviceContext | Refusal:
        """Find a device's context, and check it."""
        settings = self.settings
        if device > settings.device_last:
            return refuse(Cause.TYPE_DISALLOWED, f"device_id {device:#x} is wider than the directory")
        table = settings.ddtp.PPN
        for level in range(settings.levels - 1, 0, -1):
            index = device >> settings.leaf_bits + 9 * (level - 1) & 0x1FF
            entry = self._read(DirectoryEntry, table + 8 * index, settings.big_endian, Cause.DDT_ACCESS)
            if isinstance(entry, Refusal):
                return entry
            wrong = _entry_wrong(entry, Cause.DDT_NOT_VALID, Cause.DDT_MISCONFIGURED)
            if wrong is not None:
                return wrong
            table = entry.PPN
        layout = ExtendedDeviceContext if settings.able.MSI_FLAT else DeviceContext
        at = table + layout.size * (device & (1 << settings.leaf_bits) - 1)
        context = self._read(layout, at, settings.big_endian, Cause.DDT_ACCESS)
        if isinstance(context, Refusal):
            return context
        if not context.V:
            return refuse(Cause.DDT_NOT_VALID, "tc.V is 0")
        why = device_wrong(context, settings)
        return context if why is None else refuse(Cause.DDT_MISCONFIGURED, why)

    def process_context(self, device: DeviceContext, process: int, second: Context | None) -> ProcessContext | Refusal:
        """Find a process's context in a device's directory, behind its second stage, and check it."""
        table = device.fsc_PPN
        for level in range(device.fsc_MODE - 1, 0, -1):
            at = self._behind(second, table + 8 * (process >> 9 * level - 1 & 0x1FF))
            if isinstance(at, Refusal):
                return at
            entry = self._read(DirectoryEntry, at, bool(device.SBE), Cause.PDT_ACCESS)
            if isinstance(entry, Refusal):
                return entry
            wrong = _entry_wrong(entry, Cause.PDT_NOT_VALID, Cause.PDT_MISCONFIGURED)
            if wrong is not None:
                return wrong
            table = entry.PPN
        at = self._behind(second, table + ProcessContext.size * (process & 0xFF))
        if isinstance(at, Refusal):
            return at
        context = self._read(ProcessContext, at, bool(device.SBE), Cause.PDT_ACCESS)
        if isinstance(context, Refusal):
            return context
        if not context.V:
            return refuse(Cause.PDT_NOT_VALID, "ta.V is 0")
        why = process_wrong(context, self.settings)
        return context if why is None else refuse(Cause.PDT_MISCONFIGURED, why)

    def _behind(self, second: Context | None, address: int) -> int | Refusal:
        """Translate the address of a process directory, which is a guest's where there is a second stage."""
        if second is None:
            return address
        found = walk(self.memory.engine, second, address, int(Access.READ), stores=False)
        if not found.kind:
            return found.pa
        if FaultKind(found.kind) in ABORTS:
            return refuse(Cause.PDT_ACCESS, f"the second stage has no memory for {address:#x}")
        return Refusal("guest page fault", walk=found, detail=f"no process directory at guest address {address:#x}")

    def _read(self, layout: type[LayoutT], address: int, big_endian: bool, cause: Cause) -> LayoutT | Refusal:
        raw = None if address >> self.settings.address_bits else self.memory.read(address, layout.size)
        if raw is not None and big_endian:
            raw = swapped_words(raw)
        self.log.fetched(layout, address, raw, "big-endian" if big_endian else "")
        if raw is None:
            return refuse(cause, f"{layout.__name__} at {address:#x}", address=address)
        return layout.decode(raw)


def _entry_wrong(entry: DirectoryEntry, not_valid: Cause, misconfigured: Cause) -> Refusal | None:
    if not entry.V:
        return refuse(not_valid, "V of a directory entry is 0")
    if entry.reserved_set:
        return refuse(misconfigured, f"reserved bits {entry.reserved_set:#x} of a directory entry are set")
    return None
