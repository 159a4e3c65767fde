"""One IOMMU as its driver knows it: brought up, its directory, its queues, its devices."""

from __future__ import annotations

from collections import deque
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field
from viommu.kernel_errors import NoDevice
from viommu.numbers import Numbers

from viommu_riscv.host.abilities import Abilities
from viommu_riscv.host.command_queue import HostCommands
from viommu_riscv.host.directories import device_directory
from viommu_riscv.host.registers import HostRegisters
from viommu_riscv.spec.registers import (
    Capabilities,
    Ddtp,
    Fctl,
    Fqcsr,
    Icvec,
    InterruptGeneration,
    IommuMode,
    Pqcsr,
    QueueBase,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.memory import PhysicalMemory
    from viommu.objects.physical import Port
    from viommu.policies import Policy
    from viommu.table_frames import TableFrames

    from viommu_riscv.host.device import HostDevice
    from viommu_riscv.host.directories import Directory
    from viommu_riscv.spec.commands import Command
    from viommu_riscv.spec.records import FaultRecord

FAULTS_LG2, PAGE_REQUESTS_LG2 = 7, 8
"""log2 of the entries of the queues that hardware fills: a page each."""

MESSAGE_ADDRESS = 0x2800_0000
"""Where a supervisor's interrupt file is on the usual boards."""
VECTORS = {"civ": 0, "fiv": 1, "piv": 2}
MOST_FAULTS = 1024


@define(eq=False, repr=False)
class Unit:
    """An IOMMU. ``lock`` guards its directory, tags and devices; interrupt handlers do without it.

    ``spaces`` are PSCIDs, ``guests`` GSCIDs: the tags that its caches know domains by.
    """

    name: str
    memory: PhysicalMemory
    frames: TableFrames
    registers: HostRegisters
    able: Abilities
    policy: Policy
    directory: Directory
    commands: HostCommands
    fault_queue: int
    request_queue: int
    """Physical addresses; 0 where there is none."""
    spaces: Numbers = field(factory=lambda: Numbers("PSCID", range(1, 1 << 20)))
    guests: Numbers = field(factory=lambda: Numbers("GSCID", range(1, 1 << 16)))
    devices: dict[int, HostDevice] = field(factory=dict)
    lock: RLock = field(factory=RLock)
    faults: deque[FaultRecord] = field(factory=lambda: deque(maxlen=MOST_FAULTS))
    """Records of refused accesses, as a kernel's log keeps them; the oldest go first."""

    @classmethod
    def bring_up(cls, name: str, port: Port, policy: Policy) -> Unit:
        """Make its structures, and switch it on: every device is blocked then. Raises NoMemory, NoDevice."""
        registers, memory, frames = HostRegisters(port), port.memory, port.frames
        capabilities = registers.decoded("CAPABILITIES", Capabilities)
        able = Abilities(capabilities)
        if not able.first_stage and not able.second_stage:
            raise NoDevice(name, "capabilities", int(capabilities), "of an IOMMU with Sv39, Sv48 or Sv57")
        unit = cls(
            name,
            memory,
            frames,
            registers,
            able,
            policy,
            device_directory(memory, frames, extended=bool(capabilities.MSI_FLAT)),
            HostCommands(registers, memory, frames.allocate(), frames.allocate()),
            frames.allocate(),
            frames.allocate() if capabilities.ATS else 0,
        )
        unit.start()
        return unit

    def start(self) -> None:
        """Hand everything to hardware, translation last."""
        registers = self.registers
        registers["DDTP"] = int(Ddtp(iommu_mode=IommuMode.Off))
        registers["FCTL"] = int(Fctl(WSI=self.able.capabilities.IGS == InterruptGeneration.WSI))
        for vector in VECTORS.values():
            registers[f"MSI_ADDR_{vector}"] = MESSAGE_ADDRESS
            registers[f"MSI_DATA_{vector}"] = vector + 1
            registers[f"MSI_VEC_CTL_{vector}"] = 0
        registers["ICVEC"] = int(Icvec(**VECTORS))
        self.commands.enable()
        registers["FQB"] = int(QueueBase(PPN=self.fault_queue, LOG2SZ_1=FAULTS_LG2 - 1))
        registers["FQH"] = 0
        registers["FQCSR"] = int(Fqcsr(fqen=1, fie=1))
        if self.request_queue:
            registers["PQB"] = int(QueueBase(PPN=self.request_queue, LOG2SZ_1=PAGE_REQUESTS_LG2 - 1))
            registers["PQH"] = 0
            registers["PQCSR"] = int(Pqcsr(pqen=1, pie=1))
        registers["DDTP"] = int(Ddtp(iommu_mode=IommuMode.LVL3, PPN=self.directory.root))

    def submit(self, commands: Sequence[Command]) -> bool:
        """Have commands executed; False where a device did not answer."""
        return self.commands.submit(commands)
