"""What each command does (AMD 48882, 2.4): columns of one opcode in, effects in order."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, frozen

from viommu.addresses import Pasid, RequesterId
from viommu.platform import DeviceInvalidation, PageResponse
from viommu_amd_viommu.hardware.command_legality import illegal, ranges
from viommu_amd_viommu.hardware.page_requests import response_code
from viommu_amd_viommu.spec.commands import COMMANDS, AnyCommand, Opcode
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode, HardwareErrorType, IllegalCommandError
from viommu_amd_viommu.spec.events import IotlbInvTimeout as Timeout
from viommu_amd_viommu.spec.registers import EFR, Control, InvalidationTimeout, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.command_legality import Columns
    from viommu_amd_viommu.hardware.device_state import DeviceState
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.hardware.guests.guests import Guests
    from viommu_amd_viommu.spec.events import EventEntry

LAST_ADDRESS = (1 << 64) - 1
STORE_BYTES = 8


@frozen
class Halt:
    """A command that did not complete. ``event``: why the buffer halts; None: it waits at this command."""

    event: EventEntry | None


Progress = Halt | None
"""What became of one command; None: it is done."""


def groups(rows: NDArray[np.uint8]) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Cut commands where the opcode changes: (opcode, index of the first, rows)."""
    opcodes = AnyCommand.columns(rows)["Opcode"]
    cuts = [0, *(np.flatnonzero(np.diff(opcodes)) + 1).tolist(), len(rows)]
    for first, end in pairwise(cuts):
        yield int(opcodes[first]), first, rows[first:end]


