"""One history, four ways: each command by an ioctl, batches, a command buffer of the guest's own, and no IOTLB at all.

A guest maps, unmaps and protects pages of three address spaces, lets other tables take the place of theirs, its host
moves its memory, and after each change what is needed is invalidated. Every access has to end the same in all four, the
same event told by each in the guest's ids: the one without caches cannot be stale.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, TypeAlias

import pytest
from attrs import define, field

from tests.plugins.amd_viommu.guest import BASE, GUEST_SIZE, RW, US, A, D, Guest, P
from tests.plugins.amd_viommu.program import HARDWARE, PAGE, RID, Program
from tests.plugins.amd_viommu.vm import QUEUE_BYTES, RUNNING, make_viommu, pages, queue_command
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu_amd_viommu.host.extensions import TYPE, QueueType
from viommu_amd_viommu.spec.commands import InvalidateIommuAll, Opcode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugins.amd_viommu.program import Buffer
    from viommu.iommufd.user_memory import UserFile
    from viommu.objects.mmap import RegisterMapping
    from viommu_amd_viommu.spec.commands import AnyCommand

VID, DOMAIN, IOVA = 0x0A10, 0x21, 0x7000_0000
PASIDS = (None, 5, 6)
IOVAS = 4
FAR = BASE + GUEST_SIZE
FAR_PAGES = 8
"""Pages after the guest's own, which the host moves."""
OTHER = 64
"""Added to a PASID: the number of its other tables, which no requests bear."""
LONG_STEPS = int(os.environ.get("VIOMMU_LONG_STEPS", "1000000"))
STEPS_OF_ONE = 20_000
"""Of one history. Another begins then, with other machines."""

Answer: TypeAlias = "tuple[object, ...]"


@define(eq=False)
class Way:
    """One machine with one guest, and one way to invalidate."""

    program: Program
    guest: Guest
    viommu: int
    spare: list[Buffer]
    used: list[Buffer]
    events_file: UserFile | None = None
    others: dict[int, bool] = field(factory=lambda: {pasid or 0: False for pasid in PASIDS})
    """Whether the other tables of a PASID are in use."""

    @classmethod
    def make(cls, *, caches: bool = True, sanitize: bool = True) -> Way:
        program = Program.make(HARDWARE, caches=caches, sanitize=caches and sanitize)
        device = program.bind(program.machine.add_device(RID, pasid_bits=8))
        guest = Guest.make(program, device)
        buffers = [program.buffer() for _ in range(2 * FAR_PAGES)]
        way = cls(program, guest, 0, buffers[::2], buffers[1::2])
        for page in range(FAR_PAGES):
            way.move(page)
        for pasid in PASIDS:
            for page in range(IOVAS):
                guest.leaf(IOVA + page * PAGE, pasid or 0)
                guest.leaf(IOVA + page * PAGE, (pasid or 0) + OTHER)
        way.viommu = way.make_viommu(device.id, guest.parent)
        program.vdevice(device, way.viommu, VID)
        device.attach(program.nested(device, way.viommu, guest.dte(DomainID=DOMAIN)))
        return way

    def make_viommu(self, device: int, parent: int) -> int:
        """A vIOMMU that software runs; its events come to a queue."""
        viommu = self.program.must(uapi.ViommuAlloc.of(type=1, dev_id=device, hwpt_id=parent)).out_viommu_id
        made = self.program.must(uapi.VeventqAlloc.of(viommu_id=viommu, type=TYPE, veventq_depth=64))
        self.events_file = self.program.process.files[made.out_veventq_fd]
        return viommu

    def invalidate(self, *commands: AnyCommand) -> None:  # noqa: ARG002
        """Without an IOTLB there is nothing to invalidate but what was read of tables of tables: all of that goes."""
        self.program.machine.translator.invalidate_contexts()

    def events(self) -> list[bytes]:
        room = self.program.room()
        assert self.events_file is not None
        done = self.events_file.read(self.program.process, room.address, PAGE)
        return [room.pages[at + 8 : at + 24] for at in range(0, max(done, 0), 24)]

    def move(self, page: int) -> None:
        """The host puts other memory where the guest has a page; it alone need invalidate."""
        at, program = FAR + page * PAGE, self.program
        program.call(uapi.IoasUnmap.of(ioas_id=self.guest.ioas, iova=at, length=PAGE))
        self.spare[page], self.used[page] = self.used[page], self.spare[page]
        program.map(self.guest.ioas, at, self.used[page])

    def moved(self, page: int) -> Answer:
        """The same, as a step."""
        self.move(page)
        return ()

    def store(self, pasid: int | None, page: int, entry: int, command: AnyCommand) -> Answer:
        """The guest changes a leaf of the tables that are in use, and says so."""
        number = pasid or 0
        self.guest.store(self.guest.leaf(IOVA + page * PAGE, number + OTHER * self.others[number]), entry)
        self.invalidate(command)
        return ()

    def switch(self, pasid: int | None, command: AnyCommand) -> Answer:
        """The guest lets the other tables of a PASID be used, and says so."""
        number = pasid or 0
        self.others[number] = not self.others[number]
        root = self.guest.root(number + OTHER * self.others[number])
        self.guest.store(self.guest.gcr3 + 8 * number, root | 1)
        self.invalidate(command)
        return ()

    def access(self, pasid: int | None, page: int, access: Access) -> Answer:
        """Where the access ends: (the guest's address, its rights); the event where it is refused."""
        found = self.program.machine.translate(RID, IOVA + page * PAGE, access, pasid)
        if isinstance(found, Fault):
            return tuple(self.events())
        assert not self.events()
        return (found.ipa, found.rights)


