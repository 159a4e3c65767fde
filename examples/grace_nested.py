"""A guest on a software Grace: its stage 1 on the host's stage 2, and invalidations that cost no exit.

The guest maps memory, a device writes to it, the guest unmaps and invalidates through a command queue of its own
(vCMDQ, Tegra241 CMDQV), a fault comes back as an event. What happened is printed as a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu import Fault, Iotlb, Machine
from viommu.iommufd.uapi import HwInfoTegra241Cmdqv, HwptArmSmmuv3, ViommuArmSmmuv3Invalidate, ViommuTegra241Cmdqv
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as vcmdq
from viommu_smmuv3_cmdqv.spec.commands import CFGI_CD, SYNC, TLBI_NH_VA, CommandOpcode
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId
from viommu_smmuv3_cmdqv.spec.stream_table import STE, StreamConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.api import Viommu
    from viommu.layout import Descriptor
    from viommu.objects.mmap import RegisterMapping

PAGE, BASE = 0x1000, 0x4000_0000
"""Where the guest has memory, as it sees it."""
IOVA, STREAM, GUEST_STREAM = 0x7000_0000, 0x100, 0xA10
TABLE, LEAF = 0b11, 0x743 | 1 << 11
"""A table; a page with AF that all may read and write, of one ASID."""
CMDQV, QUEUE_LG2 = 2, 6
"""The type of the vIOMMU; 64 commands."""


@define
class Guest:
    """Memory of a guest: CDs, stage-1 tables, and the ring of its command queue."""

    memory: NDArray[np.uint8]
    next: int = BASE

    def page(self, data: bytes = b"") -> int:
        """Take a page that begins with some bytes; where it is, as the guest sees it."""
        self.next += PAGE
        self.write(self.next - PAGE, data)
        return self.next - PAGE

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.memory[address - BASE : address - BASE + len(data)] = list(data)

    def read(self, address: int, length: int) -> bytes:
        """Load bytes."""
        return self.memory[address - BASE : address - BASE + length].tobytes()

    def leaf(self, root: int, iova: int) -> int:
        """Where the entry of a page is, with tables on the way."""
        table = root
        for level in (3, 2, 1):
            at = table + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not any(self.read(at, 8)):
                self.write(at, (self.page() | TABLE).to_bytes(8, "little"))
            table = int.from_bytes(self.read(at, 8), "little") & -PAGE
        return table + (iova >> 12 & 0x1FF) * 8

    def map(self, root: int, iova: int, page: int) -> None:
        """Map a page."""
        self.write(self.leaf(root, iova), (page | LEAF).to_bytes(8, "little"))


@define
class CommandQueue:
    """A vCMDQ: the ring in the guest's memory, the registers in a page that the VMM mapped into it."""

    guest: Guest
    registers: RegisterMapping
    ring: int
    written: int = 0

    def enable(self) -> None:
        """Switch it on."""
        self.registers.write(vcmdq.VCMDQ_CONFIG_AT, b"\1\0\0\0")

    def submit(self, *commands: Descriptor) -> None:
        """Put commands into the ring, and ring the doorbell: a store, no call."""
        for command in commands:
            self.guest.write(self.ring + 16 * (self.written & (1 << QUEUE_LG2) - 1), command.encode())
            self.written = self.written + 1 & (2 << QUEUE_LG2) - 1
        self.registers.write(vcmdq.PROD_AT, self.written.to_bytes(4, "little"))

    @property
    def consumed(self) -> int:
        """Which command is next."""
        return int.from_bytes(self.registers.read(vcmdq.CONS_AT, 4), "little") & 0xFFFFF