@define(eq=False)
class Commands:
    """Executes commands."""

    file: RegisterFile
    memory: PhysicalMemory
    platform: Platform
    events: Events
    devices: DeviceState
    guests: Guests

    def execute(self, opcode: int, rows: NDArray[np.uint8], addresses: list[int]) -> Iterator[Progress]:
        """Do commands of one opcode in order, telling after each; nothing comes after a Halt.

        ``addresses`` are those of the commands themselves.
        """
        refused = illegal(opcode, rows, self.file.decoded("EFR", EFR))
        legal = int(refused.argmax()) if refused.any() else len(rows)
        if legal:
            yield from EFFECTS[opcode](self, COMMANDS[opcode].columns(rows[:legal]), addresses)
        if legal < len(rows):
            yield Halt(IllegalCommandError(EventCode=EventCode.ILLEGAL_COMMAND_ERROR, Address=addresses[legal]))

    def completion_wait(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """Store and interrupt. ``f`` asks for no more: commands are done when the next one begins."""
        for s, i, address, data in _rows(columns, "s", "i", "Address", "Data"):
            if s and not self.memory.write(address, data.to_bytes(STORE_BYTES, "little")):
                yield Halt(self._store_error(address))
                return
            if i:
                self.events.interrupts.raise_(Status.ComWaitInt.mask)
            yield None

    def invalidate_devtab_entry(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """The next access reads the entry again; translations stay."""
        for (device,) in _rows(columns, "DeviceID"):
            self.platform.caches.invalidate_contexts(device)
            self.devices.forget(device)
            yield None

    def invalidate_iommu_pages(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """Guest translations by (DomainID, PASID), or all of a DomainID behind or by host tables."""
        starts, lasts = ranges(columns)
        for start, last, (domain, guest, pasid, directories) in zip(
            starts, lasts, _rows(columns, "DomainID", "GN", "PASID", "PDE"), strict=True
        ):
            if guest:
                self._drop_guest(domain, pasid, start, last, leaf_only=not directories)
            else:
                self._drop_host(domain, start, last, leaf_only=not directories)
            yield None

    def invalidate_iotlb_pages(self, columns: Columns, addresses: list[int]) -> Iterator[Progress]:
        """A device that does not answer is an event; without a time-out, the buffer waits for it."""
        starts, lasts = ranges(columns)
        for start, last, address, (device, guest, pasid) in zip(
            starts, lasts, addresses, _rows(columns, "DeviceID", "GN", "PASID"), strict=False
        ):
            asked = DeviceInvalidation(RequesterId(device), Pasid(pasid) if guest else None, start, last)
            if not self.platform.invalidate_device(asked):
                if self.file.decoded("CONTROL", Control).InvTimeOut == InvalidationTimeout.NONE:
                    yield Halt(None)
                    return
                self.events.tell(Timeout(EventCode=EventCode.IOTLB_INV_TIMEOUT, DeviceID=device, Address=address))
            yield None

    def invalidate_interrupt_table(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """No interrupt remapping entry is ever cached."""
        for _device in _rows(columns, "DeviceID"):
            yield None

    def prefetch_iommu_pages(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """A hint, which this hardware takes as far as Inval goes: it forgets, and fetches at the first use."""
        starts, lasts = ranges(columns)
        for start, last, (device, guest, pasid, count, forget) in zip(
            starts, lasts, _rows(columns, "DeviceID", "GN", "PASID", "PFCount", "Inval"), strict=True
        ):
            domain = self.devices.domain(device) if forget else None
            if domain is not None:
                end = min(LAST_ADDRESS, start + max(1, count) * (last - start + 1) - 1)
                if guest:
                    self._drop_guest(domain, pasid, start, end, leaf_only=True)
                else:
                    self._drop_host(domain, start, end, leaf_only=True)
            yield None

    def complete_ppr_request(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """Answer a group of page requests."""
        for device, guest, pasid, tag, status in _rows(columns, "DeviceID", "GN", "PASID", "Tag", "Status"):
            code = response_code(status)
            self.platform.respond(PageResponse(RequesterId(device), Pasid(pasid) if guest else None, tag, code))
            yield None

    def invalidate_iommu_all(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """Forget device table entries and translations."""
        for _command in columns["Opcode"]:
            self.platform.caches.invalidate_contexts()
            self.platform.caches.invalidate_all()
            self.devices.forget_all()
            yield None

    def reset_vmmio(self, columns: Columns, _: list[int]) -> Iterator[Progress]:
        """Clear the VF page of a guest. What All and vCMD choose of it is not known: all of it is cleared."""
        for (guest,) in _rows(columns, "GuestID"):
            self.guests.reset(guest)
            yield None

    def _drop_host(self, domain: int, start: int, last: int, *, leaf_only: bool) -> None:
        """Guest-tagged translations hold no guest-physical address to compare: those of the domain go together."""
        if (start, last) == (0, LAST_ADDRESS):
            self.platform.caches.invalidate_stage2_tag(domain)
        else:
            self.platform.caches.invalidate_stage2_range(domain, start, last, leaf_only=leaf_only)
            self.platform.caches.invalidate_stage2_tag(domain, stage1_only=True)
        if not leaf_only:
            self._drop_guest_roots(domain, None)

    def _drop_guest(self, domain: int, pasid: int, start: int, last: int, *, leaf_only: bool) -> None:
        self.platform.caches.invalidate_range(domain, pasid, start, last, leaf_only=leaf_only)
        if not leaf_only:
            self._drop_guest_roots(domain, pasid)

    def _drop_guest_roots(self, domain: int, pasid: int | None) -> None:
        """GCR3 entries are cached with the translations they lead to: they are directories, in the command's words.

        They lie in cached contexts. PASID 0 serves requests without one as well (GIOV).
        """
        for device in self.devices.of_domain(domain):
            self.platform.caches.invalidate_contexts(device, pasid or None)

    def _store_error(self, address: int) -> CommandHardwareError:
        """A hole does not answer; what is read-only does, with an error."""
        answers = self.memory.read(address, STORE_BYTES) is not None
        error = HardwareErrorType.TARGET_ABORT if answers else HardwareErrorType.MASTER_ABORT
        return CommandHardwareError(EventCode=EventCode.COMMAND_HW_ERROR, Type=error, Address=address)


def _rows(columns: Columns, *names: str) -> Iterator[tuple[int, ...]]:
    return zip(*(columns[name].tolist() for name in names), strict=True)


EFFECTS: Mapping[int, Callable[[Commands, Columns, list[int]], Iterator[Progress]]] = {
    Opcode.COMPLETION_WAIT: Commands.completion_wait,
    Opcode.INVALIDATE_DEVTAB_ENTRY: Commands.invalidate_devtab_entry,
    Opcode.INVALIDATE_IOMMU_PAGES: Commands.invalidate_iommu_pages,
    Opcode.INVALIDATE_IOTLB_PAGES: Commands.invalidate_iotlb_pages,
    Opcode.INVALIDATE_INTERRUPT_TABLE: Commands.invalidate_interrupt_table,
    Opcode.PREFETCH_IOMMU_PAGES: Commands.prefetch_iommu_pages,
    Opcode.COMPLETE_PPR_REQUEST: Commands.complete_ppr_request,
    Opcode.INVALIDATE_IOMMU_ALL: Commands.invalidate_iommu_all,
    Opcode.RESET_VMMIO: Commands.reset_vmmio,
}
"""The opcodes that are ever legal here."""
