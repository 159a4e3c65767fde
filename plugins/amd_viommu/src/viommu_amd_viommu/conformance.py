"""What the conformance kit has to know of AMD-Vi: how guests write DTEs, GCR3 and guest tables, commands, a buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.iommufd.experimental import AmdCommand, ExperimentalType, VeventAmd, ViommuAmd
from viommu.iommufd.uapi import HwptAmdGuest
from viommu.ops import DeviceFeatures
from viommu.policies import Policy
from viommu.table_shapes import amd_v1, x86
from viommu.testing import GuestKit
from viommu_amd_viommu.spec.commands import CompletionWait, InvalidateIommuPages, InvalidateIotlbPages, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import IoPageFault
from viommu_amd_viommu.spec.registers import Control, DeviceTableBase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from viommu.api import Viommu
    from viommu.io_page_table import TableShape
    from viommu.memory import PhysicalMemory
    from viommu.objects.mmap import RegisterMapping
    from viommu.testing import GuestMemory, Space

PAGE, ENTRY = 0x1000, 16
KIND = int(ExperimentalType.AMD)
HARDWARE_VIOMMU, COMMANDS = 3, 2
"""Types of the published series: its vIOMMU, and the command buffer of it."""
CONTROL, HEAD, TAIL = 0x18, 0x00, 0x08
EVERYTHING = 0x7FFF_FFFF_FFFF_F000
LARGEST_BIT = 51


def forget(domain: int, start: int, last: int) -> InvalidateIommuPages:
    """Give the command of the smallest block around a range, of the guest tables without PASID."""
    sized, address = 0, start & -PAGE
    if start // PAGE != last // PAGE:
        bit = (start ^ last).bit_length() - 1
        sized = 1
        address = EVERYTHING if bit > LARGEST_BIT else (start | (1 << bit) - 1) & ~(1 << bit) & -PAGE
    code = Opcode.INVALIDATE_IOMMU_PAGES
    return InvalidateIommuPages(Opcode=code, DomainID=domain, GN=1, PDE=1, S=sized, Address=address)


@frozen
class AmdSpace:
    """Guest tables that PASID 0 of a GCR3 table leads to, known by a DomainID of the guest's."""

    domain: int
    data: HwptAmdGuest
    data_type: int | None = None
    pasid: int | None = None
    request_type: int | None = KIND

    def drop(self, start: int, last: int) -> Sequence[AmdCommand]:
        """Forget pages of the DomainID."""
        return [AmdCommand.of(command=forget(self.domain, start, last).encode())]


@define(eq=False)
class AmdBuffer:
    """The command buffer of a guest: its own page of registers, and the VMM's page, by which it was switched on."""

    memory: GuestMemory
    base: int
    entries: int
    registers: RegisterMapping
    switches: RegisterMapping

    def write(self, index: int, command: bytes) -> None:
        """Store a command."""
        self.memory.write(self.base + ENTRY * index, command)

    def ring(self, tail: int) -> None:
        """Write the tail."""
        self.registers.write(TAIL, (tail * ENTRY).to_bytes(8, "little"))

    def head(self) -> int:
        """Read the head."""
        return int.from_bytes(self.registers.read(HEAD, 8), "little") // ENTRY

    def drop(self, space: Space, start: int, last: int) -> Sequence[bytes]:
        """Forget pages of the DomainID."""
        assert isinstance(space, AmdSpace)  # noqa: S101 - the kit gives back what it was given
        return [forget(space.domain, start, last).encode()]

    def illegal(self) -> bytes:
        """An opcode that there is not."""
        return bytes(ENTRY)

    def close(self) -> None:
        """Unmap both pages."""
        self.registers.close()
        self.switches.close()


