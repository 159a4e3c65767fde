"""Bring an AMD IOMMU up through its registers alone, as a driver does: DMA, unmap, invalidate, fault, recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import Access, Fault, Iotlb, Machine, PhysicalMemory
from viommu_amd_viommu.spec.commands import CompletionWait, InvalidateDevtabEntry, InvalidateIommuPages, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import decode_event
from viommu_amd_viommu.spec.registers import EFR, BufferBase, Control, DeviceTableBase, Status

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.platform import Interrupt
    from viommu_amd_viommu.spec.commands import AnyCommand

DEVTAB, CMDBASE, EVTBASE, CONTROL, CMDTAIL, EVTHEAD, EVTTAIL, STATUS = 0, 8, 0x10, 0x18, 0x2008, 0x2010, 0x2018, 0x2020
MSI_HEADER, MSI_ADDRESS, MSI_DATA = 0x158, 0x15C, 0x164

memory = PhysicalMemory()
ram = memory.add_ram(4 << 20).segments[0].pa
device_table, commands, events, tables, page, semaphore = (ram + n * 0x1_0000 for n in (0, 32, 33, 34, 40, 41))
HARDWARE = EFR(HATS=2, IA=1, HE=1)  # six levels of host tables, INVALIDATE_IOMMU_ALL, hardware-error registers
NIC, DOMAIN, IOVA = 0x0300, 5, 0x10_0000  # device 03:00.0


def interrupted(interrupt: Interrupt) -> None:
    """Tell of an interrupt; a driver would read Status now."""
    print(f"interrupt: {interrupt.source}, data {interrupt.data:#x}")


iommu = Machine("amd_viommu", memory, {"EFR": int(HARDWARE)}, iotlb=Iotlb(), on_interrupt=interrupted)


def write(offset: int, value: int | Descriptor, size: int = 8) -> None:
    """Write a register."""
    iommu.write_register(offset, int(value), size)


def run(*batch: AnyCommand) -> None:
    """Queue commands, and wait for them: hardware stores a number when it is done."""
    number = (memory.load(semaphore) or 0) + 1
    tail = iommu.read_register(CMDTAIL, 8)
    wait = CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, Address=semaphore, Data=number)
    for command in (*batch, wait):
        memory.write(commands + tail, command.encode())
        tail = (tail + command.size) % 0x1000
    write(CMDTAIL, tail)
    if memory.load(semaphore) != number:
        raise SystemExit("the command buffer halted")


def show_events() -> None:
    """Print what is in the event log, and give its entries back to hardware."""
    head, tail = iommu.read_register(EVTHEAD, 8), iommu.read_register(EVTTAIL, 8)
    while head != tail:
        print("event:", decode_event(memory.read(events + head, 16) or bytes(16)))
        head = (head + 16) % 0x1000
    write(EVTHEAD, head)
    write(STATUS, Status(EventLogInt=1))  # cleared by a one; the next event interrupts again


# 1. Tell hardware where things are, then enable it: each queue runs when its Status bit says so.
write(DEVTAB, DeviceTableBase(Base=device_table, Size=511))
write(CMDBASE, BufferBase(Base=commands, Length=8))
write(EVTBASE, BufferBase(Base=events, Length=8))
write(MSI_ADDRESS, 0xFEE0_0000, 4)
write(MSI_DATA, 0x41, 4)
write(MSI_HEADER, 1 << 16, 4)
write(CONTROL, Control(IommuEn=1, CmdBufEn=1, EventLogEn=1, EventIntEn=1, ComWaitIntEn=1, InvTimeOut=4))
status = Status.decode(iommu.read_register(STATUS, 8))
print(f"running: commands {status.CmdBufRun}, events {status.EventLogRun}")

# 2. Attach a device to a three-level table with one page in it.
for level in (2, 1):
    memory.store(tables + (2 - level) * 0x1000, tables + (3 - level) * 0x1000 | level << 9 | 1 | 3 << 61)
slot = tables + 0x2000 + (IOVA >> 12 & 0x1FF) * 8
memory.store(slot, page | 1 | 3 << 61)
entry = DTE(V=1, TV=1, Mode=3, HostPageTableRoot=tables, DomainID=DOMAIN, IR=1, IW=1)
memory.write(device_table + NIC * DTE.size, entry.encode())
run(InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=NIC))

# 3. DMA.
iommu.dma_write(NIC, IOVA + 0x10, b"hello")
print("in memory:", memory.read(page + 0x10, 5))

# 4. Unmap. Until the page is invalidated, hardware may use what it has cached - and does.
memory.store(slot, 0)
print("after unmapping:", iommu.dma_read(NIC, IOVA + 0x10, 5))
run(InvalidateIommuPages(Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=DOMAIN, Address=IOVA))
fault = iommu.dma_read(NIC, IOVA + 0x10, 5)
print("after invalidating:", fault.kind.name if isinstance(fault, Fault) else fault)
show_events()

# 5. A command that hardware does not know halts the buffer. Drop it, and start the buffer again.
tail = iommu.read_register(CMDTAIL, 8)
memory.write(commands + tail, bytes(16))
write(CMDTAIL, tail + 16)
print("running:", Status.decode(iommu.read_register(STATUS, 8)).CmdBufRun)
show_events()
control = Control.decode(iommu.read_register(CONTROL, 8))
write(CONTROL, control.replace(CmdBufEn=0))
write(0x2000, tail + 16)
write(CONTROL, control)

# 6. Map the page again: the device goes on.
memory.store(slot, page | 1 | 3 << 61)
run(InvalidateIommuPages(Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=DOMAIN, Address=IOVA))
print("recovered:", iommu.translate(NIC, IOVA, Access.WRITE))
