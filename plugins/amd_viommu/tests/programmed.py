"""An AMD IOMMU that is set up through its registers alone, as a driver does it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from viommu import Access, Fault, Iotlb, Machine, PhysicalMemory, Translation
from viommu.drivers import bind_plugin
from viommu_amd_viommu import driver
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import AnyEvent, decode_event
from viommu_amd_viommu.spec.page_requests import PPRLogEntry
from viommu_amd_viommu.spec.registers import EFR, EFR2, BufferBase, Control, DeviceTableBase, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.platform import Interrupt
    from viommu_amd_viommu.spec.commands import AnyCommand

RAM, RAM_SIZE = 0x1000_0000, 0x80_0000
DEVICE_TABLE, COMMANDS, EVENTS, EVENTS_B, PPRS, PPRS_B = (RAM + n * 0x10_0000 for n in range(6))
TABLES = RAM + 0x60_0000
HOLE = 0x7000_0000
DEVICE = 0x123
HOST_PAGE = 1 | 3 << 61
GUEST_PAGE = 0b111

HAS = (
    *("GT", "NX", "HA", "HD", "PreF", "PPR", "XT", "IA", "HE", "GA"),
    *("PPROverflowEarly", "PPRAutoRsp", "V2HADis", "V2HDDis", "MsiCapMmio"),
)
FEATURES = dict.fromkeys(HAS, 1) | {
    **dict.fromkeys(("HATS", "GLX", "DualPPRLog", "DualEventLog"), 2),
    "GATS": 1,
    "PASmax": 19,
    "DevTblSeg": 3,
}
USED = (
    *("IommuEn", "GTEn", "CmdBufEn", "ComWaitIntEn", "EventLogEn", "EventIntEn"),
    *("PPRLogEn", "PPRIntEn", "PPREn"),
)
ENABLED = dict.fromkeys(USED, 1) | {"InvTimeOut": 4}


@define
class Programmed:
    """A machine, its tables and queues. ``length`` is log2 of the entries of each queue."""

    length: int = 8
    features: Mapping[str, int] = field(factory=lambda: FEATURES)
    vectors: int = 0
    walk_cache_entries: int = 0
    memory: PhysicalMemory = field(factory=PhysicalMemory)
    interrupts: list[Interrupt] = field(factory=list)
    observed: list[tuple[str, Mapping[str, object]]] = field(factory=list)
    machine: Machine = field(init=False)
    _next_page: int = TABLES

    def __attrs_post_init__(self) -> None:
        self.memory.place(RAM, np.zeros(RAM_SIZE, np.uint8))
        registers = {
            "EFR": int(EFR(**self.features)),
            "EFR2": int(EFR2(GCR3TRPMode=1)),
            "MSIVECTOR0": self.vectors,
        }
        self.machine = Machine(
            bind_plugin(driver),
            self.memory,
            registers,
            iotlb=Iotlb(entries=None),
            walk_cache_entries=self.walk_cache_entries,
            on_interrupt=self.interrupts.append,
            observers=[lambda event, facts: self.observed.append((event, facts))],
        )

    def read(self, name: str) -> int:
        register = REGISTERS[name]
        return self.machine.read_register(register.offset, register.size)

    def write(self, name: str, value: int) -> None:
        register = REGISTERS[name]
        self.machine.write_register(register.offset, value, register.size)

    @property
    def status(self) -> Status:
        return Status.decode(self.read("STATUS"))

    @property
    def control(self) -> Control:
        return Control.decode(self.read("CONTROL"))

    def switch(self, **bits: int) -> None:
        self.write("CONTROL", int(self.control.replace(**bits)))

    def start(self, **bits: int) -> Programmed:
        self.write("DEVTAB", int(DeviceTableBase(Base=DEVICE_TABLE, Size=0xFF)))
        for name, base in {
            "CMDBASE": COMMANDS,
            "EVTBASE": EVENTS,
            "EVTBBASE": EVENTS_B,
            "PPRBASE": PPRS,
            "PPRBBASE": PPRS_B,
        }.items():
            self.write(name, int(BufferBase(Base=base, Length=self.length)))
        self.message()
        self.switch(**(ENABLED | bits))
        return self

    def message(self, address: int = 0xFEE0_0000, data: int = 0x4041) -> None:
        self.write("MSIADDRLO", address & 0xFFFF_FFFF)
        self.write("MSIADDRHI", address >> 32)
        self.write("MSIDATA", data)
        self.write("MSICAP", 1 << 16)

    @property
    def queue_bytes(self) -> int:
        return 16 << self.length

    def submit(self, *commands: AnyCommand | bytes) -> None:
        """Append commands, and ring the doorbell once."""
        tail = self.read("CMDTAIL")
        base = self.read("CMDBASE") & 0x000F_FFFF_FFFF_F000
        for command in commands:
            raw = command if isinstance(command, bytes) else command.encode()
            assert self.memory.write(base + tail, raw)
            tail = (tail + 16) % self.queue_bytes
        self.write("CMDTAIL", tail)

    @property
    def idle(self) -> bool:
        return self.read("CMDHEAD") == self.read("CMDTAIL")

    def events(self, log: str = "EVT") -> list[AnyEvent]:
        """Take what lies in an event log."""
        return [decode_event(raw) for raw in self._take(log)]

    def page_requests(self, log: str = "PPR") -> list[PPRLogEntry]:
        return [PPRLogEntry.decode(raw) for raw in self._take(log)]

    def _take(self, log: str) -> list[bytes]:
        base = self.read(f"{log}BASE") & 0x000F_FFFF_FFFF_F000
        head, tail = self.read(f"{log}HEAD"), self.read(f"{log}TAIL")
        taken = []
        while head != tail:
            raw = self.memory.read(base + head, 16)
            assert raw is not None
            taken.append(raw)
            head = (head + 16) % self.queue_bytes
        self.write(f"{log}HEAD", head)
        return taken

    def page(self) -> int:
        self._next_page += 0x1000
        return self._next_page

    def store(self, address: int, value: int) -> None:
        assert self.memory.store(address, value)

    def device(self, requester: int = DEVICE, **fields: int) -> None:
        entry = DTE(**{"V": 1, "TV": 1, "IR": 1, "IW": 1, "DomainID": 0x77} | fields)
        assert self.memory.write(DEVICE_TABLE + requester * DTE.size, entry.encode())

    def host(self, requester: int = DEVICE, **fields: int) -> int:
        """Give a device host tables of one level, for the first 2 MiB; the table is returned."""
        table = self.page()
        self.device(requester, **{"Mode": 1, "HostPageTableRoot": table} | fields)
        return table

    def guest(self, pasid: int = 5, requester: int = DEVICE, **fields: int) -> int:
        """Give a device guest tables for one PASID; the last table, for the first 2 MiB, is returned."""
        gcr3, tables = self.page(), [self.page() for _ in range(4)]
        self.store(gcr3 + 8 * pasid, tables[0] | 1)
        for above, below in pairwise(tables):
            self.store(above, below | GUEST_PAGE)
        self.device(requester, **{"GV": 1, "GCR3": gcr3} | fields)
        return tables[-1]

    def pa(self, iova: int, access: Access = Access.READ, pasid: int | None = None, requester: int = DEVICE) -> int:
        found = self.machine.translate(requester, iova, access, pasid)
        assert isinstance(found, Translation), found
        return found.pa

    def fault(
        self, iova: int, access: Access = Access.READ, pasid: int | None = None, requester: int = DEVICE
    ) -> Fault:
        found = self.machine.translate(requester, iova, access, pasid)
        assert isinstance(found, Fault), found
        return found
