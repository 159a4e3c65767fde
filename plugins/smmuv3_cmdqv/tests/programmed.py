"""Software that programs an SMMUv3 as a kernel does: through registers, queues in memory, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from plugins.smmuv3_cmdqv.tests.guest import HOLE, RAM, STREAM, USER_PAGE, Guest
from viommu import Access, Fault, Iotlb, Machine, Translation
from viommu.drivers import bind_plugin
from viommu_smmuv3_cmdqv import driver
from viommu_smmuv3_cmdqv.identity import WHOLE_MODEL
from viommu_smmuv3_cmdqv.spec import LAYOUTS
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId, EventRecord
from viommu_smmuv3_cmdqv.spec.page_requests import PageRequestRecord
from viommu_smmuv3_cmdqv.spec.queue_registers import (
    CMDQ_BASE,
    CMDQ_CONS,
    EVENTQ_BASE,
    EVENTQ_CONS,
    EVENTQ_PROD,
    GERROR,
    IRQ_CTRL,
    PRIQ_BASE,
    PRIQ_CONS,
    PRIQ_PROD,
)
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS
from viommu_smmuv3_cmdqv.spec.registers import CR0, CR2, STRTAB_BASE, STRTAB_BASE_CFG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.layout import Descriptor
    from viommu.platform import Interrupt

DRIVER = bind_plugin(driver)
PAGE = 0x1000
TARGET = 0x1_0000_0000
"""Where pages lead to; nobody reads there."""


@define
class Programmed(Guest):
    """An SMMU that is switched on, with IOTLB. ``identity`` changes what it can do: (register, field) -> value."""

    identity: dict[tuple[str, str], int] = field(factory=dict)
    command_lg2: int = 4
    event_lg2: int = 4
    request_lg2: int = 4
    on: bool = True
    machine: Machine = field(init=False)
    interrupts: list[Interrupt] = field(factory=list)
    handler: Callable[[Interrupt], None] | None = None
    told: list[tuple[str, Mapping[str, object]]] = field(factory=list)
    command_queue: int = 0
    event_queue: int = 0
    request_queue: int = 0

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.machine = Machine(
            DRIVER,
            self.memory,
            self._identity(),
            iotlb=Iotlb(entries=None),
            on_interrupt=self._interrupted,
            observers=[lambda event, facts: self.told.append((event, facts))],
        )
        if self.on:
            self.bring_up()

    def _interrupted(self, interrupt: Interrupt) -> None:
        self.interrupts.append(interrupt)
        if self.handler is not None:
            self.handler(interrupt)

    def _identity(self) -> dict[str, int]:
        values = dict(WHOLE_MODEL)
        for (name, bits), value in self.identity.items():
            values[name] = int(LAYOUTS[name].decode(values[name]).replace(**{bits: value}))
        return values

    def bring_up(self) -> None:
        """Do what a driver does before the first DMA."""
        self.command_queue = self.take(max(32, 16 << self.command_lg2))
        self.event_queue = self.take(32 << self.event_lg2)
        self.request_queue = self.take(max(32, 16 << self.request_lg2))
        self.program("STRTAB_BASE", STRTAB_BASE(ADDR=self.registers[STRTAB_BASE]["ADDR"]))
        self.program("STRTAB_BASE_CFG", STRTAB_BASE_CFG(LOG2SIZE=8))
        self.program("CR2", CR2(RECINVSID=1))
        self.program("CMDQ_BASE", CMDQ_BASE(ADDR=self.command_queue, LOG2SIZE=self.command_lg2))
        self.program("EVENTQ_BASE", EVENTQ_BASE(ADDR=self.event_queue, LOG2SIZE=self.event_lg2))
        self.program("PRIQ_BASE", PRIQ_BASE(ADDR=self.request_queue, LOG2SIZE=self.request_lg2))
        self.program("IRQ_CTRL", IRQ_CTRL(GERROR_IRQEN=1, EVENTQ_IRQEN=1, PRIQ_IRQEN=1))
        self.program("CR0", CR0(SMMUEN=1, CMDQEN=1, EVTQEN=1, PRIQEN=1, ATSCHK=1))

    # Registers.

    def program(self, name: str, value: Descriptor | int) -> None:
        offset, layout = REGISTERS[name]
        self.machine.write_register(offset, int(value), layout.size)

    def register(self, name: str) -> int:
        offset, layout = REGISTERS[name]
        return self.machine.read_register(offset, layout.size)

    def change(self, name: str, **fields: int) -> None:
        _, layout = REGISTERS[name]
        self.program(name, layout.decode(self.register(name)).replace(**fields))

    # Commands.

    def send(self, *commands: Descriptor) -> None:
        """Put commands into the queue and ring its doorbell once."""
        self.queue(*commands)
        self.program("CMDQ_PROD", self._prod)

    def queue(self, *commands: Descriptor) -> None:
        """Put commands into the queue without telling."""
        self._prod = self.register("CMDQ_PROD")
        for command in commands:
            index = self._prod & (1 << self.command_lg2) - 1
            self.put(self.command_queue + 16 * index, command)
            self._prod = self._prod + 1 & (2 << self.command_lg2) - 1

    _prod: int = 0

    @property
    def consumer(self) -> CMDQ_CONS:
        return CMDQ_CONS.decode(self.register("CMDQ_CONS"))

    def active_errors(self) -> set[str]:
        active = GERROR.decode(self.register("GERROR") ^ self.register("GERRORN"))
        return {name for name in GERROR.fields if getattr(active, name)}

    def acknowledge(self) -> None:
        self.program("GERRORN", self.register("GERROR"))

    # Events and page requests.

    def events(self) -> list[EventRecord]:
        """Consume the records that wait; an overflow is acknowledged."""
        prod = EVENTQ_PROD.decode(self.register("EVENTQ_PROD"))
        cons = EVENTQ_CONS.decode(self.register("EVENTQ_CONS")).RD
        found: list[EventRecord] = []
        while cons != prod.WR:
            raw = self.memory.read(self.event_queue + 32 * (cons & (1 << self.event_lg2) - 1), 32)
            assert raw is not None
            found.append(RECORDS[EventId(raw[0])].decode(raw))
            cons = cons + 1 & (2 << self.event_lg2) - 1
        self.program("EVENTQ_CONS", EVENTQ_CONS(RD=cons, OVACKFLG=prod.OVFLG))
        return found

    def event_names(self) -> list[str]:
        return [EventId(event.ID).name for event in self.events()]

    def requests(self) -> list[PageRequestRecord]:
        """Consume the page requests that wait; an overflow is acknowledged."""
        prod = PRIQ_PROD.decode(self.register("PRIQ_PROD"))
        cons = PRIQ_CONS.decode(self.register("PRIQ_CONS")).RD
        found: list[PageRequestRecord] = []
        while cons != prod.WR:
            raw = self.memory.read(self.request_queue + 16 * (cons & (1 << self.request_lg2) - 1), 16)
            assert raw is not None
            found.append(PageRequestRecord.decode(raw))
            cons = cons + 1 & (2 << self.request_lg2) - 1
        self.program("PRIQ_CONS", PRIQ_CONS(RD=cons, OVACKFLG=prod.OVFLG))
        return found

    # Accesses.

    def reach(self, iova: int, access: Access = Access.READ, pasid: int | None = None, stream: int = STREAM) -> int:
        """Translate what must succeed."""
        found = self.machine.translate(stream, iova, access, pasid)
        assert isinstance(found, Translation), found
        return found.pa

    def miss(self, iova: int, access: Access = Access.READ, pasid: int | None = None, stream: int = STREAM) -> Fault:
        """Translate what must fail."""
        found = self.machine.translate(stream, iova, access, pasid)
        assert isinstance(found, Fault), found
        return found

    def address_space(self, **cd: int) -> int:
        """Make the stream one of stage 1 with an empty table; gives the table."""
        root = self.take(PAGE)
        self.stage1(**({"TTB0": root} | cd))
        return root

    def page(self, root: int, iova: int, pa: int = TARGET, extra: int = 0) -> int:
        """Map one page; gives the entry's address."""
        return self.map(root, iova, pa | USER_PAGE | extra)


__all__ = ["HOLE", "PAGE", "RAM", "STREAM", "TARGET", "Programmed"]
