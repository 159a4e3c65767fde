"""What the conformance kit has to know of SMMUs: how guests write STEs, CDs, stage-1 tables, commands, a VCMDQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.iommufd.uapi import HwptArmSmmuv3, ViommuArmSmmuv3Invalidate, ViommuTegra241Cmdqv
from viommu.ops import DeviceFeatures
from viommu.policies import Policy
from viommu.table_shapes import arm_stage1, arm_stage2
from viommu.testing import GuestKit
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import CONS_AT, PROD_AT, VCMDQ_CONFIG_AT
from viommu_smmuv3_cmdqv.spec.commands import ATC_INV, SYNC, TLBI_NH_ASID, TLBI_NH_VA, Command, CommandOpcode
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.events import TranslationRecord
from viommu_smmuv3_cmdqv.spec.registers import CR0, STRTAB_BASE, STRTAB_BASE_CFG
from viommu_smmuv3_cmdqv.spec.stream_table import STE, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from viommu.api import Viommu
    from viommu.io_page_table import TableShape
    from viommu.memory import PhysicalMemory
    from viommu.objects.mmap import RegisterMapping
    from viommu.testing import GuestMemory, Space

PAGE, ENTRY = 0x1000, 16
MOST_PAGES = 32
"""More are told as the whole ASID."""
CMDQV = 2
"""The type of a vIOMMU with queues of its own."""
WHOLE_SPACE = 52
UNKNOWN = 0xFF
"""No opcode."""


def forget(asid: int, start: int, last: int) -> list[Command]:
    """Give what drops pages of an ASID."""
    if (last - start) // PAGE >= MOST_PAGES:
        return [TLBI_NH_ASID(Opcode=CommandOpcode.TLBI_NH_ASID, ASID=asid)]
    pages = range(start & -PAGE, last + 1, PAGE)
    return [TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, ASID=asid, Address=page) for page in pages]


@frozen
class SmmuSpace:
    """A stage-1 table, known by an ASID."""

    asid: int
    data: HwptArmSmmuv3
    data_type: int | None = None
    pasid: int | None = None
    request_type: int | None = None

    def drop(self, start: int, last: int) -> Sequence[ViommuArmSmmuv3Invalidate]:
        """Forget pages of the ASID."""
        return [_request(command) for command in forget(self.asid, start, last)]


@define(eq=False)
class Vcmdq:
    """A VCMDQ of a guest. Pointers have a wrap flag above the index, which ``tail`` keeps."""

    memory: GuestMemory
    base: int
    entries: int
    registers: RegisterMapping
    tail: int = 0

    def write(self, index: int, command: bytes) -> None:
        """Store a command."""
        self.memory.write(self.base + ENTRY * index, command)

    def ring(self, tail: int) -> None:
        """Write PROD; an index that is not ahead has wrapped."""
        ahead = (tail - self.tail) % self.entries or (0 if tail == self.tail % self.entries else self.entries)
        self.tail = (self.tail + ahead) % (2 * self.entries)
        self.registers.write(PROD_AT, self.tail.to_bytes(4, "little"))

    def head(self) -> int:
        """Read CONS."""
        return int.from_bytes(self.registers.read(CONS_AT, 4), "little") % self.entries

    def drop(self, space: Space, start: int, last: int) -> Sequence[bytes]:
        """Forget pages of the ASID."""
        assert isinstance(space, SmmuSpace)  # noqa: S101 - the kit gives back what it was given
        return [*[one.encode() for one in forget(space.asid, start, last)], SYNC(Opcode=CommandOpcode.SYNC).encode()]

    def illegal(self) -> bytes:
        """An opcode that there is not."""
        return UNKNOWN.to_bytes(ENTRY, "little")

    def close(self) -> None:
        """Unmap."""
        self.registers.close()


@frozen
class Vcmdqs:
    """Queues of Tegra241 CMDQV."""

    type: int = 1
    length: int = ENTRY * 64
    by_iova: bool = False

    def open(self, viommu: Viommu, memory: GuestMemory, base: int) -> Vcmdq:
        """Map the first page, and enable the queue."""
        where = ViommuTegra241Cmdqv.decode(viommu.data)
        registers = viommu.mmap(where.out_vintf_mmap_offset, where.out_vintf_mmap_length)
        registers.write(VCMDQ_CONFIG_AT, (1).to_bytes(4, "little"))
        return Vcmdq(memory, base, self.length // ENTRY, registers)


@frozen
class SmmuEvents:
    """Event records."""

    type: int = 1

    def told(self, raw: bytes) -> tuple[int, int | None]:
        """Read StreamID and InputAddr."""
        record = TranslationRecord.decode(raw)
        return record.SID, record.InputAddr


@frozen
class SmmuGuests:
    """Guests with a VINTF."""

    tables: TableShape = field(factory=arm_stage1)
    viommu: int | None = CMDQV
    queues: Vcmdqs = field(factory=Vcmdqs)
    events: SmmuEvents = field(factory=SmmuEvents)

    def viommu_data(self) -> ViommuTegra241Cmdqv:
        """Ask where the queues' registers are."""
        return ViommuTegra241Cmdqv.of()

    def space(self, memory: GuestMemory, root: int, number: int, virt_id: int) -> SmmuSpace:  # noqa: ARG002
        """Write a CD, to which an STE leads."""
        cd = CD(T0SZ=16, EPD1=1, V=1, IPS=5, AA64=1, R=1, A=1, ASET=1, ASID=number, TTB0=root, MAIR=0xFF00)
        at = memory.take()
        memory.write(at, cd.encode())
        ste = STE(V=1, Config=StreamConfig.STAGE1, S1ContextPtr=at, EATS=1)
        return SmmuSpace(number, HwptArmSmmuv3.of(ste=ste.encode()[:16]))

    def drop_device(self, virt_id: int) -> ViommuArmSmmuv3Invalidate:
        """Empty a device's TLB."""
        return _request(ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=virt_id, Size=WHOLE_SPACE))

    def illegal(self) -> ViommuArmSmmuv3Invalidate:
        """An opcode that there is not."""
        return ViommuArmSmmuv3Invalidate.of(cmd=UNKNOWN.to_bytes(ENTRY, "little"))


