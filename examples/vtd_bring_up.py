"""Bring a VT-d unit up through its registers alone, as a driver does: DMA, unmap, invalidate, fault, recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import Access, Fault, Iotlb, Machine, PhysicalMemory
from viommu_vtd.spec.commands import Invalidation, InvalidationType, InvalidationWait, IotlbInvalidate
from viommu_vtd.spec.faults import FRCD, FSTS
from viommu_vtd.spec.queue_registers import IQERCD
from viommu_vtd.spec.registers import CAP, GCMD, GSTS, RTADDR
from viommu_vtd.spec.root_context import ContextEntry, RootEntry

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.platform import Interrupt

CAP_REG, GCMD_REG, GSTS_REG, RTADDR_REG, FSTS_REG, FECTL, FEDATA, FEADDR = (
    0x08,
    0x18,
    0x1C,
    0x20,
    0x34,
    0x38,
    0x3C,
    0x40,
)
IQH, IQT, IQA, IQERCD_REG = 0x80, 0x88, 0x90, 0xB0

memory = PhysicalMemory()
ram = memory.add_ram(1 << 20).segments[0].pa
root_table, context_table, queue, tables, page, status = (ram + n * 0x1_0000 for n in range(6))
NIC, DOMAIN, IOVA = 0x0100, 5, 0x10_0000  # device 01:00.0
DONE = 2


def interrupted(interrupt: Interrupt) -> None:
    """Tell of an interrupt; a driver would read FSTS now."""
    print(f"interrupt: {interrupt.source}, data {interrupt.data:#x}")


unit = Machine("vtd", memory, iotlb=Iotlb(), on_interrupt=interrupted)  # told of no capability, it has them all


def write(offset: int, value: int | Descriptor, size: int = 4) -> None:
    """Write a register."""
    unit.write_register(offset, int(value), size)


def command(command: GCMD, done: int) -> None:
    """Give one global command, and wait until GSTS tells that it is done. What is on, stays on."""
    on = unit.read_register(GSTS_REG) & int(GCMD(TE=1, QIE=1, IRE=1, CFI=1))
    write(GCMD_REG, int(command) | on)
    if not unit.read_register(GSTS_REG) & done:
        raise SystemExit("the unit does not do as it is told")


def submit(*descriptors: Descriptor) -> bool:
    """Queue descriptors and wait for them: hardware stores DONE when all are executed. False where it stopped."""
    memory.store(status, 0)
    wait = InvalidationWait(Type=InvalidationType.WAIT, SW=1, STDATA=DONE, STADDR=status)
    tail = unit.read_register(IQT, 8)
    for descriptor in (*descriptors, wait):
        memory.write(queue + tail, descriptor.encode())
        tail = (tail + descriptor.size) % 0x1000
    write(IQT, tail, 8)
    return memory.load(status) == DONE


def show_fault() -> None:
    """Print the recorded fault, and give the record back to hardware."""
    record = 0x10 * CAP.decode(unit.read_register(CAP_REG, 8)).FRO
    record += FRCD.size * FSTS.decode(unit.read_register(FSTS_REG)).FRI
    low, high = unit.read_register(record, 8), unit.read_register(record + 8, 8)
    print("fault:", FRCD.decode(low | high << 64))
    write(record + 8, 1 << 63, 8)


# 1. The fault interrupt, the root table, the invalidation queue; translation last.
write(FEDATA, 0x41)
write(FEADDR, 0xFEE0_0000)
write(FECTL, 0)
write(RTADDR_REG, RTADDR(RTA=root_table), 8)
command(GCMD(SRTP=1), int(GSTS(RTPS=1)))
write(IQT, 0, 8)
write(IQA, queue, 8)
command(GCMD(QIE=1), int(GSTS(QIES=1)))
command(GCMD(TE=1), int(GSTS(TES=1)))
print("running:", GSTS.decode(unit.read_register(GSTS_REG)))

# 2. Attach a device to a four-level second stage with one page in it.
for level in range(3):
    memory.store(tables + level * 0x1000, tables + (level + 1) * 0x1000 | 3)
slot = tables + 0x3000 + (IOVA >> 12 & 0x1FF) * 8
memory.store(slot, page | 3)
memory.write(context_table + (NIC & 0xFF) * 16, ContextEntry(P=1, AW=2, DID=DOMAIN, SSPTPTR=tables).encode())
memory.write(root_table + (NIC >> 8) * 16, RootEntry(P=1, CTP=context_table).encode())

# 3. DMA.
unit.dma_write(NIC, IOVA + 0x10, b"hello")
print("in memory:", memory.read(page + 0x10, 5))

# 4. Unmap. Until the page is invalidated, hardware may use what it has cached - and does.
memory.store(slot, 0)
print("after unmapping:", unit.dma_read(NIC, IOVA + 0x10, 5))
submit(IotlbInvalidate(Type=InvalidationType.IOTLB, G=3, DID=DOMAIN, ADDR=IOVA, DR=1, DW=1))
fault = unit.dma_read(NIC, IOVA + 0x10, 5)
print("after invalidating:", fault.kind.name if isinstance(fault, Fault) else fault)
show_fault()

# 5. A descriptor that hardware does not know stops the queue at itself. Put another in its place, and clear IQE.
if not submit(Invalidation(Type=15)):
    print("stopped:", IQERCD.decode(unit.read_register(IQERCD_REG, 8)), f"at {unit.read_register(IQH, 8):#x}")
memory.write(queue + unit.read_register(IQH, 8), IotlbInvalidate(Type=InvalidationType.IOTLB, G=1).encode())
write(FSTS_REG, FSTS(IQE=1))
print("going on:", memory.load(status) == DONE, FSTS.decode(unit.read_register(FSTS_REG)))

# 6. Map the page again: the device goes on. Nothing that is not present was cached, so nothing is invalidated.
memory.store(slot, page | 3)
print("recovered:", unit.translate(NIC, IOVA, Access.WRITE))
