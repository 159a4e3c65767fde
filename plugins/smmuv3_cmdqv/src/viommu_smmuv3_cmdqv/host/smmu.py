"""One SMMU as its driver knows it: brought up, its tables, its queues, its devices."""

from __future__ import annotations

from collections import Counter, deque
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.kernel_errors import NoDevice
from viommu.numbers import Numbers
from viommu.policies import MAINLINE, Policy, VmidOwner
from viommu_smmuv3_cmdqv.host import commands
from viommu_smmuv3_cmdqv.host.abilities import Abilities
from viommu_smmuv3_cmdqv.host.cmdqv import HostCmdqv
from viommu_smmuv3_cmdqv.host.command_queue import BATCH, CommandQueue
from viommu_smmuv3_cmdqv.host.queue import HostRing
from viommu_smmuv3_cmdqv.host.registers import SmmuRegisters
from viommu_smmuv3_cmdqv.host.tables import StreamTable
from viommu_smmuv3_cmdqv.spec.queue_registers import (
    CMDQ_BASE,
    CMDQ_CONS,
    CMDQ_PROD,
    EVENTQ_BASE,
    EVENTQ_CONS,
    EVENTQ_PROD,
    GERROR,
    IRQ_CTRL,
    PRIQ_BASE,
    PRIQ_CONS,
    PRIQ_PROD,
    CommandError,
)
from viommu_smmuv3_cmdqv.spec.registers import CR0, CR1, CR2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.memory import PhysicalMemory
    from viommu.objects.physical import Mmio
    from viommu.table_frames import TableFrames
    from viommu_smmuv3_cmdqv.host.master import Master
    from viommu_smmuv3_cmdqv.host.vintf import GuestVintf
    from viommu_smmuv3_cmdqv.spec.commands import Command
    from viommu_smmuv3_cmdqv.spec.events import EventRecord

COMMANDS_LG2, EVENTS_LG2, REQUESTS_LG2 = 12, 11, 11
"""Log2 of the entries of each queue; fewer where IDR1 says so. Linux makes them as large as memory allows."""

WRITE_BACK, INNER = 1, 3
MOST_EVENTS = 1024


@frozen(eq=False)
class OwnQueue:
    """The registers of the SMMU's own command queue."""

    registers: SmmuRegisters

    def ring(self, pointer: int) -> None:
        """Write CMDQ_PROD."""
        self.registers.write(CMDQ_PROD(WR=pointer))

    def consumed(self) -> tuple[int, CommandError]:
        """Read CMDQ_CONS."""
        cons = self.registers.read(CMDQ_CONS)
        return cons.RD, CommandError(cons.ERR)

    def has_error(self) -> bool:
        """Look at GERROR."""
        return bool(self.registers.active_errors().CMDQ_ERR)

    def acknowledge(self) -> None:
        """Write GERRORN."""
        self.registers.acknowledge(GERROR(CMDQ_ERR=1))