@define
class Story:
    """What happened, step by step: what the guest did, by which way, and what came of it."""

    rows: list[tuple[str, str, str]] = field(factory=list)

    def tell(self, step: str, way: str, came: object) -> None:
        """Take note of a step."""
        if isinstance(came, Fault):
            came = f"fault: {came.kind.name.lower()}"
        self.rows.append((step, way, str(came)))

    def print(self) -> None:
        """Print the table."""
        widths = [max(len(row[column]) for row in self.rows) for column in (0, 1)]
        for step, way, came in self.rows:
            print(f"{step:{widths[0]}}  {way:{widths[1]}}  {came}")


def give_queue(viommu: Viommu, guest: Guest) -> CommandQueue:
    """Do what a VMM does when its guest sets up a vCMDQ: memory of the guest's, registers that it maps."""
    ring = guest.page()
    viommu.hw_queue_alloc(1, 0, ring, 16 << QUEUE_LG2)
    where = ViommuTegra241Cmdqv.decode(viommu.data)
    queue = CommandQueue(guest, viommu.mmap(where.out_vintf_mmap_offset, where.out_vintf_mmap_length), ring)
    queue.enable()
    return queue


def main() -> None:
    """Tell the story."""
    story = Story()
    with Machine("smmuv3_cmdqv", memory="64M", iotlb=Iotlb(entries=1024)) as machine, machine.open_iommufd() as iommu:
        device = iommu.bind(machine.add_device(STREAM))
        info = device.hw_info(3).registers(HwInfoTegra241Cmdqv)
        story.tell("hardware", "GET_HW_INFO", f"{1 << info.log2vcmdqs} vCMDQs, {1 << info.log2vsids} streams a guest")

        ioas, guest = iommu.ioas_alloc(), Guest(machine.buffer("1M"))
        ioas.map(guest.memory, BASE)
        viommu = ioas.hwpt_alloc(device, nest_parent=True).viommu_alloc(device, CMDQV, ViommuTegra241Cmdqv.of())
        viommu.vdevice_alloc(device, GUEST_STREAM)
        events, queue = viommu.veventq_alloc(1), give_queue(viommu, guest)

        root = guest.page()
        cd = CD(T0SZ=16, EPD1=1, V=1, IPS=5, AA64=1, R=1, A=1, ASET=1, ASID=1, TTB0=root, MAIR=0xFF)
        ste = STE(V=1, Config=StreamConfig.STAGE1, S1ContextPtr=guest.page(cd.encode()))
        device.attach(viommu.hwpt_alloc(device, HwptArmSmmuv3.of(ste=ste.encode()[:16])))
        story.tell("guest attaches its STE", "HWPT_ALLOC, attach", "nested")

        page = guest.page()
        guest.map(root, IOVA, page)
        device.dma_write(IOVA, b"hello")
        story.tell("device writes", "DMA", guest.read(page, 5))

        guest.write(guest.leaf(root, IOVA), bytes(8))
        story.tell("guest unmaps, tells nobody", "memory", device.dma_read(IOVA, 5))
        drop = TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, ASID=1, Address=IOVA, Leaf=1)
        queue.submit(drop, SYNC(Opcode=CommandOpcode.SYNC))
        story.tell("guest invalidates", "vCMDQ, no exit", f"{queue.consumed} commands consumed")
        story.tell("device reads again", "DMA", device.dma_read(IOVA, 5))
        record = events.read()[0].data
        event = RECORDS[EventId(record[0])].decode(record)
        story.tell("guest learns of it", "vEVENTQ", f"{EventId(record[0]).name} of stream {event.SID:#x}")

        forget = CFGI_CD(Opcode=CommandOpcode.CFGI_CD, SID=GUEST_STREAM, Leaf=1)
        done = viommu.invalidate([ViommuArmSmmuv3Invalidate.of(cmd=forget.encode())])
        story.tell("guest changes its CD", "HWPT_INVALIDATE, trapped", f"{done} command executed")
        queue.submit(forget)
        story.tell("the same by the vCMDQ", "vCMDQ, no exit", f"refused, still at {queue.consumed}")
        queue.registers.close()
    story.print()
    print(f"\n{machine.summary()}")


main()
