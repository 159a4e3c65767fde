"""Software that programs a remapping unit through its registers, and hears its interrupts."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

from attrs import define, field

from plugins.vtd.tests.guest import RAM, RAM_SIZE, Guest
from viommu import Iotlb, Machine, drivers
from viommu.memory import PhysicalMemory
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP, declared
from viommu_vtd.spec.faults import FRCD, FSTS
from viommu_vtd.spec.queue_registers import IQERCD
from viommu_vtd.spec.registers import CAP, ECAP, GCMD, GSTS, RTADDR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor
    from viommu.platform import Interrupt

DRIVER = drivers.bind("vtd")
SWITCHES = {"TES": "TE", "QIES": "QIE", "IRES": "IRE", "CFIS": "CFI"}
DONE = 0x600D_600D


@define(eq=False)
class Software:
    """A driver of one unit, whose tables `guest` writes."""

    guest: Guest
    machine: Machine
    heard: list[Interrupt]
    observed: list[tuple[str, Mapping[str, object]]]
    on_interrupt: list[Any] = field(factory=list)
    wide: bool = False
    queue: int = 0
    queue_size: int = 0
    status: int = 0

    @classmethod
    def make(cls, cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP, **registers: int) -> Software:
        memory = PhysicalMemory()
        memory.place(RAM, mmap.mmap(-1, RAM_SIZE))
        heard: list[Interrupt] = []
        observed: list[tuple[str, Mapping[str, object]]] = []
        handlers: list[Any] = []

        def hear(interrupt: Interrupt) -> None:
            heard.append(interrupt)
            for handler in handlers:
                handler(interrupt)

        machine = Machine(
            DRIVER,
            memory,
            {"CAP": int(cap), "ECAP": int(ecap), **registers},
            iotlb=Iotlb(),
            on_interrupt=hear,
            observers=[lambda event, facts: observed.append((event, facts))],
        )
        return cls(Guest(memory, cap=cap, ecap=ecap), machine, heard, observed, handlers)

    def _register(self, name: str) -> tuple[int, int]:
        register = declared(self.guest.cap, self.guest.ecap)[name]
        return register.offset, register.size

    def read(self, name: str) -> int:
        return self.machine.read_register(*self._register(name))

    def write(self, name: str, value: Descriptor | int) -> None:
        offset, size = self._register(name)
        self.machine.write_register(offset, int(value), size)

    @property
    def gsts(self) -> GSTS:
        return GSTS.decode(self.read("GSTS"))

    @property
    def fsts(self) -> FSTS:
        return FSTS.decode(self.read("FSTS"))

    @property
    def queue_error(self) -> IQERCD:
        return IQERCD.decode(self.read("IQERCD"))

    def record(self, index: int = 0) -> FRCD:
        return FRCD.decode(self.read(f"FRCD{index}_LO") | self.read(f"FRCD{index}_HI") << 64)

    def command(self, **bits: int) -> None:
        """Give one global command: a copy of the status with one bit changed."""
        kept = {command: getattr(self.gsts, status) for status, command in SWITCHES.items()}
        self.write("GCMD", GCMD(**{**kept, **bits}))

    def set_root(self) -> None:
        self.write("RTADDR", RTADDR(TTM=self.guest.mode, RTA=self.guest.root))
        self.command(SRTP=1)

    def enable(self) -> None:
        self.set_root()
        self.command(TE=1)

    def enable_queue(self, *, wide: bool | None = None, pages_lg2: int = 0) -> None:
        self.wide = bool(self.guest.mode) if wide is None else wide
        self.queue = self.guest.page()
        while self.guest.next_page < self.queue + (0x1000 << pages_lg2):
            self.guest.page()
        self.queue_size = 0x1000 << pages_lg2
        self.status = self.guest.page()
        self.write("IQT", 0)
        self.write("IQA", self.queue | int(self.wide) << 11 | pages_lg2)
        self.command(QIE=1)

    @property
    def width(self) -> int:
        return 32 if self.wide else 16

    def put(self, *commands: Descriptor | bytes) -> int:
        """Write descriptors at the tail, without telling; gives the new tail."""
        tail = self.read("IQT")
        for command in commands:
            raw = command if isinstance(command, bytes) else command.encode()
            assert self.guest.memory.write(self.queue + tail, raw.ljust(self.width, b"\0"))
            tail = (tail + self.width) % self.queue_size
        return tail

    def submit(self, *commands: Descriptor | bytes) -> None:
        self.write("IQT", self.put(*commands))
