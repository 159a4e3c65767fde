"""Bring an SMMUv3 up through its registers alone, as a driver does: DMA, unmap, invalidate, fault, recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import Fault, Iotlb, Machine, PhysicalMemory, Translation
from viommu_smmuv3_cmdqv import explain
from viommu_smmuv3_cmdqv.spec import queue_registers as queues
from viommu_smmuv3_cmdqv.spec.commands import CFGI_STE, CFGI_STE_RANGE, RESUME, SYNC, TLBI_NH_VA, TLBI_NSNH_ALL, Command
from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode as Op
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS
from viommu_smmuv3_cmdqv.spec.registers import CR0, CR2, IDR0, IDR1, STRTAB_BASE, STRTAB_BASE_CFG
from viommu_smmuv3_cmdqv.spec.stream_table import STE

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.platform import Interrupt

memory = PhysicalMemory()
ram = memory.add_ram(2 << 20).segments[0].pa
stream_table, commands, events, cd, tables, page, page2 = (ram + n * 0x1_0000 for n in range(1, 8))
NIC, ASID, IOVA, LG2 = 0x10, 1, 0x20_0000, 6  # queues have 2^LG2 entries
LEAF, TABLE = 0xC43, 3  # a page: valid, read-write for all, access flag, not global


def interrupted(interrupt: Interrupt) -> None:
    """Tell of an interrupt; a driver would read GERROR or the event queue now."""
    print(f"interrupt: {interrupt.source}")


smmu = Machine("smmuv3_cmdqv", memory, iotlb=Iotlb(), on_interrupt=interrupted)


def read(name: str) -> int:
    """Read a register."""
    offset, layout = REGISTERS[name]
    return smmu.read_register(offset, layout.size)


def write(name: str, value: int | Descriptor) -> None:
    """Write a register."""
    offset, layout = REGISTERS[name]
    smmu.write_register(offset, int(value), layout.size)


def switch(**fields: int) -> None:
    """Switch something on, and wait until hardware acknowledges it."""
    value = int(CR0.decode(read("CR0")).replace(**fields))
    write("CR0", value)
    if read("CR0ACK") != value:
        raise SystemExit("the SMMU does not answer")


def run(*batch: Command) -> None:
    """Queue commands and a SYNC, and ring the doorbell; hardware's end of the queue says what is done."""
    prod = read("CMDQ_PROD")
    for command in (*batch, SYNC(Opcode=Op.SYNC)):
        memory.write(commands + prod % (1 << LG2) * command.size, command.encode())
        prod = (prod + 1) % (2 << LG2)
    write("CMDQ_PROD", prod)


def show_events() -> None:
    """Print what is in the event queue, and give its entries back to hardware."""
    prod = queues.EVENTQ_PROD.decode(read("EVENTQ_PROD"))
    cons = queues.EVENTQ_CONS.decode(read("EVENTQ_CONS")).RD
    while cons != prod.WR:
        event = explain.decode("event", memory.read(events + cons % (1 << LG2) * 32, 32) or bytes(32))
        print(f"event: {event.name}, {event.meaning}")
        cons = (cons + 1) % (2 << LG2)
    write("EVENTQ_CONS", queues.EVENTQ_CONS(RD=cons, OVACKFLG=prod.OVFLG))


def dma(what: str) -> None:
    """Have the device read five bytes, and say how that went."""
    got = smmu.dma_read(NIC, IOVA, 5)
    print(f"{what}:", got.kind.name if isinstance(got, Fault) else got)


# 1. Look at what there is, tell hardware where things are, and switch them on one by one.
idr0, idr1 = IDR0.decode(read("IDR0")), IDR1.decode(read("IDR1"))
print(f"found: stages {idr0.S1P}+{idr0.S2P}, {idr1.SIDSIZE} bits of StreamID, ATS {idr0.ATS}, PRI {idr0.PRI}")
write("CR0", 0)
write("CR2", CR2(PTM=1, RECINVSID=1))
write("STRTAB_BASE", STRTAB_BASE(ADDR=stream_table))
write("STRTAB_BASE_CFG", STRTAB_BASE_CFG(LOG2SIZE=8))
write("CMDQ_BASE", queues.CMDQ_BASE(ADDR=commands, LOG2SIZE=LG2))
switch(CMDQEN=1)
run(CFGI_STE_RANGE(Opcode=Op.CFGI_STE_RANGE, Range=31), TLBI_NSNH_ALL(Opcode=Op.TLBI_NSNH_ALL))
write("EVENTQ_BASE", queues.EVENTQ_BASE(ADDR=events, LOG2SIZE=LG2))
switch(EVTQEN=1)
write("IRQ_CTRL", queues.IRQ_CTRL(GERROR_IRQEN=1, EVENTQ_IRQEN=1))
switch(SMMUEN=1)
print(f"running: CR0ACK {read('CR0ACK'):#x}, commands done {read('CMDQ_CONS')}")

# 2. Attach the device to a page table with one page, and let it write.
for level in range(3):
    memory.store(
        tables + level * 0x1000 + (IOVA >> (39 - 9 * level) & 0x1FF) * 8, tables + (level + 1) * 0x1000 | TABLE
    )
entry = tables + 0x3000 + (IOVA >> 12 & 0x1FF) * 8
memory.store(entry, page | LEAF)
memory.write(cd, CD(V=1, AA64=1, A=1, R=1, S=1, ASID=ASID, T0SZ=16, IPS=5, EPD1=1, TTB0=tables).encode())
memory.write(stream_table + NIC * STE.size, STE(V=1, Config=5, S1ContextPtr=cd, MEV=1).encode())
run(CFGI_STE(Opcode=Op.CFGI_STE, SID=NIC, Leaf=1))
smmu.dma_write(NIC, IOVA, b"hello")
print("in memory:", memory.read(page, 5))

# 3. Unmap. What is cached serves until it is invalidated; then the device waits for software.
memory.store(entry, 0)
dma("after unmapping")
run(TLBI_NH_VA(Opcode=Op.TLBI_NH_VA, ASID=ASID, Address=IOVA, TG=1, TTL=3, Leaf=1))
dma("after invalidating")
show_events()

# 4. Map another page and have the stalled access tried again.
memory.store(entry, page2 | LEAF)
run(RESUME(Opcode=Op.RESUME, SID=NIC, STAG=0, Ac=1))
for _, ended in smmu.resumed:
    print(
        "resumed:", f"at {ended.pa - page2:#x} of the new page" if isinstance(ended, Translation) else "refused again"
    )

# 5. Send nonsense. The queue stops there; mend the command, acknowledge, and it goes on.
run(Command())
cons = queues.CMDQ_CONS.decode(read("CMDQ_CONS"))
print(f"stopped: {queues.CommandError(cons.ERR).name}")
memory.write(commands + cons.RD % (1 << LG2) * 16, SYNC(Opcode=Op.SYNC).encode())
write("GERRORN", read("GERROR"))
print("recovered:", "all done" if read("CMDQ_PROD") == queues.CMDQ_CONS.decode(read("CMDQ_CONS")).RD else "no")
