"""The silicon: registers, structures in memory, and a record of each fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import Access, FaultKind, Refusal, Report, Stage
from viommu.formats import Context
from viommu.platform import Completion, RequestKind
from viommu.registers import RegisterFile

from viommu_acme.rings import CommandQueue, EventQueue
from viommu_acme.spec import CTRL, DTBASE, DTE, REGISTERS, Event, EventCode, Mode
from viommu_acme.translate import page_tables

if TYPE_CHECKING:
    from viommu import Fault, PhysicalMemory, Registers
    from viommu.faults import ConfigurationLog
    from viommu.platform import PageRequest, Platform
    from viommu.stale import StaleUse

CODES = {
    FaultKind.TRANSLATION: EventCode.NOT_PRESENT,
    FaultKind.PERMISSION: EventCode.NOT_WRITABLE,
    FaultKind.INPUT_SIZE: EventCode.TOO_LARGE,
    FaultKind.EXTERNAL_ABORT: EventCode.UNREADABLE,
}
"""What the engine calls a fault, and what this hardware does; whatever is not here is BAD_TABLE."""

SWITCHES = {"CTRL", "DTBASE"}
"""Registers that change what is in force for every device."""
DOORBELLS = {"CMDTAIL", "STATUS"}
"""Registers whose stores let the command queue go on."""


class Hardware:
    """One IOMMU instance that software can program (a `viommu.hookspecs.LiveHardware`)."""

    def __init__(self, memory: PhysicalMemory, registers: Registers, platform: Platform) -> None:
        self._memory, self._platform = memory, platform
        self._registers = RegisterFile.of(REGISTERS, registers)
        self._commands = CommandQueue(self._registers, platform)
        self._events = EventQueue(self._registers, platform)

    # --- registers

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        return self._registers.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; what that sets off is done when it returns."""
        for store in self._registers.write(offset, size, value):
            if store.name in SWITCHES and store.changed:
                self._platform.caches.invalidate_all()
                self._platform.caches.invalidate_contexts()
            if store.name in DOORBELLS:
                self._commands.drain()

    # --- translation

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs a device: read its entry, and say what it means."""
        if not self._registers.decoded("CTRL", CTRL).E:
            log.note("translation is switched off (CTRL.E)")
            return Context()
        base = self._registers.decoded("DTBASE", DTBASE)
        if requester >> base.SizeLg2:
            log.note("the device table ends before this device")
            return refused(EventCode.BAD_DEVICE)
        address = base.Address + DTE.size * requester
        raw = self._memory.read(address, DTE.size)
        log.fetched(DTE, address, raw)
        if raw is None:
            return refused(EventCode.UNREADABLE, address)
        return meaning(DTE.decode(raw))

    def report(self, fault: Fault) -> Report:
        """Say what this hardware records of a refused access."""
        event = event_of(fault)
        return Report("fault", EventCode(event.Code).name, event.encode())

    def record(self, fault: Fault) -> Report:
        """Write it down."""
        self._events.put(event_of(fault))
        return self.report(fault)

    # --- what this hardware does not have

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """There is no ATS."""
        return Refusal("no ATS", silent=True)

    def complete(self, fault: Fault) -> Completion:
        """There is no ATS."""
        return Completion.UNSUPPORTED_REQUEST

    def page_request(self, request: PageRequest) -> None:
        """There is no PRI: the request is lost."""

    def cure(self, use: StaleUse) -> str:
        """Name the command that would have prevented a stale use."""
        if use.cache == "context cache":
            return f"FORGET_DEVICE: DeviceID={use.requester:#x}"
        where = f"DomainID={use.stage2_tag:#x}, Address={use.iova & ~0xFFF:#x}, SizeLg2=0"
        if use.stage1_tag is None or (use.cause is not None and use.cause.stage is Stage.STAGE2):
            return f"FORGET_PAGES: {where}"
        return f"FORGET_SPACE_PAGES: GuestSpace={use.stage1_tag}, {where}"


def meaning(entry: DTE) -> Context | Refusal:
    """Say what a device table entry asks for."""
    if not entry.V or entry.reserved_set:
        return refused(EventCode.BAD_ENTRY)
    if entry.Mode == Mode.BYPASS:
        return Context()
    if entry.Mode == Mode.TRANSLATE:
        return Context(stage2=page_tables(entry.TablePtr), stage2_tag=entry.DomainID)
    if entry.Mode == Mode.NESTED:
        return Context(
            stage1=page_tables(entry.GuestTablePtr),
            stage1_tag=entry.GuestSpace,
            stage2=page_tables(entry.TablePtr),
            stage2_tag=entry.DomainID,
        )
    return refused(EventCode.BAD_ENTRY)


def refused(code: EventCode, address: int | None = None) -> Refusal:
    """Refuse whatever the device asks for."""
    return Refusal(code.name, code, address=address)


def event_of(fault: Fault) -> Event:
    """Give the record of a refused access."""
    code = EventCode(fault.refusal.code) if fault.refusal else CODES.get(fault.kind, EventCode.BAD_TABLE)
    write = Access.WRITE in fault.access
    return Event(Code=code, Write=write, DeviceID=fault.requester, Address=fault.iova)
