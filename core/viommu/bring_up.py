"""How a host driver gets its hardware: a port to memory and registers, and interrupts one at a time."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.kernel_errors import NoDevice
from viommu.objects.physical import PhysicalIommu

if TYPE_CHECKING:
    from viommu.activity import Activity
    from viommu.instance.iommu import Iommu
    from viommu.memory import PhysicalMemory
    from viommu.platform import Interrupt
    from viommu.policies import Policy
    from viommu.register_watch import RegisterWatch
    from viommu.table_frames import TableFrames


@frozen(eq=False)
class MappedRegisters:
    """Registers of an instance as a guest reaches them, on a page of its own (`viommu.objects.physical.Mmio`)."""

    iommu: Iommu

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        return self.iommu.read_register(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        self.iommu.write_register(offset, value, size)


@define(eq=False)
class IommuPort:
    """The `viommu.objects.physical.Port` of an instance that there is."""

    iommu: Iommu
    memory: PhysicalMemory
    frames: TableFrames
    activity: Activity
    watch: RegisterWatch

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        self.activity.register_reads += 1
        return self.iommu.hardware.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register, which may change what those show that a program has mapped."""
        self.activity.register_writes += 1
        self.iommu.hardware.write(offset, size, value)
        self.watch.changed()

    @property
    def mapped(self) -> MappedRegisters:
        """The same registers for pages that user space maps: what goes through them is not the driver's doing."""
        return MappedRegisters(self.iommu)


@frozen(eq=False)
class InterruptLine:
    """Hands interrupts of one instance to its driver, one after the other, whichever threads raise them.

    One that waits already is not queued again: whoever handles it looks at all that hardware has recorded.
    """

    iommu: PhysicalIommu
    activity: Activity
    watch: RegisterWatch
    waiting: deque[Interrupt] = field(factory=deque)
    turn: Lock = field(factory=Lock)

    def raised(self, interrupt: Interrupt) -> None:
        """Take an interrupt; mapped registers show what led to it, and it is handled unless somebody is at it."""
        self.watch.show()
        if interrupt not in self.waiting:
            self.waiting.append(interrupt)
        self.handle()

    def handle(self) -> None:
        """Handle what waits."""
        while self.waiting and self.turn.acquire(blocking=False):
            try:
                self._handle_all()
            finally:
                self.turn.release()

    def _handle_all(self) -> None:
        while self.waiting:
            interrupt = self.waiting.popleft()
            self.activity.interrupts[interrupt.source] += 1
            self.iommu.driver.ask("viommu_interrupt", iommu=self.iommu, interrupt=interrupt)


def bring_up(
    iommu: Iommu, frames: TableFrames, policy: Policy, activity: Activity, watch: RegisterWatch
) -> PhysicalIommu:
    """Let the host driver of an instance take its hardware. Raises KernelError, DriverBug.

    Interrupts that come meanwhile are handled when it has.
    """
    driver = iommu.driver
    if not driver.implements("viommu_device_facts"):
        raise NoDevice(iommu.name, "host driver", bound=f"{driver.info.name} has a hardware model, but no host driver")
    port = IommuPort(iommu, iommu.memory, frames, activity, watch)
    physical = PhysicalIommu(iommu.name, driver, port=port, policy=policy, watch=watch)
    line = InterruptLine(physical, activity, watch)
    with line.turn:
        if driver.implements("viommu_interrupt"):
            iommu.handle_interrupts(line.raised)
        try:
            driver.ask("viommu_probe", iommu=physical)
        except BaseException:
            iommu.handle_interrupts(None)
            raise
    line.handle()
    return physical
