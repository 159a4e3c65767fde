"""What each of a guest's commands does (AMD 48882, 2.4), ids translated: one command at a time.

The common invalidations are executed by the engine (`meanings`); only what it leaves comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.addresses import Pasid, RequesterId
from viommu.platform import DeviceInvalidation, PageResponse
from viommu_amd_viommu.hardware.command_buffer import Halt
from viommu_amd_viommu.hardware.command_legality import is_illegal, span
from viommu_amd_viommu.hardware.page_requests import response_code
from viommu_amd_viommu.spec import inferred
from viommu_amd_viommu.spec.commands import (
    STORE_BYTES,
    AnyCommand,
    CompletePprRequest,
    CompletionWait,
    InvalidateDevtabEntry,
    InvalidateInterruptTable,
    InvalidateIommuAll,
    InvalidateIommuPages,
    InvalidateIotlbPages,
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

    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.hardware.guests.addresses import TranslatedMemory
    from viommu_amd_viommu.hardware.guests.maps import IdMaps


@define(eq=False, repr=False)
class GuestCommands:
    """Executes commands of one guest. ``caches`` and ``platform`` are the host's; ``host_events`` too."""

    file: RegisterFile
    memory: TranslatedMemory
    platform: Platform
    events: Events
    host_events: Events
    maps: IdMaps

    def execute(self, raw: bytes, address: int) -> Halt | None:
        """Do one command; ``address`` is where the guest wrote it."""
        command = decode_command(raw)
        illegal = is_illegal(command, self.file.decoded("EFR", EFR))
        if illegal or command.Opcode in inferred.OPCODES_OF_HOSTS or type(command) not in EFFECTS:
            return Halt(IllegalCommandError(EventCode=EventCode.ILLEGAL_COMMAND_ERROR, Address=address))
        return EFFECTS[type(command)](self, command, address)

    def completion_wait(self, command: CompletionWait, _: int) -> Halt | None:
        """Store in the guest's memory, and interrupt the guest."""
        if command.s and not self.memory.write(command.Address, command.Data.to_bytes(STORE_BYTES, "little")):
            error = HardwareErrorType.MASTER_ABORT
            return Halt(CommandHardwareError(EventCode=EventCode.COMMAND_HW_ERROR, Type=error, Address=command.Address))
        if command.i:
            self.events.interrupts.raise_(Status.ComWaitInt.mask)
        return None

    def invalidate_pages(self, _: InvalidateIommuPages, address: int) -> Halt | None:
        """The engine leaves one whose DomainID is not mapped: told to the host, for nothing bears it."""
        self._tell_host(inferred.SOURCE_DOMAIN_MAP, address)
        return Halt() if inferred.HALTS_ON_UNMAPPED_DOMAIN else None

    def invalidate_entry(self, _: InvalidateDevtabEntry, address: int) -> Halt | None:
        """The engine leaves one whose DeviceID is not mapped."""
        return self._unmapped(address)

    def invalidate_device_tlb(self, command: InvalidateIotlbPages, address: int) -> Halt | None:
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

    def touch_device(self, command: InvalidateInterruptTable | PrefetchIommuPages, address: int) -> Halt | None:
        """No interrupt remapping entry is cached, and nothing is fetched ahead; Inval of a prefetch forgets."""
        device = self.maps.devices.get(command.DeviceID)
        if device is None:
            return self._unmapped(address)
        if isinstance(command, PrefetchIommuPages) and command.Inval:
            self._forget_translations()
        return None

    def complete_page_request(self, command: CompletePprRequest, address: int) -> Halt | None:
        """Answer a group of page requests."""
        device = self.maps.devices.get(command.DeviceID)
        if device is None:
            return self._unmapped(address)
        pasid = Pasid(command.PASID) if command.GN else None
        code = response_code(command.Status)
        self.platform.respond(PageResponse(RequesterId(device), pasid, command.Tag, code))
        return None

    def invalidate_all(self, _command: InvalidateIommuAll, _: int) -> Halt | None:
        """Forget what went through any of the guest's tables, and entries of its devices."""
        self._forget_translations()
        for device in tuple(self.maps.devices.values()):
            self.platform.caches.invalidate_contexts(device)
        return None

    def _forget_translations(self) -> None:
        for domain in tuple(self.maps.host_domains):
            self.platform.caches.invalidate_stage2_tag(domain, stage1_only=inferred.GUEST_TABLES_ALONE)

    def _unmapped(self, address: int) -> Halt | None:
        self._tell_host(inferred.SOURCE_DEVICE_MAP, address)
        return Halt() if inferred.HALTS_ON_UNMAPPED_DEVICE else None

    def _tell_host(self, source: int, address: int) -> None:
        self.host_events.tell(
            ViommuHardwareError(
                EventCode=EventCode.VIOMMU_HW_ERROR, GuestID=self.maps.guest, Source=source, vCMD=1, Address=address
            )
        )


EFFECTS: Mapping[type[AnyCommand], Callable[..., Halt | None]] = {
    CompletionWait: GuestCommands.completion_wait,
    InvalidateIommuPages: GuestCommands.invalidate_pages,
    InvalidateDevtabEntry: GuestCommands.invalidate_entry,
    InvalidateIotlbPages: GuestCommands.invalidate_device_tlb,
    InvalidateInterruptTable: GuestCommands.touch_device,
    PrefetchIommuPages: GuestCommands.touch_device,
    CompletePprRequest: GuestCommands.complete_page_request,
    InvalidateIommuAll: GuestCommands.invalidate_all,
}
"""What a guest may give."""
