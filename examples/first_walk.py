"""Put a VT-d page table into memory by hand, and send a DMA through it."""

from viommu import Access, Machine, PhysicalMemory

ROOT, CONTEXT, TABLES = 0x1000, 0x2000, 0x1_0000
memory = PhysicalMemory()
memory.place(0, bytearray(0x4_0000))

memory.store(ROOT, CONTEXT | 1)  # bus 0: present
memory.store(CONTEXT + 0x80, TABLES | 1)  # device 01.0: present, second stage at TABLES ...
memory.store(CONTEXT + 0x88, 0x502)  # ... 4 levels, DomainID 5
for level in range(3):
    memory.store(TABLES + level * 0x1000, TABLES + (level + 1) * 0x1000 | 3)
memory.store(TABLES + 0x3000 + 8 * 4, 0x3_7000 | 1)  # IOVA 0x4000 -> 0x37000, read only

CAP, ECAP = 0x80D2008C222F0606, 0xF00F4E  # what the hardware can do: as QEMU's emulated unit says
machine = Machine("vtd", memory, {"CAP": CAP, "ECAP": ECAP, "GSTS": 1 << 31, "RTADDR": ROOT})

print(machine.translate(0x08, 0x4123))
fault = machine.translate(0x08, 0x4123, Access.WRITE)
print(fault.kind.name, machine.report(fault).reason)
print(machine.explain(0x08, 0x4123))
