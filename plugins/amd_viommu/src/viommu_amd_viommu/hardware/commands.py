"""What each command does that has no neutral meaning, or not in all cases (AMD 48882, 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.addresses import Pasid, RequesterId
from viommu.platform import DeviceInvalidation, PageResponse
from viommu_amd_viommu.hardware.command_buffer import Halt
from viommu_amd_viommu.hardware.command_legality import is_illegal, span
from viommu_amd_viommu.hardware.page_requests import response_code
from viommu_amd_viommu.spec.commands import (
    STORE_BYTES,
    CompletePprRequest,
    CompletionWait,
    InvalidateDevtabEntry,
    InvalidateIommuAll,
    InvalidateIotlbPages,
    PrefetchIommuPages,
    ResetVmmio,
    decode_command,
)
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode, HardwareErrorType, IllegalCommandError
from viommu_amd_viommu.spec.events import IotlbInvTimeout as Timeout
from viommu_amd_viommu.spec.registers import EFR, Control, InvalidationTimeout, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.device_state import DeviceState
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.hardware.guests.guests import Guests
    from viommu_amd_viommu.spec.commands import AnyCommand

LAST_ADDRESS = (1 << 64) - 1


@define(eq=False, repr=False)
class Commands:
    """Executes the commands that have no neutral meaning (`spec.command_meanings` has the others), one at a time."""

    file: RegisterFile
    memory: PhysicalMemory
    platform: Platform
    events: Events
    devices: DeviceState
    guests: Guests

    def execute(self, raw: bytes, address: int) -> Halt | None:
        """Do one command; ``address`` is where it lies."""
        command = decode_command(raw)
        effect = EFFECTS.get(type(command))
        if effect is None or is_illegal(command, self.file.decoded("EFR", EFR)):
            return Halt(IllegalCommandError(EventCode=EventCode.ILLEGAL_COMMAND_ERROR, Address=address))
        return effect(self, command, address)

    def completion_wait(self, command: CompletionWait, _: int) -> Halt | None:
        """Store and interrupt. ``f`` asks for no more: commands are done when the next one begins."""
        data = command.Data.to_bytes(STORE_BYTES, "little")
        if command.s and not self.memory.write(command.Address, data):
            return Halt(self._store_error(command.Address))
        if command.i:
            self.events.interrupts.raise_(Status.ComWaitInt.mask)
        return None

    def invalidate_devtab_entry(self, command: InvalidateDevtabEntry, _: int) -> Halt | None:
        """The next access reads the entry again; translations stay."""
        self.platform.caches.invalidate_contexts(command.DeviceID)
        self.devices.forget(command.DeviceID)
        return None

    def invalidate_iotlb_pages(self, command: InvalidateIotlbPages, address: int) -> Halt | None:
        """A device that does not answer is an event; without a time-out, the buffer waits for it."""
        device, pasid = RequesterId(command.DeviceID), Pasid(command.PASID) if command.GN else None
        if self.platform.invalidate_device(DeviceInvalidation(device, pasid, *span(command))):
            return None
        if self.file.decoded("CONTROL", Control).InvTimeOut == InvalidationTimeout.NONE:
            return Halt(waits=True)
        self.events.tell(Timeout(EventCode=EventCode.IOTLB_INV_TIMEOUT, DeviceID=device, Address=address))
        return None

    def prefetch_iommu_pages(self, command: PrefetchIommuPages, _: int) -> Halt | None:
        """A hint, which this hardware takes as far as Inval goes: it forgets, and fetches at the first use."""
        start, last = span(command)
        domain = self.devices.domain(command.DeviceID) if command.Inval else None
        if domain is not None:
            end = min(LAST_ADDRESS, start + max(1, command.PFCount) * (last - start + 1) - 1)
            if command.GN:
                self.platform.caches.invalidate_range(domain, command.PASID, start, end, leaf_only=True)
            else:
                self._drop_host(domain, start, end)
        return None

    def complete_ppr_request(self, command: CompletePprRequest, _: int) -> Halt | None:
        """Answer a group of page requests."""
        device, pasid = RequesterId(command.DeviceID), Pasid(command.PASID) if command.GN else None
        self.platform.respond(PageResponse(device, pasid, command.Tag, response_code(command.Status)))
        return None

    def invalidate_iommu_all(self, _command: InvalidateIommuAll, _: int) -> Halt | None:
        """Forget device table entries and translations."""
        self.platform.caches.invalidate_contexts()
        self.platform.caches.invalidate_all()
        self.devices.forget_all()
        return None

    def reset_vmmio(self, command: ResetVmmio, _: int) -> Halt | None:
        """Clear the VF page of a guest. What All and vCMD choose of it is not known: all of it is cleared."""
        self.guests.reset(command.GuestID)
        return None

    def _drop_host(self, domain: int, start: int, last: int) -> None:
        """As INVALIDATE_IOMMU_PAGES without PDE does."""
        if (start, last) == (0, LAST_ADDRESS):
            self.platform.caches.invalidate_stage2_tag(domain)
        else:
            self.platform.caches.invalidate_stage2_range(domain, start, last, leaf_only=True)
            self.platform.caches.invalidate_stage2_tag(domain, stage1_only=True)

    def _store_error(self, address: int) -> CommandHardwareError:
        """A hole does not answer; what is read-only does, with an error."""
        answers = self.memory.read(address, STORE_BYTES) is not None
        error = HardwareErrorType.TARGET_ABORT if answers else HardwareErrorType.MASTER_ABORT
        return CommandHardwareError(EventCode=EventCode.COMMAND_HW_ERROR, Type=error, Address=address)


EFFECTS: Mapping[type[AnyCommand], Callable[..., Halt | None]] = {
    CompletionWait: Commands.completion_wait,
    InvalidateDevtabEntry: Commands.invalidate_devtab_entry,
    InvalidateIotlbPages: Commands.invalidate_iotlb_pages,
    PrefetchIommuPages: Commands.prefetch_iommu_pages,
    CompletePprRequest: Commands.complete_ppr_request,
    InvalidateIommuAll: Commands.invalidate_iommu_all,
    ResetVmmio: Commands.reset_vmmio,
}
"""What is done here where it is legal."""
