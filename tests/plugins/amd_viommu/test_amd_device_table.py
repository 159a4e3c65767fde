"""Entries are replaced by halves of 128 bits: what hardware reads in between is the old one, the new one, or blocks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from viommu.memory import PhysicalMemory
from viommu_amd_viommu.host import entries
from viommu_amd_viommu.host.device_table import INTERRUPTS, PAGES, DeviceTable
from viommu_amd_viommu.host.entries import GuestRoots, HardwareGuest, HostStage
from viommu_amd_viommu.spec.device_table import DTE, InterruptControl

if TYPE_CHECKING:
    from viommu_amd_viommu.spec.commands import InvalidateDevtabEntry

DEVICE = 0x1234
HOST, OTHER_HOST = HostStage(0x10_0000, 4), HostStage(0x20_0000, 6, dirty=True)
FOUR, FIVE = DTE(GV=1, GCR3=0x30_0000, GIOV=1), DTE(GV=1, GCR3=0x40_0000, GLX=2, GuestPagingMode=1)
STATES = {
    "untouched": entries.untouched(),
    "blocked": entries.blocked(),
    "identity": entries.identity(1, ats=False),
    "host tables": entries.host_translated(2, HOST, ats=True),
    "other host tables": entries.host_translated(3, OTHER_HOST, ats=False),
    "guest tables": entries.guest_translated(4, GuestRoots(0x50_0000, 1, True, False, True), ats=True),
    "deep guest tables": entries.guest_translated(5, GuestRoots(0x60_0000, 3, True, True), ats=False),
    "nested": entries.nested(6, HOST, FOUR, ats=False),
    "nested, deep": entries.nested(7, HOST, FIVE, ats=False),
    "nested, by hardware": entries.nested(8, HOST, FOUR, ats=True, hardware=HardwareGuest(1, 0x10)),
    "nested, by hardware for another": entries.nested(8, HOST, FOUR, ats=True, hardware=HardwareGuest(2, 0x10)),
}
BLOCKS = "blocks"


@define
class Queue:
    """Takes note of how often an entry is to be read anew."""

    flushed: int = 0

    def submit(self, commands: list[InvalidateDevtabEntry]) -> None:
        self.flushed += all(command.DeviceID == DEVICE for command in commands)


@define
class Watched:
    """Memory in which every store of a half is seen."""

    memory: PhysicalMemory
    seen: list[DTE] = field(factory=list)
    at: int = 0

    def read(self, pa: int, length: int) -> bytes | None:
        return self.memory.read(pa, length)

    def write(self, pa: int, data: bytes) -> bool:
        done = self.memory.write(pa, data)
        self.seen.append(DTE.decode(self.memory.read(self.at, DTE.size) or b""))
        return done


def meaning(entry: DTE) -> object:
    """What hardware makes of an entry; fields that it does not look at then are left out."""
    assert entry.V, "an entry without V lets everything pass"
    if not entry.TV or not (entry.IR or entry.IW):
        return BLOCKS
    lower = int(entry) & (1 << 128) - 1
    if not entry.GV:
        return lower
    return lower, entry.GuestPagingMode, entry.vImuEn, entry.GuestID, entry.GuestDeviceID


@pytest.mark.parametrize("pair", list(itertools.permutations(STATES, 2)), ids=" to ".join)
def test_no_mixture_of_two_entries_is_ever_there(pair: tuple[str, str]) -> None:
    old, new = (STATES[name] for name in pair)
    memory, queue = PhysicalMemory(), Queue()
    base = memory.add_ram(PAGES * 4096).segments[0].pa
    watched = Watched(memory, at=base + DEVICE * DTE.size)
    table = DeviceTable(watched, queue, base)  # type: ignore[arg-type]
    interrupts = DTE(IV=1, IntCtl=InterruptControl.REMAP, IntTableRoot=0x7000, IntTabLen=9)
    memory.write(watched.at, (int(old) | int(interrupts)).to_bytes(DTE.size, "little"))

    table.replace(DEVICE, new)

    for entry in watched.seen:
        assert meaning(entry) in {meaning(old), meaning(new), BLOCKS}
        assert int(entry) & INTERRUPTS == int(interrupts)
    assert table.read(DEVICE) == DTE.decode(int(new) | int(interrupts))
    assert queue.flushed
    before = len(watched.seen)
    table.replace(DEVICE, new)
    assert len(watched.seen) == before
