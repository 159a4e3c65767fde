"""A unit that the host driver has brought up, on a machine whose memory it is given frame by frame."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from attrs import define, field

from plugins.vtd.tests.programming import DRIVER
from viommu import Iotlb, Machine
from viommu.memory import PhysicalMemory
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host.unit import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.platform import Interrupt
    from viommu_vtd.spec.registers import CAP, ECAP

RAM = 0x1_0000_0000
RAM_SIZE = 16 << 20
PAGE = 4096


@define(eq=False)
class Bump:
    """Frames one after the other; what was given back is given out again, cleaned."""

    memory: PhysicalMemory
    next: int = RAM
    free_runs: dict[int, list[int]] = field(factory=dict)
    taken: dict[int, int] = field(factory=dict)

    def allocate(self, pages: int = 1) -> int:
        runs = self.free_runs.get(pages)
        if runs:
            pa = runs.pop()
            self.memory.write(pa, bytes(pages * PAGE))
        else:
            pa, self.next = self.next, self.next + pages * PAGE
            assert self.next <= RAM + RAM_SIZE
        self.taken[pa] = pages
        return pa

    def free(self, pa: int, pages: int = 1) -> None:
        assert self.taken.pop(pa) == pages
        self.free_runs.setdefault(pages, []).append(pa)


@define(eq=False)
class Port:
    """The registers of a machine's unit."""

    machine: Machine

    def read(self, offset: int, size: int) -> int:
        return self.machine.read_register(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.machine.write_register(offset, value, size)


@define(eq=False)
class Hosted:
    """The machine, what it was heard to say, and the unit as its driver sees it."""

    machine: Machine
    frames: Bump
    unit: Unit
    heard: list[Interrupt]
    observed: list[tuple[str, Mapping[str, object]]]

    @classmethod
    def make(cls, cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP, *, sanitize: bool = False) -> Hosted:
        memory = PhysicalMemory()
        memory.place(RAM, mmap.mmap(-1, RAM_SIZE))
        heard: list[Interrupt] = []
        observed: list[tuple[str, Mapping[str, object]]] = []
        machine = Machine(
            DRIVER,
            memory,
            {"CAP": int(cap), "ECAP": int(ecap)},
            iotlb=Iotlb(),
            on_interrupt=heard.append,
            observers=[lambda event, facts: observed.append((event, facts))],
            sanitize=sanitize,
        )
        frames = Bump(memory)
        return cls(machine, frames, Unit.bring_up("unit", memory, frames, Port(machine)), heard, observed)

    @property
    def commands(self) -> dict[str, int]:
        return dict(self.machine.command_counts)