@frozen
class AmdBuffers:
    """Command buffers that hardware runs (policy ``iova_queues``)."""

    type: int = COMMANDS
    length: int = PAGE
    by_iova: bool = True

    def open(self, viommu: Viommu, memory: GuestMemory, base: int) -> AmdBuffer:
        """Map the pages, and switch the buffer on, empty: an earlier one may have left its pointers."""
        where = ViommuAmd.decode(viommu.data)
        registers = viommu.mmap(where.out_vfmmio_mmap_offset, PAGE)
        switches = viommu.mmap(where.out_control_mmap_offset, PAGE)
        switches.write(CONTROL, Control().encode())
        for pointer in (HEAD, TAIL):
            registers.write(pointer, bytes(8))
        switches.write(CONTROL, Control(CmdBufEn=1).encode())
        return AmdBuffer(memory, base, self.length // ENTRY, registers, switches)


@frozen
class AmdEvents:
    """Entries of the event log, where the guest has none of its own."""

    type: int = KIND

    def told(self, raw: bytes) -> tuple[int, int | None]:
        """Read DeviceID and Address."""
        event = IoPageFault.decode(VeventAmd.decode(raw).event)
        return event.DeviceID, event.Address


@frozen
class AmdGuests:
    """Guests whose IOMMU hardware runs."""

    tables: TableShape = field(factory=x86)
    viommu: int | None = HARDWARE_VIOMMU
    queues: AmdBuffers = field(factory=AmdBuffers)
    events: AmdEvents = field(factory=AmdEvents)

    def viommu_data(self) -> ViommuAmd:
        """Ask where the registers are."""
        return ViommuAmd.of()

    def space(self, memory: GuestMemory, root: int, number: int, virt_id: int) -> AmdSpace:  # noqa: ARG002
        """Write a GCR3 table, to which a DTE leads; requests without PASID use that of PASID 0 (GIOV)."""
        gcr3 = memory.take()
        memory.write(gcr3, (root | 1).to_bytes(8, "little"))
        entry = DTE(V=1, TV=1, GV=1, GIOV=1, PPR=1, GCR3=gcr3, DomainID=number)
        return AmdSpace(number, HwptAmdGuest.of(dte=entry.encode()))

    def drop_device(self, virt_id: int) -> AmdCommand:
        """Empty a device's TLB."""
        code = Opcode.INVALIDATE_IOTLB_PAGES
        command = InvalidateIotlbPages(Opcode=code, DeviceID=virt_id, QueueID=virt_id, S=1, Address=EVERYTHING)
        return AmdCommand.of(command=command.encode())

    def illegal(self) -> AmdCommand:
        """An opcode that there is not."""
        return AmdCommand.of(command=bytes(ENTRY))


@frozen
class AmdFences:
    """COMPLETION_WAIT with s."""

    def request(self, address: int, value: int) -> AmdCommand:
        """By a call."""
        return AmdCommand.of(command=self.command(address, value))

    def command(self, address: int, value: int) -> bytes:
        """By a buffer."""
        return CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, Address=address, Data=value).encode()


@frozen
class AmdByHand:
    """A device table, whose entry leads to host tables of four levels."""

    tables: TableShape = field(factory=amd_v1)

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        """Write a DTE."""
        pages = requester * DTE.size // PAGE + 1
        table = take(pages)
        entry = DTE(V=1, TV=1, IR=1, IW=1, Mode=4, HostPageTableRoot=root, DomainID=5)
        memory.write(table + requester * DTE.size, entry.encode())
        base = DeviceTableBase(Base=table, Size=pages - 1)
        return {"CONTROL": int(Control(IommuEn=1)), "DEVTAB": int(base)}


KIT = GuestKit(
    policy=Policy(invalidate_by_viommu=True, iova_queues=True),
    requesters=(0x0108, 0x0310),
    features=DeviceFeatures(ats=True, page_requests=True, pasid_bits=4),
    bare=AmdByHand(),
    nesting=AmdGuests(),
    fences=AmdFences(),
    waived={
        "ERR-002": "Linux 7.2's AMD driver gives a vIOMMU for whatever type is asked",
    },
)
