"""A unit that the host driver has brought up, on a machine whose memory it is given frame by frame."""

from __future__ import annotations

import mmap
from types import SimpleNamespace
from typing import TYPE_CHECKING

from attrs import define, field

from plugins.vtd.tests.plain_table import PlainTable
from viommu import Iotlb, Machine
from viommu.drivers import bind_plugin
from viommu.faults import Access, Fault
from viommu.memory import PhysicalMemory
from viommu.objects.physical import PhysicalDevice, PhysicalIommu
from viommu_vtd import driver
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host import guest_hooks, hooks, interrupts
from viommu_vtd.host.device import HostDevice
from viommu_vtd.host.extensions import Extensions
from viommu_vtd.host.paging import FirstStageDomain, SecondStageDomain
from viommu_vtd.host.unit import Unit

DRIVER = bind_plugin(SimpleNamespace(**{**vars(driver), **vars(hooks), **vars(guest_hooks)}))

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.platform import Interrupt
    from viommu_vtd.host.table import TableKind
    from viommu_vtd.spec.registers import CAP, ECAP

NONE = Extensions()
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

    def table(self, kind: TableKind) -> PlainTable:
        return PlainTable(self, kind.levels, kind.first_stage)


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
    iommu: PhysicalIommu = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.iommu = PhysicalIommu("unit", self.machine.driver, self.unit)

    @classmethod
    def make(
        cls,
        cap: CAP = FULL_CAP,
        ecap: ECAP = FULL_ECAP,
        *,
        sanitize: bool = False,
        iotlb: bool = True,
        extensions: Extensions = NONE,
    ) -> Hosted:
        memory = PhysicalMemory()
        memory.place(RAM, mmap.mmap(-1, RAM_SIZE))
        heard: list[Interrupt] = []
        units: list[Unit] = []

        def hear(interrupt: Interrupt) -> None:
            heard.append(interrupt)
            for unit in units:
                interrupts.hear(unit, interrupt)

        observed: list[tuple[str, Mapping[str, object]]] = []
        machine = Machine(
            DRIVER,
            memory,
            {"CAP": int(cap), "ECAP": int(ecap)},
            iotlb=Iotlb() if iotlb else None,
            on_interrupt=hear,
            observers=[lambda event, facts: observed.append((event, facts))],
            sanitize=sanitize,
        )
        frames = Bump(memory)
        units.append(Unit.bring_up("unit", memory, frames, Port(machine), frames.table, extensions))
        return cls(machine, frames, units[0], heard, observed)

    @property
    def commands(self) -> dict[str, int]:
        return dict(self.machine.command_counts)

    def device(self, source: int, *, ats: bool = False, page_requests: bool = False, pasids: int = 0) -> HostDevice:
        physical = PhysicalDevice(f"{source:#06x}", self.iommu, source)
        host = HostDevice(physical, self.unit, source, ats, page_requests, pasids)
        physical.data = host
        host.probe()
        return host

    def first_stage(self, levels: int = 4) -> FirstStageDomain:
        return FirstStageDomain(
            table=PlainTable(self.frames, levels, first=True),
            page_sizes=PAGE,
            aperture=(0, (1 << 47) - 1),
            levels=levels,
        )

    def second_stage(self, width: int = 2, *, nest_parent: bool = False, dirty: bool = False) -> SecondStageDomain:
        return SecondStageDomain(
            memory=self.machine.memory,
            table=PlainTable(self.frames, width + 2, first=False),
            page_sizes=PAGE,
            aperture=(0, (1 << 48) - 1),
            width=width,
            bits=9 * width + 30,
            nest_parent=nest_parent,
            dirty_tracking=dirty,
        )

    def reaches(self, source: int, iova: int, pasid: int | None = None, access: Access = Access.READ) -> int | str:
        """The physical address; the reason that is recorded where the access is refused."""
        outcome = self.machine.translate(source, iova, access, pasid)
        return self.machine.report(outcome).reason if isinstance(outcome, Fault) else outcome.pa
