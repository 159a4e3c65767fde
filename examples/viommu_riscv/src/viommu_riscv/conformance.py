"""What the conformance kit has to know: how guests write page tables, process directories and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen
from viommu.ops import DeviceFeatures
from viommu.table_shapes import riscv
from viommu.testing import GuestKit

from viommu_riscv.host.extensions import TYPE, CommandRiscv, HwptRiscv, VeventRiscv
from viommu_riscv.host.requests import EVERYTHING, Pages, device_tlb
from viommu_riscv.spec.commands import Iotinval, IotinvalFunction, Opcode
from viommu_riscv.spec.directories import (
    DeviceAttributes,
    DirectoryEntry,
    ExtendedDeviceContext,
    FirstStageContext,
    PdtpMode,
    ProcessContext,
    ProcessDirectory,
    StageMode,
    TranslationControl,
)
from viommu_riscv.spec.records import FaultRecord
from viommu_riscv.spec.registers import Ddtp, IommuMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from viommu.io_page_table import TableShape
    from viommu.memory import PhysicalMemory
    from viommu.testing import GuestMemory

UNKNOWN = (0x7F).to_bytes(16, "little")
"""A command with an opcode that there is not."""


@frozen
class RiscvSpace:
    """A first-stage table, known by a PSCID of the guest's."""

    number: int
    data: HwptRiscv
    data_type: int | None = TYPE
    pasid: int | None = None
    request_type: int | None = TYPE

    def drop(self, start: int, last: int) -> Sequence[CommandRiscv]:
        """Forget pages, and the tables above them."""
        pages = Pages.around(start, last)
        command = Iotinval(opcode=Opcode.IOTINVAL, func3=IotinvalFunction.VMA, PSCV=1, PSCID=self.number)
        if pages.lg2 < EVERYTHING.lg2:
            command = command.replace(AV=1, NL=1, S=int(pages.lg2 > 0), ADDR=pages.sized)
        return [CommandRiscv.of(command=command.encode())]


@frozen
class RiscvEvents:
    """Fault records."""

    type: int = TYPE

    def told(self, raw: bytes) -> tuple[int, int | None]:
        """Read DID and iotval."""
        record = FaultRecord.decode(VeventRiscv.decode(raw).record)
        return record.DID, record.iotval


@frozen
class RiscvGuests:
    """Guests by a vIOMMU. Every second space of a device is a process's, which the guest's directory leads to."""

    tables: TableShape = field(factory=riscv)
    viommu: int | None = TYPE
    queues: None = None
    events: RiscvEvents = field(factory=RiscvEvents)

    def viommu_data(self) -> None:
        """Nothing."""

    def space(self, memory: GuestMemory, root: int, number: int, virt_id: int) -> RiscvSpace:  # noqa: ARG002
        """Let a context lead to the table: the device's own, or that of process ``number``."""
        if number % 2:
            table = FirstStageContext(MODE=StageMode.Sv48, PPN=root)
            space = DeviceAttributes(PSCID=number)
            return RiscvSpace(number, HwptRiscv.of(ta=int(space), fsc=int(table)))
        directory = memory.take()
        entry = ProcessContext(V=1, PSCID=number, fsc_MODE=StageMode.Sv48, fsc_PPN=root)
        memory.write(directory + ProcessContext.size * number, entry.encode())
        table_of = ProcessDirectory(MODE=PdtpMode.PD8, PPN=directory)
        data = HwptRiscv.of(tc=int(TranslationControl(PDTV=1)), fsc=int(table_of))
        return RiscvSpace(number, data, pasid=number)

    def drop_device(self, virt_id: int) -> CommandRiscv:
        """Empty a device's TLB, of requests without process."""
        return CommandRiscv.of(command=device_tlb(virt_id, None, EVERYTHING).encode())

    def illegal(self) -> CommandRiscv:
        """An opcode that there is not."""
        return CommandRiscv.of(command=UNKNOWN)


@frozen
class ByHand:
    """Hardware without the host's driver: one device, whose first stage is the page table."""

    tables: TableShape = field(factory=riscv)

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        """Write a directory of three levels."""
        directory = table = take(1)
        for shift in (15, 6):
            below = take(1)
            memory.store(table + 8 * (requester >> shift & 0x1FF), int(DirectoryEntry(V=1, PPN=below)))
            table = below
        context = ExtendedDeviceContext(V=1, PSCID=1, fsc_MODE=StageMode.Sv48, fsc_PPN=root)
        memory.write(table + ExtendedDeviceContext.size * (requester & 0x3F), context.encode())
        return {"DDTP": int(Ddtp(iommu_mode=IommuMode.LVL3, PPN=directory))}


KIT = GuestKit(
    bare=ByHand(),
    requesters=(0x0108, 0x1_0310),
    features=DeviceFeatures(ats=True, page_requests=True, pasid_bits=8),
    nesting=RiscvGuests(),
)
