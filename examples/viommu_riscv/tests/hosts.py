"""A machine whose IOMMU the host's driver programs, with memory for a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field
from recordings import BOUND
from viommu import Iotlb, Machine, Policy

from viommu_riscv.host.extensions import TYPE, CommandRiscv, HwptRiscv
from viommu_riscv.spec.commands import (
    Command,
    Iotinval,
    IotinvalFunction,
    Opcode,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from viommu.api import Device, Ioas, Iommufd, NestedHwpt, Viommu

PAGE = 0x1000
BASE, IOVA = 0x10_0000, 0x40_0000
LEAF, TABLE = 0xD7, 1
VIRTUAL, SPACE = 0x42, 7
FORGET = Iotinval(opcode=Opcode.IOTINVAL, func3=IotinvalFunction.VMA, AV=1, PSCV=1, PSCID=SPACE, ADDR=IOVA)


@define
class Host:
    """A machine with two devices, and an IOAS with memory at BASE, which a guest may think its own."""

    policy: Policy = field(factory=Policy)
    given: dict[str, int] = field(factory=dict)
    machine: Machine = field(init=False)
    iommu: Iommufd = field(init=False)
    device: Device = field(init=False)
    other: Device = field(init=False)
    ioas: Ioas = field(init=False)
    memory: NDArray[np.uint8] = field(init=False)
    next: int = BASE

    def __attrs_post_init__(self) -> None:
        self.machine = Machine(BOUND, "64M", self.given, iotlb=Iotlb(), policy=self.policy)
        self.iommu = self.machine.open_iommufd()
        self.device = self.iommu.bind(self.machine.add_device(0x1_0108, ats=True, page_requests=True, pasid_bits=8))
        self.other = self.iommu.bind(self.machine.add_device(0x33))
        self.memory = self.machine.buffer("1M")
        self.ioas = self.iommu.ioas_alloc()
        self.ioas.map(self.memory, BASE)

    def page(self, text: bytes = b"") -> int:
        """Take a page of the guest's, that begins with a text."""
        at, self.next = self.next, self.next + PAGE
        self.write(at, text)
        return at

    def write(self, address: int, data: bytes) -> None:
        self.memory[address - BASE : address - BASE + len(data)] = list(data)

    def word(self, address: int) -> int:
        return int.from_bytes(self.memory[address - BASE : address - BASE + 8].tobytes(), "little")

    def map(self, root: int, iova: int, page: int) -> None:
        """Map a page in a guest's table."""
        for level in (3, 2, 1):
            at = root + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not self.word(at):
                self.write(at, (self.page() >> 2 | TABLE).to_bytes(8, "little"))
            root = self.word(at) >> 10 << 12
        self.write(root + (iova >> 12 & 0x1FF) * 8, (page >> 2 | LEAF).to_bytes(8, "little"))

    def guest(self) -> tuple[Viommu, int]:
        """Make a vIOMMU, and a table of the guest's that maps a page at IOVA."""
        parent = self.ioas.hwpt_alloc(self.device, nest_parent=True)
        viommu = parent.viommu_alloc(self.device, TYPE)
        viommu.vdevice_alloc(self.device, VIRTUAL)
        root = self.page()
        self.map(root, IOVA, self.page(b"first"))
        return viommu, root

    def nest(self, viommu: Viommu, root: int) -> NestedHwpt:
        """Let the guest's table govern the device."""
        hwpt = viommu.hwpt_alloc(self.device, HwptRiscv.of(ta=SPACE << 12, fsc=9 << 60 | root >> 12), data_type=TYPE)
        self.device.attach(hwpt)
        return hwpt


def requests(*commands: Command) -> list[CommandRiscv]:
    return [CommandRiscv.of(command=command.encode()) for command in commands]
