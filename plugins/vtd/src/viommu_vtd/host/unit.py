"""One remapping unit as its driver knows it: brought up, its tables, its queues, its devices."""

from __future__ import annotations

from collections import deque
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.numbers import Numbers
from viommu_vtd.host import requests
from viommu_vtd.host.abilities import Abilities
from viommu_vtd.host.queue import InvalidationQueue
from viommu_vtd.host.registers import UnitRegisters
from viommu_vtd.host.tables import RootTable
from viommu_vtd.spec.queue_registers import PQA, PQH, PQT
from viommu_vtd.spec.registers import RTADDR, TranslationTableMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.objects.physical import Mmio
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.extensions import Extensions
    from viommu_vtd.host.frames import Frames
    from viommu_vtd.host.queue import QueueFault
    from viommu_vtd.host.table import TableMaker
    from viommu_vtd.spec.faults import FRCD

PAGE_REQUEST_PAGES_LG2 = 4
"""2048 page requests."""

MESSAGES = {"FE": 0x30, "PE": 0x31}
"""Interrupt vectors of fault and page-request events. Nobody waits for invalidation events: those stay masked."""

MESSAGE_ADDRESS = 0xFEE0_0000

MOST_FAULTS = 1024


@define(eq=False)
class Unit:
    """A unit. ``lock`` guards its tables, DIDs and devices; interrupt handlers do without it."""

    name: str
    memory: PhysicalMemory
    frames: Frames
    registers: UnitRegisters
    able: Abilities
    root: RootTable
    queue: InvalidationQueue
    ids: Numbers
    """DIDs: the tags that its caches know domains by."""
    page_requests: int
    """Physical address of the page request queue; 0 where there is none."""
    make_table: TableMaker
    extensions: Extensions
    devices: dict[int, HostDevice] = field(factory=dict)
    lock: RLock = field(factory=RLock)
    caching_mode: bool = field(init=False)
    """What is not present may be cached (asked at each map, hence kept)."""
    faults: deque[FRCD] = field(factory=lambda: deque(maxlen=MOST_FAULTS))
    """Records of refused accesses, as a kernel's log keeps them; the oldest go first."""

    def __attrs_post_init__(self) -> None:
        self.caching_mode = bool(self.registers.cap.CM)

    @classmethod
    def bring_up(
        cls,
        name: str,
        memory: PhysicalMemory,
        frames: Frames,
        port: Mmio,
        make_table: TableMaker,
        extensions: Extensions,
    ) -> Unit:
        """Make the unit's structures, hand them to it, and switch translation on: every device is blocked then.

        Raises NoMemory.
        """
        registers = UnitRegisters(port)
        able = Abilities(registers.cap, registers.ecap)
        pages_lg2 = 1 if able.scalable else 0  # 256 descriptors, of 256 bits or of 128
        base = frames.allocate(1 << pages_lg2)
        queue = InvalidationQueue(registers, memory, base, pages_lg2, frames.allocate())
        asks = able.scalable and registers.ecap.PRS
        unit = cls(
            name,
            memory,
            frames,
            registers,
            able,
            RootTable(memory, frames, able.scalable),
            queue,
            Numbers("DID", able.domain_ids),
            frames.allocate(1 << PAGE_REQUEST_PAGES_LG2) if asks else 0,
            make_table,
            extensions,
        )
        unit.start()
        return unit

    def start(self) -> None:
        """Hand everything to hardware, translation last."""
        self.queue.enable()
        if self.page_requests:
            self.registers.write(PQH())
            self.registers.write(PQT())
            self.registers.write(PQA(PQS=PAGE_REQUEST_PAGES_LG2, Address=self.page_requests))
        for event, vector in MESSAGES.items():
            self._listen(event, vector)
        mode = TranslationTableMode.SCALABLE if self.able.scalable else TranslationTableMode.LEGACY
        self.registers.write(RTADDR(TTM=mode, RTA=self.root.address))
        self.registers.command(SRTP=1)
        if not self.registers.cap.ESRTPS:
            self._forget_everything()
        self.registers.command(TE=1)

    def stop(self) -> None:
        """Switch translation off, and give memory back."""
        self.registers.command(TE=0)
        for event in MESSAGES:
            self.registers.write_event(f"{event}CTL", 1 << 31)
        self.registers.command(QIE=0)
        self.root.free()
        self.frames.free(self.queue.base, 1 << self.queue.pages_lg2)
        self.frames.free(self.queue.status)
        if self.page_requests:
            self.registers.write(PQA())
            self.frames.free(self.page_requests, 1 << PAGE_REQUEST_PAGES_LG2)

    def submit(self, descriptors: Sequence[Descriptor], *, drain: bool = False) -> QueueFault | None:
        """Have the host's own descriptors executed. A device that does not answer is told; a refusal is our bug."""
        fault = self.queue.submit(descriptors, drain=drain)
        if fault is not None and fault.index is not None:
            raise AssertionError(f"{self.name} refuses {descriptors[fault.index]!r}: IQEI {fault.error}")
        return fault

    def _listen(self, event: str, vector: int) -> None:
        self.registers.write_event(f"{event}DATA", vector)
        self.registers.write_event(f"{event}ADDR", MESSAGE_ADDRESS)
        self.registers.write_event(f"{event}UADDR", 0)
        self.registers.write_event(f"{event}CTL", 0)

    def _forget_everything(self) -> None:
        """Without ESRTPS a new root table leaves caches as they were."""
        pasids = [requests.pasids_globally()] if self.able.scalable else []
        self.submit([requests.contexts_globally(), *pasids, requests.iotlb_globally()])