@define(eq=False, repr=False)
class Smmu:
    """An SMMU. ``lock`` guards tables, numbers and devices; interrupt handlers do without it."""

    name: str
    memory: PhysicalMemory
    frames: TableFrames
    registers: SmmuRegisters
    able: Abilities
    streams: StreamTable
    queue: CommandQueue
    events: HostRing
    requests: HostRing | None
    vmids: Numbers
    asids: Numbers
    policy: Policy
    shared_vmids: Counter[int] = field(factory=Counter)
    """VMIDs that are virtual machines' own, and how many guests have each."""
    masters: dict[int, Master] = field(factory=dict)
    """By StreamID."""
    cmdqv: HostCmdqv | None = None
    """More command queues, if it has them."""
    guests: dict[int, GuestVintf] = field(factory=dict)
    """Guests that have some of these queues, by VINTF."""
    lock: RLock = field(factory=RLock)
    log: deque[EventRecord] = field(factory=lambda: deque(maxlen=MOST_EVENTS))
    """Events that nobody took, as a kernel prints them; the oldest go first."""

    def __repr__(self) -> str:
        return f"<Smmu {self.name!r}, {len(self.masters)} devices>"

    @classmethod
    def bring_up(
        cls, name: str, memory: PhysicalMemory, frames: TableFrames, port: Mmio, policy: Policy = MAINLINE
    ) -> Smmu:
        """Make the structures, hand them to the SMMU, and switch it on: every stream aborts then.

        Raises NoMemory; NoDevice where it has nothing that this driver can use.
        """
        registers = SmmuRegisters(port)
        able = Abilities.of(registers)
        if not able.usable:
            raise NoDevice(name, "IDR0", int(able.idr0), "of an SMMU with a stage, a granule and AArch64 tables")
        if 1 << able.idr1.CMDQS <= BATCH:
            raise NoDevice(name, "IDR1.CMDQS", able.idr1.CMDQS, f"log2 of more than {BATCH} commands")
        own = _ring(frames, min(COMMANDS_LG2, able.idr1.CMDQS), 16)
        made = cls(
            name,
            memory,
            frames,
            registers,
            able,
            StreamTable(memory, frames, able.sid_bits, able.two_level_streams),
            CommandQueue(OwnQueue(registers), memory, own),
            _ring(frames, min(EVENTS_LG2, able.idr1.EVTQS), 32),
            _ring(frames, min(REQUESTS_LG2, able.idr1.PRIQS), 16) if able.idr0.PRI else None,
            Numbers("VMID", range(1, able.vmids)),
            Numbers("ASID", range(1, able.asids)),
            policy,
        )
        made.start()
        made.cmdqv = HostCmdqv.bring_up(made)
        return made

    def invalidate(self, wanted: Iterable[Command]) -> None:
        """Have invalidations of the driver's own page tables executed: by a queue that has nothing else, if it can."""
        listed = list(wanted)
        own = None if self.cmdqv is None else self.cmdqv.queue_for(listed)
        (own or self.queue).submit(listed)

    def start(self) -> None:
        """Hand everything to hardware, translation last."""
        self.registers.write(CR0())
        self._tell_tables()
        self._start_commands()
        self._forget_everything()
        self.registers.write(EVENTQ_BASE(ADDR=self.events.base, LOG2SIZE=self.events.lg2, WA=1))
        self.registers.write(EVENTQ_PROD())
        self.registers.write(EVENTQ_CONS())
        self._enable(EVTQEN=1)
        if self.requests is not None:
            self.registers.write(PRIQ_BASE(ADDR=self.requests.base, LOG2SIZE=self.requests.lg2, WA=1))
            self.registers.write(PRIQ_PROD())
            self.registers.write(PRIQ_CONS())
            self._enable(PRIQEN=1)
        if self.able.idr0.ATS:
            self._enable(ATSCHK=1)
        self.registers.write(IRQ_CTRL(GERROR_IRQEN=1, EVENTQ_IRQEN=1, PRIQ_IRQEN=self.requests is not None))
        self._enable(SMMUEN=1)

    def _tell_tables(self) -> None:
        self.registers.write(
            CR1(
                QUEUE_IC=WRITE_BACK,
                QUEUE_OC=WRITE_BACK,
                QUEUE_SH=INNER,
                TABLE_IC=WRITE_BACK,
                TABLE_OC=WRITE_BACK,
                TABLE_SH=INNER,
            )
        )
        # CPUs' broadcasts are for VMIDs that are KVM's too: elsewhere they would hit what happens to have the number.
        listens = self.policy.vmid_owner is VmidOwner.KVM
        self.registers.write(CR2(PTM=not listens, RECINVSID=1, E2H=self.able.el2))
        self.registers.write(self.streams.base)
        self.registers.write(self.streams.configuration)

    def _start_commands(self) -> None:
        ring = self.queue.ring
        self.registers.write(CMDQ_BASE(ADDR=ring.base, LOG2SIZE=ring.lg2, RA=1))
        self.registers.write(CMDQ_PROD())
        self.registers.write(CMDQ_CONS())
        self._enable(CMDQEN=1)

    def _forget_everything(self) -> None:
        self.queue.submit([commands.forget_all_configuration()])
        if self.able.el2:
            self.queue.submit([commands.forget_el2()])
        self.queue.submit([commands.forget_el1()])

    def _enable(self, **bits: int) -> None:
        self.registers.write(self.registers.read(CR0).replace(**bits))


def _ring(frames: TableFrames, lg2: int, entry_size: int) -> HostRing:
    ring = HostRing(0, lg2, entry_size)
    return HostRing(frames.allocate(ring.pages), lg2, entry_size)
