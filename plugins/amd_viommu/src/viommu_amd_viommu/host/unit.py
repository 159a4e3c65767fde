"""One IOMMU as its driver knows it: brought up, its table, its queues, its devices."""

from __future__ import annotations

from collections import deque
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.numbers import Numbers
from viommu_amd_viommu.host import command_queue, device_table, logs, requests
from viommu_amd_viommu.host.abilities import Abilities
from viommu_amd_viommu.host.command_queue import CommandQueue
from viommu_amd_viommu.host.device_table import DeviceTable
from viommu_amd_viommu.host.guests.hardware import HardwareGuests
from viommu_amd_viommu.host.logs import HostLog
from viommu_amd_viommu.host.profile import Profile
from viommu_amd_viommu.host.registers import HostRegisters
from viommu_amd_viommu.spec.interrupt_registers import MsiAddressHigh, MsiAddressLow, MsiCapabilityHeader, MsiData
from viommu_amd_viommu.spec.registers import InvalidationTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.memory import PhysicalMemory
    from viommu.objects.physical import Mmio
    from viommu.policies import Policy
    from viommu.table_frames import TableFrames
    from viommu_amd_viommu.host.command_queue import Halt
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.spec.commands import AnyCommand
    from viommu_amd_viommu.spec.events import AnyEvent

MESSAGE_ADDRESS, MESSAGE_DATA = 0xFEE0_0000, 0x41

DOMAIN_IDS = range(1, 1 << 16)
"""0 is nobody's, as Linux keeps it."""

MOST_EVENTS = 1024


@define(eq=False, repr=False)
class Unit:
    """An IOMMU. ``lock`` guards its table, ids and devices; interrupt handlers do without it."""

    name: str
    memory: PhysicalMemory
    frames: TableFrames
    registers: HostRegisters
    profile: Profile
    able: Abilities
    queue: CommandQueue
    table: DeviceTable
    event_log: HostLog
    request_log: HostLog
    ids: Numbers = field(factory=lambda: Numbers("DomainID", DOMAIN_IDS))
    devices: dict[int, HostDevice] = field(factory=dict)
    lock: RLock = field(factory=RLock)
    hardware: HardwareGuests | None = None
    """What runs guests' IOMMUs, where there is such hardware and the machine wants it."""
    events: deque[AnyEvent] = field(factory=lambda: deque(maxlen=MOST_EVENTS))
    """Events as a kernel's log keeps them; the oldest go first."""
    time_outs: int = 0
    """How many invalidations no device has answered."""

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.devices)} devices>"

    @classmethod
    def bring_up(cls, name: str, memory: PhysicalMemory, frames: TableFrames, mmio: Mmio, policy: Policy) -> Unit:
        """Make what the IOMMU needs in memory, hand it over, and switch translation on: every device is blocked then.

        Raises NoMemory.
        """
        registers = HostRegisters(mmio)
        queue = CommandQueue(registers, memory, frames.allocate(command_queue.PAGES), frames.allocate())
        table = DeviceTable(memory, queue, frames.allocate(device_table.PAGES))
        unit = cls(
            name,
            memory,
            frames,
            registers,
            Profile.of(policy, registers.efr),
            Abilities(registers.efr, registers.efr2),
            queue,
            table,
            HostLog(registers, memory, logs.EVENTS, frames.allocate(logs.PAGES)),
            HostLog(registers, memory, logs.PAGE_REQUESTS, frames.allocate(logs.PAGES)),
        )
        unit.start()
        return unit

    def start(self) -> None:
        """Hand everything to hardware, in Linux's order: tables and commands, then translation, then logs."""
        able = self.able
        self.registers["CONTROL"] = 0
        self.table.block_all()
        self.registers["DEVTAB"] = int(self.table.register)
        self.registers.switch(Coherent=1, InvTimeOut=InvalidationTimeout.S_1)
        self.queue.enable()
        self.registers.switch(GTEn=int(able.efr.GT), GCR3TRPMode=int(able.efr2.GCR3TRPMode), GAEn=int(able.efr.GA))
        self._listen()
        self.registers.switch(IommuEn=1)
        self.execute([requests.everything()] if able.efr.IA else [])
        self.event_log.enable()
        if able.page_requests:
            self.request_log.enable()
        if self.profile.hardware:
            self.hardware = HardwareGuests.found(self)

    def execute(self, commands: Sequence[AnyCommand | bytes]) -> None:
        """Have the host's own commands executed; one that is refused is a bug of ours."""
        halt = self.queue.submit(commands)
        if halt is not None:
            raise AssertionError(f"{self.name} does not execute {commands[halt.index]!r}")

    def submit(self, commands: Sequence[bytes]) -> Halt | None:
        """Have commands executed that were a guest's; None once they are."""
        return self.queue.submit(commands)

    def _listen(self) -> None:
        """Have interrupts come as messages."""
        self.registers["MSIADDRLO"] = int(MsiAddressLow(Address=MESSAGE_ADDRESS))
        self.registers["MSIADDRHI"] = int(MsiAddressHigh())
        self.registers["MSIDATA"] = int(MsiData(Data=MESSAGE_DATA))
        self.registers["MSICAP"] = int(MsiCapabilityHeader(MsiEn=1))
