"""What each of a guest's commands does (AMD 48882, 2.4), ids translated: one command at a time.

The common invalidations are executed by the engine (`meanings`); only what it leaves comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, frozen

from viommu.addresses import Pasid, RequesterId
from viommu.platform import DeviceInvalidation, PageResponse
from viommu_amd_viommu.hardware.command_legality import is_illegal, span
from viommu_amd_viommu.hardware.guests.inferred import (
    HALTS_ON_UNMAPPED_DEVICE,
    SOURCE_DEVICE_MAP,
    SOURCE_DOMAIN_MAP,
)
from viommu_amd_viommu.hardware.page_requests import response_code
from viommu_amd_viommu.spec.commands import (
    AnyCommand,
    CompletePprRequest,
    CompletionWait,
    InvalidateDevtabEntry,
    InvalidateInterruptTable,
    InvalidateIommuAll,
    InvalidateIommuPages,
    InvalidateIotlbPages,
    Opcode,
    PrefetchIommuPages,
    decode_command,
)
from viommu_amd_viommu.spec.events import (
    CommandHardwareError,
    EventCode,
    HardwareErrorType,
    IllegalCommandError,
    IotlbInvTimeout,
    ViommuHardwareError,
)
from viommu_amd_viommu.spec.registers import EFR, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.platform import Caches, Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.hardware.guests.addresses import TranslatedMemory
    from viommu_amd_viommu.hardware.guests.maps import IdMaps
    from viommu_amd_viommu.spec.events import EventEntry

STORE_BYTES = 8


@frozen
class Stop:
    """The command was not done, and the buffer halts. ``event``: what the guest is told, None: nothing."""

    event: EventEntry | None


@define(eq=False, repr=False)
class GuestCommands:
    """Executes commands of one guest. ``caches`` and ``platform`` are the host's; ``host_events`` too."""

    file: RegisterFile
    memory: TranslatedMemory
    platform: Platform
    events: Events
    host_events: Events
    maps: IdMaps

    def execute(self, raw: bytes, address: int) -> Stop | None:
        """Do one command; ``address`` is where the guest wrote it."""
        command = decode_command(raw)
        if is_illegal(command, self.file.decoded("EFR", EFR)) or type(command) not in EFFECTS:
            return Stop(IllegalCommandError(EventCode=EventCode.ILLEGAL_COMMAND_ERROR, Address=address))
        return EFFECTS[type(command)](self, command, address)

    @property
    def _caches(self) -> Caches:
        return self.platform.caches

    def completion_wait(self, command: CompletionWait, _: int) -> Stop | None:
        """Store in the guest's memory, and interrupt the guest."""
        if command.s and not self.memory.write(command.Address, command.Data.to_bytes(STORE_BYTES, "little")):
            error = HardwareErrorType.MASTER_ABORT
            return Stop(CommandHardwareError(EventCode=EventCode.COMMAND_HW_ERROR, Type=error, Address=command.Address))
        if command.i:
            self.events.interrupts.raise_(Status.ComWaitInt.mask)
        return None

    def invalidate_pages(self, command: InvalidateIommuPages, address: int) -> Stop | None:
        """A DomainID that is not mapped is told to the host, and passed over: nothing bears it."""
        domain = self.maps.domains.get(command.DomainID)
        if domain is None:
            self._tell_host(SOURCE_DOMAIN_MAP, address)
            return None
        if not command.GN:
            self._caches.invalidate_stage2_tag(domain, stage1_only=True)
        else:
            start, last = span(command)
            self._caches.invalidate_range(domain, command.PASID, start, last, leaf_only=not command.PDE)
        if command.PDE:
            self._forget_entries()
        return None

    def invalidate_entry(self, command: InvalidateDevtabEntry, address: int) -> Stop | None:
        """The device's entry is read anew. It is the host's: what the guest's says, software has to carry over."""
        device = self.maps.devices.get(command.DeviceID)
        if device is None:
            return self._unmapped(address)
        self._caches.invalidate_contexts(device)
        return None

    def invalidate_device_tlb(self, command: InvalidateIotlbPages, address: int) -> Stop | None:
        """A device that does not answer is told to the guest, as after any time-out."""
        device = self.maps.devices.get(command.DeviceID)
        if device is None:
            return self._unmapped(address)
        pasid = Pasid(command.PASID) if command.GN else None
        start, last = span(command)
        if not self.platform.invalidate_device(DeviceInvalidation(RequesterId(device), pasid, start, last)):
            self.events.tell(
                IotlbInvTimeout(EventCode=EventCode.IOTLB_INV_TIMEOUT, DeviceID=command.DeviceID, Address=address)
            )
        return None

    def touch_device(self, command: InvalidateInterruptTable | PrefetchIommuPages, address: int) -> Stop | None:
        """No interrupt remapping entry is cached, and nothing is fetched ahead; Inval of a prefetch forgets."""
        device = self.maps.devices.get(command.DeviceID)
        if device is None:
            return self._unmapped(address)
        if isinstance(command, PrefetchIommuPages) and command.Inval:
            for domain in self.maps.host_domains:
                self._caches.invalidate_stage2_tag(domain, stage1_only=True)
        return None

    def complete_page_request(self, command: CompletePprRequest, address: int) -> Stop | None:
        """Answer a group of page requests."""
        device = self.maps.devices.get(command.DeviceID)
        if device is None:
            return self._unmapped(address)
        pasid = Pasid(command.PASID) if command.GN else None
        code = response_code(command.Status)
        self.platform.respond(PageResponse(RequesterId(device), pasid, command.Tag, code))
        return None

    def invalidate_all(self, _command: InvalidateIommuAll, _: int) -> Stop | None:
        """Forget what went through any of the guest's tables, and entries of its devices."""
        for domain in self.maps.host_domains:
            self._caches.invalidate_stage2_tag(domain, stage1_only=True)
        self._forget_entries()
        return None

    def _forget_entries(self) -> None:
        for device in self.maps.devices.values():
            self._caches.invalidate_contexts(device)

    def _unmapped(self, address: int) -> Stop | None:
        self._tell_host(SOURCE_DEVICE_MAP, address)
        return Stop(None) if HALTS_ON_UNMAPPED_DEVICE else None

    def _tell_host(self, source: int, address: int) -> None:
        self.host_events.tell(
            ViommuHardwareError(
                EventCode=EventCode.VIOMMU_HW_ERROR, GuestID=self.maps.guest, Source=source, vCMD=1, Address=address
            )
        )


EFFECTS: Mapping[type[AnyCommand], Callable[..., Stop | None]] = {
    CompletionWait: GuestCommands.completion_wait,
    InvalidateIommuPages: GuestCommands.invalidate_pages,
    InvalidateDevtabEntry: GuestCommands.invalidate_entry,
    InvalidateIotlbPages: GuestCommands.invalidate_device_tlb,
    InvalidateInterruptTable: GuestCommands.touch_device,
    PrefetchIommuPages: GuestCommands.touch_device,
    CompletePprRequest: GuestCommands.complete_page_request,
    InvalidateIommuAll: GuestCommands.invalidate_all,
}
"""What a guest may give: the host's own (INSERT_GUEST_EVENT, RESET_VMMIO) are illegal to it."""

NAMES = {opcode.value: opcode.name for opcode in Opcode}
