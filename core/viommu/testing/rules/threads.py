"""THR: several threads at once, as a VMM and its devices are; the interpreter changes between them all the time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define

from viommu.faults import Access
from viommu.kernel_errors import KernelError
from viommu.testing.at_once import at_once, together
from viommu.testing.rule import Inapplicable, Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest, host, tag

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas
    from viommu.machine import Machine
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, GuestSpace, Host

PLACES = 16


@define(eq=False)
class Crowd:
    """What threads share: two spaces, two devices, page tables, and memory whose pages say their number."""

    devices: list[Device]
    spaces: list[Ioas]
    tables: list[list[Hwpt]]
    memory: NDArray[np.uint8]
    base: int
    """Where the first place is mapped."""

    @classmethod
    def of(cls, world: Host) -> Crowd:
        """Begin with nothing mapped, and nothing attached."""
        devices, spaces = [world.device(0), world.device(1)], [world.iommu.ioas_alloc() for _ in range(2)]
        memory = world.machine.buffer(PLACES * PAGE)
        for place in range(PLACES):
            memory[place * PAGE : place * PAGE + 8] = list(tag(place + 1))
        return cls(
            devices, spaces, [[ioas.hwpt_alloc(device) for device in devices] for ioas in spaces], memory, world.base
        )

    def map(self, chance: random.Random) -> None:
        """Map some pages to the places of their numbers."""
        place, count = chance.randrange(PLACES), chance.randint(1, 3)
        part = self.memory[place * PAGE : (place + count) * PAGE]
        chance.choice(self.spaces).map(part, self.base + place * PAGE, write=False)

    def unmap(self, chance: random.Random) -> None:
        """Unmap from the first place on."""
        chance.choice(self.spaces).unmap(self.base, chance.choice([1, 4, PLACES]) * PAGE)

    def govern(self, chance: random.Random) -> None:
        """Attach, replace or detach."""
        number, how = chance.randrange(2), chance.randrange(3)
        device, hwpt = self.devices[number], chance.choice(self.tables)[number]
        if how == 2:
            device.detach()
        else:
            (device.replace if how else device.attach)(hwpt)

    def access(self, chance: random.Random) -> None:
        """Read a place: if it is mapped, it is to the page of its number."""
        place = chance.randrange(PLACES)
        found = chance.choice(self.devices).dma_read(self.base + place * PAGE, 8)
        if isinstance(found, bytes):
            page = int.from_bytes(found, "little") - 1
            expect(page == place, f"DMA to page {place} came to page {page}")


@rule(
    "THR-001",
    "Threads that map, unmap, attach, replace and access at once break nothing; afterwards nothing is left mapped.",
    source="laws of concurrency (docs/architecture.md); viommu_attach, PagingDomain.unmap, Owes",
    needs=(Need.HOST,),
)
def hosts_stand_threads(subject: Subject) -> str:
    """Two spaces, two devices, and what DMA reads says whose page it is."""
    with host(subject) as world:
        crowd = Crowd.of(world)
        done = at_once([crowd.map, crowd.map, crowd.unmap, crowd.govern, crowd.access, crowd.access])
        for ioas in crowd.spaces:
            with suppress(KernelError):  # nothing was mapped
                ioas.unmap_all()
        for device in crowd.devices:
            left = [
                place for place in range(PLACES) if isinstance(device.dma_read(world.base + place * PAGE, 8), bytes)
            ]
            expect(not left, f"pages {left} are reached after everything was unmapped")
        return f"{done} calls"


@rule(
    "THR-002",
    "While a guest invalidates, by calls and by its queue, its device sends DMA and the host reads events: nothing is "
    "raised, no page is stale afterwards.",
    source="viommu_invalidate, Owes; laws of concurrency (docs/architecture.md)",
    needs=(Need.NESTING,),
)
def guests_stand_threads(subject: Subject) -> str:
    """A guest's CPU, its queue, its device, and its VMM."""
    with guest(subject) as one:
        space, pages = one.attached(), [one.page() for _ in range(2 * PLACES)]
        for place in range(PLACES):
            space.tables.map(IOVA + place * PAGE, pages[place])
        acts = _acts(one, space, pages)
        done = at_once(acts)
        space.drop()
        for place in range(PLACES):
            leaf, found = space.tables.walk(IOVA + place * PAGE), space.reaches(IOVA + place * PAGE)
            expect(leaf is not None and leaf.address == found, f"page {place} reads {found!r}, its leaf is {leaf!r}")
        return f"{done} calls"


def _acts(one: Guest, space: GuestSpace, pages: list[int]) -> list[Callable[[random.Random], object]]:
    def remap(chance: random.Random) -> None:
        place = chance.randrange(PLACES)
        space.tables.map(IOVA + place * PAGE, pages[place + PLACES * chance.randrange(2)])
        space.drop(IOVA + place * PAGE, IOVA + (place + 1) * PAGE - 1)

    def read(chance: random.Random) -> None:
        place = chance.randrange(PLACES)
        found = space.reaches(IOVA + place * PAGE)
        expect(found in {pages[place], pages[place + PLACES]}, f"page {place} reads {found!r}")

    def stray(chance: random.Random) -> None:
        one.device.translate(IOVA + (PLACES + chance.randrange(64)) * PAGE, Access.READ, space.space.pasid)

    acts: list[Callable[[random.Random], object]] = [remap, read, read, stray]
    if one.subject.nesting.queues is not None:
        queue, state = one.queue(), {"tail": 0}

        def command(chance: random.Random) -> None:
            place = chance.randrange(PLACES)
            for raw in queue.drop(space.space, IOVA + place * PAGE, IOVA + (place + 1) * PAGE - 1):
                queue.write(state["tail"], raw)
                state["tail"] = (state["tail"] + 1) % queue.entries
            queue.ring(state["tail"])

        acts.append(command)
    if one.viommu is not None and one.subject.nesting.events is not None:
        events = one.viommu.veventq_alloc(one.subject.events.type)
        acts.append(lambda _: events.read())
    return acts


@rule(
    "THR-005",
    "Halves of a register that two threads write at the same time are both kept.",
    source="LiveHardware.write, from any thread: a VMM's and the host's",
    needs=(Need.LIVE,),
)
def register_halves_are_kept(subject: Subject) -> str:
    """Find registers of 8 bytes whose halves both hold what is stored, and write each half in a thread of its own."""
    with subject.machine() as machine:
        found = [offset for offset in range(0, REGISTERS, 8) if _holds_both_halves(machine, offset)][:MOST_REGISTERS]
        if not found:
            raise Inapplicable("no register of 8 bytes, of those below 0x1000, holds two halves that are stored")

        def write(number: int) -> None:
            for value in range(1, 1 + WRITES):
                for offset in found:
                    machine.write_register(offset + 4 * number, value << 12 & WORD, 4)

        lost = []
        for _ in range(WAVES):
            together(2, write)
            last = WRITES << 12
            lost += [offset for offset in found if machine.read_register(offset, 8) != last << 32 | last]
        expect(
            not lost, f"of register {hex(lost[0]) if lost else ''} a half is lost that one of two threads has written"
        )
        return f"{len(found)} registers"


REGISTERS, MOST_REGISTERS = 0x1000, 4
WORD = (1 << 32) - 1
WRITES, WAVES = 60, 20


def _holds_both_halves(machine: Machine, offset: int) -> bool:
    """Whether a register takes any pages' number in both halves."""
    for value in (0x0003_F000_0003_F000, 0):
        machine.write_register(offset, value, 8)
        if machine.read_register(offset, 8) != value:
            return False
    return True
