"""An IOMMU that is programmed by hand: a device directory, page tables, queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field
from recordings import BOUND
from viommu import Iotlb, Machine, PhysicalMemory
from viommu.io_page_table import IoPageTable
from viommu.ops import Prot
from viommu.table_frames import TableFrames
from viommu.table_shapes import riscv

from viommu_riscv.spec.commands import Command, Iofence, Opcode
from viommu_riscv.spec.directories import ExtendedDeviceContext, StageMode
from viommu_riscv.spec.records import FaultRecord
from viommu_riscv.spec.registers import LAYOUTS, Cqcsr, Ddtp, Fqcsr, IommuMode, Pqcsr, QueueBase

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.platform import Interrupt

LayoutT = TypeVar("LayoutT", bound="Descriptor")

DEVICE = 0x25
IOVA = 0x40_0000
BOTH = Prot.READ | Prot.WRITE
PAGE = 0x1000


@define
class Programmed:
    """Software of an IOMMU with one device. ``swapped``: everything is big-endian."""

    swapped: bool = False
    given: dict[str, int] = field(factory=dict)
    heard: list[Interrupt] = field(factory=list)
    memory: PhysicalMemory = field(factory=PhysicalMemory)
    frames: TableFrames = field(init=False)
    machine: Machine = field(init=False)
    directory: int = field(init=False)
    queues: dict[str, int] = field(factory=dict)
    tables: list[IoPageTable] = field(factory=list)
    """Page tables whose frames are in use."""

    def __attrs_post_init__(self) -> None:
        self.frames = TableFrames(self.memory)
        self.machine = Machine(BOUND, self.memory, self.given, iotlb=Iotlb(), on_interrupt=self.heard.append)
        self["FCTL"] = int(self.swapped)
        self.directory = self.frames.allocate()
        for letter, enable in (("C", Cqcsr(cqen=1, cie=1)), ("F", Fqcsr(fqen=1, fie=1)), ("P", Pqcsr(pqen=1, pie=1))):
            self.queues[letter] = self.frames.allocate()
            self[f"{letter}QB"] = int(QueueBase(PPN=self.queues[letter], LOG2SZ_1=1))
            self[f"{letter}QCSR"] = int(enable)
        for vector in range(3):
            self[f"MSI_ADDR_{vector}"] = 0x2800_0000
            self[f"MSI_DATA_{vector}"] = 0x10 + vector
        self["ICVEC"] = 0x2010
        self["DDTP"] = int(Ddtp(iommu_mode=IommuMode.LVL1, PPN=self.directory))

    def __getitem__(self, name: str) -> int:
        offset, layout = LAYOUTS[name]
        return self.machine.read_register(offset, layout.size)

    def __setitem__(self, name: str, value: int) -> None:
        offset, layout = LAYOUTS[name]
        self.machine.write_register(offset, value, layout.size)

    def decoded(self, name: str, layout: type[LayoutT]) -> LayoutT:
        """Read a register's fields."""
        return layout.decode(self[name])

    def put(self, address: int, structure: Descriptor) -> None:
        """Store a structure in the byte order of the IOMMU."""
        assert self.memory.write(address, self.in_memory(structure.encode()))

    def in_memory(self, raw: bytes) -> bytes:
        """Give words as memory holds them."""
        words = [raw[at : at + 8] for at in range(0, len(raw), 8)]
        return b"".join(word[::-1] if self.swapped else word for word in words)

    def context(self, device: int = DEVICE, **fields: int) -> None:
        """Write a device's context."""
        self.put(self.directory + 64 * device, ExtendedDeviceContext(V=1, **fields))

    def table(self, *, guest_stage: bool = False) -> IoPageTable:
        """Make an empty page table of four levels, in little-endian."""
        self.tables.append(IoPageTable(self.frames, riscv(4, guest_stage=guest_stage)))
        return self.tables[-1]

    def translated(self, **fields: int) -> int:
        """Let the device go through a first stage that maps a page at IOVA; the page's physical address."""
        table, page = self.table(), self.frames.allocate()
        table.map(IOVA, page, PAGE, BOTH)
        self.context(fsc_MODE=StageMode.Sv48, fsc_PPN=table.root, PSCID=7, **fields)
        return page

    def submit(self, *commands: Command) -> Cqcsr:
        """Have commands executed; the state of the queue after it."""
        for command in commands:
            tail = self["CQT"]
            self.put(self.queues["C"] + 16 * tail, command)
            self["CQT"] = tail + 1 & 3
        return self.decoded("CQCSR", Cqcsr)

    def faults(self) -> list[FaultRecord]:
        """Take what lies in the fault queue."""
        found = []
        while self["FQH"] != self["FQT"]:
            raw = self.memory.read(self.queues["F"] + 32 * self["FQH"], 32)
            assert raw is not None
            found.append(FaultRecord.decode(self.in_memory(raw)))
            self["FQH"] = self["FQH"] + 1 & 3
        return found


def fence(**fields: int) -> Iofence:
    """Make a fence."""
    return Iofence(opcode=Opcode.IOFENCE, **fields)