def _request(command: Command) -> ViommuArmSmmuv3Invalidate:
    return ViommuArmSmmuv3Invalidate.of(cmd=command.encode())


@frozen
class SmmuByHand:
    """A linear stream table, whose STE leads to stage 2 of 48 bits."""

    tables: TableShape = field(factory=lambda: arm_stage2(48, levels=4))

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        """Write an STE."""
        lg2 = max(requester.bit_length(), 6)
        table = take((STE.size << lg2) // PAGE)
        stage = {"S2VMID": 9, "S2T0SZ": 16, "S2SL0": 2, "S2PS": 5, "S2AA64": 1, "S2R": 1, "S2TTB": root}
        ste = STE(V=1, Config=StreamConfig.STAGE2, **stage)
        memory.write(table + requester * STE.size, ste.encode())
        return {
            "CR0": int(CR0(SMMUEN=1)),
            "STRTAB_BASE": int(STRTAB_BASE(ADDR=table)),
            "STRTAB_BASE_CFG": int(STRTAB_BASE_CFG(LOG2SIZE=lg2)),
        }


KIT = GuestKit(
    policy=Policy(viommu_page_requests=True),
    requesters=(0x0108, 0x0310),
    features=DeviceFeatures(ats=True, page_requests=True, pasid_bits=8),
    bare=SmmuByHand(),
    nesting=SmmuGuests(),
    waived={
        "DIR-003": "Linux's arm-smmu-v3 keeps dirty state always, and gives it whenever it is asked",
    },
)
