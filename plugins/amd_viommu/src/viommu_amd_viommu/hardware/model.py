"""`AmdIommu`: one IOMMU, as software programs it and as devices meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, field

from viommu.commands import Executor
from viommu.faults import Refusal
from viommu.hardware import Silence
from viommu.platform import Completion, RequestKind
from viommu.registers import RegisterFile
from viommu.translation import refused
from viommu_amd_viommu import translate
from viommu_amd_viommu.hardware import control, cures, reporting
from viommu_amd_viommu.hardware.command_buffer import CommandBuffer, Untranslated
from viommu_amd_viommu.hardware.command_legality import abilities
from viommu_amd_viommu.hardware.commands import Commands
from viommu_amd_viommu.hardware.decision import Decision
from viommu_amd_viommu.hardware.device_state import DeviceState
from viommu_amd_viommu.hardware.events import Events
from viommu_amd_viommu.hardware.guests.guests import Guests, show_apertures
from viommu_amd_viommu.hardware.interrupts import Interrupts
from viommu_amd_viommu.hardware.page_requests import PageRequests
from viommu_amd_viommu.hardware.refusals import NOT_PRESENT, device_table_error, illegal_entry, invalid_request
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.hardware.settings import SETTINGS_REGISTERS, Settings
from viommu_amd_viommu.spec.command_meanings import meanings
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import EventCode, InvalidAccess, InvalidTranslationRequest
from viommu_amd_viommu.spec.inferred import VF_MMIO
from viommu_amd_viommu.spec.registers import EFR, EFR2, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.faults import ConfigurationLog, Fault, Report
    from viommu.formats import Context
    from viommu.hookspecs import Registers
    from viommu.memory import PhysicalMemory
    from viommu.platform import PageRequest, Platform
    from viommu.registers import Store
    from viommu.stale import StaleUse
    from viommu_amd_viommu.hardware.refusals import EventRefusal
    from viommu_amd_viommu.hardware.reporting import Incident
    from viommu_amd_viommu.spec.events import AnyEvent

EXCLUSION_REGISTERS = ("EXCLBASE", "EXCLLIMIT")


@define(eq=False, repr=False)
class AmdIommu:
    """One IOMMU: a `viommu.hookspecs.LiveHardware`."""

    memory: PhysicalMemory
    file: RegisterFile
    settings: Settings
    platform: Platform
    interrupts: Interrupts
    events: Events
    devices: DeviceState = field(init=False)
    commands: CommandBuffer = field(init=False)
    page_requests: PageRequests = field(init=False)
    guests: Guests = field(init=False)

    @classmethod
    def of(cls, memory: PhysicalMemory, registers: Registers, platform: Platform) -> AmdIommu:
        """Make one as software left it. Raises BadRegister where the registers describe no such IOMMU."""
        settings = Settings.of(registers)
        file = RegisterFile.of(REGISTERS, registers)
        if "STATUS" not in registers.values:
            file["STATUS"] = control.running(file["CONTROL"])
        interrupts = Interrupts(file, platform)
        events = Events.of(file, memory, platform, interrupts)
        made = cls(memory, file, settings, platform, interrupts, events)
        made.devices = DeviceState(made._domain)
        made.guests = Guests(memory, platform, events, lambda: made.settings, made._entry_for_itself)
        show_apertures(file, settings.features)
        described = meanings(abilities(settings.features), made.devices.guest_devices)
        others = Commands(file, memory, platform, events, made.devices, made.guests)
        made.commands = CommandBuffer(
            file, memory, Untranslated(), Executor(platform, described), others, events, made._commands_done
        )
        made.page_requests = PageRequests.of(file, memory, platform, events)
        return made

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """What governs one (DeviceID, PASID)."""
        settings = self.settings
        if not settings.control.IommuEn:
            log.note("Control.IommuEn=0: forwarded untranslated")
            return translate.UNTRANSLATED
        entry = self._device_entry(requester, log)
        if isinstance(entry, Refusal):
            return entry
        self.guests.seen(requester, entry)
        if entry.GV:
            self.devices.joined(requester, entry.DomainID)
        return Decision(self.memory, settings, entry, pasid, log).outcome()

    def report(self, fault: Fault) -> Report:
        """The event that tells of a refused access."""
        return reporting.report(fault)

    def record(self, fault: Fault) -> Report:
        """Log it. DTE.SE lets one page fault through until the entry is read anew."""
        incident = reporting.incident_of(fault)
        if reporting.suppressed(incident) or self._said_already(fault, incident):
            return reporting.silent(incident)
        event = reporting.event_of(fault, incident)
        self._tell(fault.requester, event)
        return reporting.told(event)

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        if offset >= VF_MMIO:
            return self.guests.read(offset, size)
        return self.file.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; what that starts is done on return."""
        if offset >= VF_MMIO:
            self.guests.write(offset, size, value)
            return
        for store in self.file.write(offset, size, value):
            self._react(store)

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """Whether a device may use ATS: DTE.I says so. A device that nothing is known of (V=0) is not held to it."""
        requested = kind is RequestKind.TRANSLATION_REQUEST
        if not self.settings.control.IommuEn:
            log.note("Control.IommuEn=0: no translation requests are answered")
            return _no_ats(requested=requested) if requested else None
        entry = self._device_entry(requester, log)
        if isinstance(entry, Refusal):
            return _bad_device(entry) if requested else entry
        if not entry.V or entry.I:
            return None
        log.note("DTE.I=0: the device may not use ATS")
        decision = Decision(self.memory, self.settings, entry, pasid, log)
        return decision.before_tables() or _no_ats(requested=requested)

    def complete(self, fault: Fault) -> Completion:
        """A page fault is told to the device alone; anything else is logged as well."""
        incident = evolve(reporting.incident_of(fault), translation_request=True)
        if incident.code is EventCode.IO_PAGE_FAULT:
            return Completion.NO_ACCESS
        self._tell(fault.requester, reporting.event_of(fault, incident))
        if incident.code is EventCode.INVALID_DEVICE_REQUEST:
            return Completion.UNSUPPORTED_REQUEST
        return Completion.COMPLETER_ABORT

    def cure(self, use: StaleUse) -> str:
        """Name the command that would have prevented a stale use."""
        return cures.cure(use)

    def page_request(self, request: PageRequest) -> None:
        """Log it, refuse it, or answer it."""
        entry = self._device_entry(request.requester, Silence()) if self.settings.control.IommuEn else DTE()
        if isinstance(entry, DTE) and entry.V:
            entry = Decision(self.memory, self.settings, entry, request.pasid, Silence()).reserved_bits() or entry
        if isinstance(entry, Refusal):
            fault = refused(request.requester, request.pasid, request.iova, request.access, entry)
            self.page_requests.refuse(request, reporting.event_of(fault, reporting.incident_of(fault)))
            return
        guest = self.guests.of_entry(entry)
        if guest is not None and guest.takes_requests:
            guest.take_request(request, entry)
        else:
            self.page_requests.take(request, entry)

    def _commands_done(self, kinds: Mapping[str, int], head: int) -> None:
        self.platform.observe("amd.commands", {"kinds": kinds, "head": head})

    def _react(self, store: Store) -> None:
        """What hardware does about a store; registers that are not here are only read when they are needed."""
        if store.name == "CONTROL":
            self._control(store)
        elif store.name in SETTINGS_REGISTERS:
            self.settings = Settings.of(self.file)
            if store.name in EXCLUSION_REGISTERS:  # compared at each access, whatever is cached
                self.platform.caches.invalidate_contexts()
        elif store.name == "CMDTAIL":
            self.commands.run()
        self.interrupts.update()

    def _control(self, store: Store) -> None:
        after = control.sticking(store.after, self.file.decoded("EFR", EFR), self.file.decoded("EFR2", EFR2))
        self.file["CONTROL"] = after
        self.settings = Settings.of(self.file)
        starts, stops = control.started(store.before, after), control.stopped(store.before, after)
        self.file.change("STATUS", sets=starts, clears=stops)
        if (store.before ^ after) & control.IMMEDIATE:
            self.platform.caches.invalidate_contexts()
        if (starts | stops) & Status.CmdBufRun.mask:
            self.commands.restarted()
        self.platform.observe("amd.control", {"before": store.before, "after": after})
        self.interrupts.update()
        self.commands.run()
        self.guests.run()

    def _tell(self, device: int, event: AnyEvent) -> None:
        """Log an event of a device: for the guest that has it, where hardware runs the guest's IOMMU."""
        owner = self.guests.owner(device)
        if owner is not None and owner[0].wants(event):
            owner[0].tell(event, owner[1])
        else:
            self.events.tell(event)

    def _said_already(self, fault: Fault, incident: Incident) -> bool:
        if incident.code is not EventCode.IO_PAGE_FAULT:
            return False
        return not self.devices.first_fault(fault.requester) and bool(incident.attribution.SE)

    def _domain(self, requester: int) -> int | None:
        entry = self._device_entry(requester, Silence())
        return entry.DomainID if isinstance(entry, DTE) and entry.V and entry.TV else None

    def _entry_for_itself(self, device: int) -> bytes | None:
        address = self.settings.device_entry_address(device)
        return None if address is None else self.memory.read(address, DTE.size)

    def _device_entry(self, requester: int, log: ConfigurationLog) -> DTE | EventRefusal:
        address = self.settings.device_entry_address(requester)
        if address is None:
            return illegal_entry(NOT_PRESENT, f"DeviceID {requester:#x} lies beyond the device table")
        raw = self.memory.read(address, DTE.size)
        log.fetched(DTE, address, raw)
        return device_table_error(address) if raw is None else DTE.decode(raw)


def _no_ats(*, requested: bool) -> EventRefusal:
    if requested:
        return invalid_request(InvalidTranslationRequest.ATS_DISABLED, "translation request: DTE.I=0")
    return invalid_request(InvalidAccess.PRE_TRANSLATED, "pre-translated request: DTE.I=0")


def _bad_device(refusal: EventRefusal) -> EventRefusal:
    """A translation request from beyond the device table has a Type of its own."""
    if refusal.code != EventCode.ILLEGAL_DEV_TABLE_ENTRY:
        return refusal
    return invalid_request(InvalidTranslationRequest.BAD_DEVICE_ID, refusal.detail)
