"""One IOMMU as its host driver has it: memory, registers, and what was written there."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field
from viommu.kernel_errors import IoError
from viommu.numbers import Numbers

from viommu_acme.spec import (
    CTRL,
    DTBASE,
    DTE,
    OFFSETS,
    RING,
    STATUS,
    Event,
    ForgetAll,
    ForgetDevice,
    ForgetDomain,
    ForgetPages,
    ForgetSpacePages,
    Op,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from viommu.objects.physical import Port

    from viommu_acme.spec import Command

DEVICES_LG2 = 16
RING_LG2 = 8
ENTRY = 16
PAGE_LG2 = 12


@define(eq=False)
class Unit:
    """All that the driver knows of one instance. It reaches hardware by ``port`` alone."""

    name: str
    port: Port
    device_table: int
    commands: int
    events: int
    spaces: Numbers = field(factory=lambda: Numbers("GuestSpace", range(1, 1 << 12)))
    domains: Numbers = field(factory=lambda: Numbers("DomainID", range(1, 1 << 12)))
    lock: RLock = field(factory=RLock)

    @classmethod
    def bring_up(cls, name: str, port: Port) -> Self:
        """Give hardware its tables and queues, and switch it on. Raises NoMemory."""
        frames = port.frames
        table = frames.allocate(DTE.size << DEVICES_LG2 >> PAGE_LG2)
        unit = cls(name, port, table, frames.allocate(), frames.allocate())
        unit.write("DTBASE", int(DTBASE(Address=table, SizeLg2=DEVICES_LG2)))
        unit.write("CMDBASE", int(RING(Address=unit.commands, SizeLg2=RING_LG2)))
        unit.write("EVTBASE", int(RING(Address=unit.events, SizeLg2=RING_LG2)))
        unit.command(ForgetAll(Op=Op.FORGET_ALL))
        unit.write("CTRL", int(CTRL(E=1)))
        return unit

    def read(self, register: str) -> int:
        """Read a register."""
        return self.port.read(OFFSETS[register], 8)

    def write(self, register: str, value: int) -> None:
        """Write a register."""
        self.port.write(OFFSETS[register], 8, value)

    # --- commands

    def command(self, *commands: Command) -> None:
        """Have hardware execute commands: it has, when this returns. Raises IoError where it refuses one."""
        with self.lock:
            for command in commands:
                tail = self.read("CMDTAIL")
                self.port.memory.write(self.commands + ENTRY * tail, command.encode())
                self.write("CMDTAIL", (tail + 1) % (1 << RING_LG2))
            if self.read("STATUS") & int(STATUS(CommandRefused=1)):
                raise IoError(self.name, "command", bound="one that hardware knows")

    def forget_pages(self, domain: int, start: int, last: int) -> None:
        """Let no translation of a range [start, last] of a domain stay cached."""
        lg2 = max(((start ^ last) >> PAGE_LG2).bit_length(), 0)
        address = start >> PAGE_LG2 + lg2 << PAGE_LG2 + lg2
        self.command(ForgetPages(Op=Op.FORGET_PAGES, DomainID=domain, SizeLg2=lg2, Address=address))

    def forget_space_pages(self, domain: int, space: int, address: int, lg2: int) -> None:
        """Let no translation of 2^(12 + lg2) bytes of a guest's space stay cached."""
        op = Op.FORGET_SPACE_PAGES
        self.command(ForgetSpacePages(Op=op, DomainID=domain, GuestSpace=space, SizeLg2=lg2, Address=address))

    def forget_domain(self, domain: int) -> None:
        """Let no translation of a domain stay cached."""
        self.command(ForgetDomain(Op=Op.FORGET_DOMAIN, DomainID=domain))

    # --- the device table

    def set_entry(self, device: int, entry: DTE) -> None:
        """Let an entry govern a device, with nothing in between but refusal: hardware reads 64 bits at a time."""
        address = self.device_table + DTE.size * device
        low, high = (int(entry) >> shift & (1 << 64) - 1 for shift in (0, 64))
        with self.lock:
            self.port.memory.store(address, 0)
            self.command(ForgetDevice(Op=Op.FORGET_DEVICE, DeviceID=device))
            self.port.memory.store(address + 8, high)
            self.port.memory.store(address, low)
            self.command(ForgetDevice(Op=Op.FORGET_DEVICE, DeviceID=device))

    def entry(self, device: int) -> DTE:
        """Read what governs a device."""
        return DTE.decode(self.port.memory.read(self.device_table + DTE.size * device, DTE.size) or bytes(DTE.size))

    # --- events

    def take_events(self) -> Iterator[Event]:
        """Take what hardware has recorded out of its queue."""
        with self.lock:
            head, tail = self.read("EVTHEAD"), self.read("EVTTAIL")
            raw = [
                self.port.memory.read(self.events + ENTRY * (index % (1 << RING_LG2)), ENTRY)
                for index in range(head, tail if tail >= head else tail + (1 << RING_LG2))
            ]
            self.write("EVTHEAD", tail)
            self.write("STATUS", int(STATUS(EventsLost=1)))
        return (Event.decode(each) for each in raw if each is not None)