class OneByOne(Way):
    """Each command by an ioctl of its own, as a VMM does that traps doorbells."""

    def invalidate(self, *commands: AnyCommand) -> None:
        for command in commands:
            self.program.must(self.program.invalidate_command(self.viommu, command.encode(), data_type=TYPE, length=16))


class InBatches(Way):
    """Several commands by one ioctl; here with some that change nothing before and after."""

    def invalidate(self, *commands: AnyCommand) -> None:
        raw = [pages(domain=9).encode(), *(command.encode() for command in commands), pages(domain=9).encode()]
        self.program.must(self.program.invalidate_command(self.viommu, *raw, data_type=TYPE, length=16))


@define(eq=False)
class Accelerated(Way):
    """The guest's own command buffer and event log."""

    page: RegisterMapping = field(init=False)
    base: int = field(init=False)

    def make_viommu(self, device: int, parent: int) -> int:
        owner = next(one.physical.owner for one in self.program.machine.endpoints)
        assert owner is not None
        assert owner.id == device
        viommu, self.page, switches = make_viommu(self.program, owner, parent)
        self.base = self.guest.pages(4)
        self.program.must(queue_command(viommu, QueueType.COMMANDS, self.base))
        self.program.must(queue_command(viommu, QueueType.EVENTS, self.base + 2 * PAGE))
        switches.write(0x18, RUNNING.encode())
        return viommu

    def load(self, offset: int) -> int:
        return int.from_bytes(self.page.read(offset, 8), "little")

    def store_register(self, offset: int, value: int) -> None:
        self.page.write(offset, value.to_bytes(8, "little"))

    def invalidate(self, *commands: AnyCommand) -> None:
        for command in commands:
            tail = self.load(8)
            self.guest.write(self.base + tail, command.encode())
            self.store_register(8, (tail + 16) % QUEUE_BYTES)
            assert self.load(0) == self.load(8)

    def events(self) -> list[bytes]:
        head, tail, found = self.load(0x10), self.load(0x18), []
        while head != tail:
            found.append(self.guest.read(self.base + 2 * PAGE + head, 16))
            head = (head + 16) % QUEUE_BYTES
        self.store_register(0x10, head)
        assert not self.program.unit.events
        return found


def command_for(chance: random.Random, pasid: int | None, page: int) -> AnyCommand:
    """A command that covers a changed leaf; GIOV makes PASID 0 of requests without."""
    number, iova = pasid or 0, IOVA + page * PAGE
    return chance.choice(
        [
            pages(DOMAIN, number),
            pages(DOMAIN, number, PDE=0),
            pages(DOMAIN, number, S=0, PDE=0, Address=iova),
            pages(DOMAIN, number, S=1, PDE=0, Address=IOVA | 0x1000),
            pages(DOMAIN, GN=0),
            InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL),
        ]
    )


def command_for_tables(chance: random.Random, pasid: int | None) -> AnyCommand:
    """A command that covers an entry of the GCR3 table, and all that it led to."""
    everything = InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL)
    return chance.choice([pages(DOMAIN, pasid or 0), pages(DOMAIN, GN=0), everything])


def step(chance: random.Random) -> Callable[[Way], Answer]:
    """Choose what happens next, the same on every machine."""
    pasid, page = chance.choice(PASIDS), chance.randrange(IOVAS)
    match chance.randrange(16):
        case 0:
            command = command_for(chance, pasid, page)
            return lambda way: way.store(pasid, page, 0, command)
        case 1 | 2 | 3:
            command = command_for(chance, pasid, page)
            rights = chance.choice([P | US, P | US | RW, P | US | RW, P | US | RW | A | D, P])
            target = FAR + chance.randrange(FAR_PAGES + 1) * PAGE
            return lambda way: way.store(pasid, page, target | rights, command)
        case 4:
            moved = chance.randrange(FAR_PAGES)
            return lambda way: way.moved(moved)
        case 5 if chance.random() < 0.3:
            command = command_for_tables(chance, pasid)
            return lambda way: way.switch(pasid, command)
        case _:
            access = chance.choice([Access.READ, Access.WRITE, Access.READ | Access.WRITE])
            return lambda way: way.access(pasid, page, access)


def compare(seed: int, steps: int, *, sanitize: bool = True) -> tuple[int, int]:
    """Run one history; how many accesses went through, and how many were refused.

    ``sanitize`` besides: nothing may be used of a cache that should have been emptied, whatever it leads to.
    """
    chance = random.Random(seed)
    made = [way.make(sanitize=sanitize) for way in (OneByOne, InBatches, Accelerated)]
    ways = [*made, Way.make(caches=False)]
    through = refused = 0
    for number in range(steps):
        act = step(chance)
        answers = [act(way) for way in ways]
        assert len(set(answers)) == 1, (seed, number, answers)
        through += len(answers[0]) == 2
        refused += len(answers[0]) == 1
    for way in made if sanitize else ():
        way.program.clean()
    return through, refused


@pytest.mark.parametrize("seed", range(3))
def test_every_way_of_invalidating_translates_and_tells_the_same(seed: int) -> None:
    through, refused = compare(seed, 250)

    assert through > 30
    assert refused > 30


@pytest.mark.long
def test_a_million_steps_translate_and_tell_the_same_every_way() -> None:
    for start in range(0, LONG_STEPS, STEPS_OF_ONE):
        compare(1000 + start, min(STEPS_OF_ONE, LONG_STEPS - start), sanitize=not start)
