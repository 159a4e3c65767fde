"""One history, four ways: trapped invalidations, batches for a vIOMMU, a queue of the guest's own, and no IOTLB at all.

A guest maps, unmaps and protects pages of two address spaces, its host moves its memory, and after each change what is
needed is invalidated. Every access has to end the same in all four: the one without caches cannot be stale.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, TypeAlias

import pytest
from attrs import define, field

from tests.plugins.vtd.guest import BASE, GUEST_SIZE, RW, A, D, Guest, P
from tests.plugins.vtd.guest import US as USER
from tests.plugins.vtd.program import PAGE, RID, entry
from tests.plugins.vtd.vmm import DID, IOVA, Vmm
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu_vtd.spec.commands import PasidIotlbInvalidate
from viommu_vtd.spec.offsets import OFFSETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugins.vtd.program import Buffer

PASID = 5
SPACES = {None: DID, PASID: DID + 1}
"""Address spaces by PASID, with the guest's DID of each."""
IOVAS = 4
FAR = BASE + GUEST_SIZE
FAR_PAGES = 8
"""Pages after the guest's own, which the host moves."""
LEAVES = [P | USER | RW] * 4 + [P | USER | RW | A | D] * 2 + [P | USER, P]
TARGETS = [*range(FAR_PAGES)] * 3 + [FAR_PAGES]
"""Pages that leaves lead to; the last one is not there."""
ACCESSES = [Access.READ, Access.WRITE, Access.READ | Access.WRITE]
LONG_STEPS = int(os.environ.get("VIOMMU_LONG_STEPS", "1000000"))
STEPS_OF_ONE = 10_000
"""Of one history. Another begins then, with other machines."""

Answer: TypeAlias = "tuple[int, int] | str"


@define(eq=False)
class Way:
    """One machine with one guest, and one way to invalidate."""

    vmm: Vmm
    roots: dict[int | None, int]
    hwpts: dict[int | None, int]
    invalidate: Callable[[Way, int | None, int | None], None]
    spare: list[Buffer]
    used: list[Buffer]
    tail: int = 0
    queue: int = 0
    write_register: Callable[[int, bytes], None] = field(default=lambda offset, data: None)  # noqa: ARG005

    @classmethod
    def make(
        cls, invalidate: Callable[[Way, int | None, int | None], None], *, iotlb: bool = True, sanitize: bool = True
    ) -> Way:
        vmm = Vmm.make(iotlb=iotlb, sanitize=sanitize)
        other = vmm.guest.page()
        second = vmm.nested(vmm.program, vmm.device, vmm.viommu, other, SPACES[PASID])
        vmm.device.attach(second, PASID)
        buffers = [vmm.program.buffer() for _ in range(2 * FAR_PAGES)]
        roots, hwpts = {None: vmm.guest.root, PASID: other}, {None: vmm.hwpt, PASID: second}
        way = cls(vmm, roots, hwpts, invalidate, buffers[::2], buffers[1::2])
        way.queue = vmm.guest.page()
        vmm.program.must(vmm.queue(way.queue))
        way.write_register = vmm.map_registers().region.registers.write
        for page in range(FAR_PAGES):
            way.move(page)
        return way

    @property
    def guest(self) -> Guest:
        return self.vmm.guest

    def move(self, page: int) -> None:
        """The host puts other memory where the guest has a page; it alone need invalidate."""
        at, program = FAR + page * PAGE, self.vmm.program
        program.call(uapi.IoasUnmap.of(ioas_id=self.guest.ioas, iova=at, length=PAGE))
        self.spare[page], self.used[page] = self.used[page], self.spare[page]
        program.map(self.guest.ioas, at, self.used[page])

    def store(self, pasid: int | None, page: int, entry_value: int) -> None:
        """The guest changes a leaf."""
        iova = IOVA + page * PAGE
        self.guest.store(self.guest.leaf(iova, self.roots[pasid]), entry_value)
        self.invalidate(self, pasid, iova)

    def access(self, pasid: int | None, page: int, access: Access) -> Answer:
        """Where the access ends: (the guest's address, the page's size); a reason where it is refused."""
        machine = self.vmm.program.host.machine
        found = machine.translate(RID, IOVA + page * PAGE, access, pasid)
        if isinstance(found, Fault):
            return machine.report(found).reason
        return int(found.ipa or 0), int(found.rights)


def command(pasid: int | None, iova: int | None) -> PasidIotlbInvalidate:
    made = PasidIotlbInvalidate(Type=6, G=2 if iova is None else 3, DID=SPACES[pasid], PASID=pasid or 0)
    return made if iova is None else made.replace(ADDR=iova, IH=1)


def trapped(way: Way, pasid: int | None, iova: int | None) -> None:
    request = entry() if iova is None else entry(iova, 1, 1)
    way.vmm.program.must(way.vmm.program.invalidate_command(way.hwpts[pasid], request))


def batched(way: Way, pasid: int | None, iova: int | None) -> None:
    way.vmm.program.must(way.vmm.batch(command(pasid, iova)))


def queued(way: Way, pasid: int | None, iova: int | None) -> None:
    at = way.queue - BASE + way.tail
    way.guest.memory.pages[at : at + 16] = command(pasid, iova).encode()
    way.tail = (way.tail + 32) % PAGE
    way.write_register(OFFSETS["IQT"], way.tail.to_bytes(8, "little"))


def nothing(way: Way, pasid: int | None, iova: int | None) -> None:
    """Without caches there is nothing to invalidate."""


def step(chance: random.Random) -> Callable[[Way], Answer | None]:
    """Choose what happens next, the same on every machine."""
    pasid, page = chance.choice(list(SPACES)), chance.randrange(IOVAS)
    match chance.randrange(16):
        case 0:
            return lambda way: way.store(pasid, page, 0)
        case 1 | 2 | 3:
            rights = chance.choice(LEAVES)
            target = FAR + chance.choice(TARGETS) * PAGE
            return lambda way: way.store(pasid, page, target | rights)
        case 4:
            moved = chance.randrange(FAR_PAGES)
            return lambda way: way.move(moved)
        case _:
            access = chance.choice(ACCESSES)
            return lambda way: way.access(pasid, page, access)


def compare(seed: int, steps: int, *, sanitize: bool = True) -> int:
    """Run one history; how many accesses went through."""
    chance = random.Random(seed)
    ways = [Way.make(how, iotlb=how is not nothing, sanitize=sanitize) for how in (trapped, batched, queued, nothing)]
    through = 0
    for number in range(steps):
        act = step(chance)
        answers = [act(way) for way in ways]
        assert len(set(answers)) == 1, (seed, number, answers)
        through += isinstance(answers[0], tuple)
    if sanitize:
        for way in ways[:3]:
            way.vmm.program.clean()
    return through


@pytest.mark.parametrize("seed", range(3))
def test_every_way_of_invalidating_translates_the_same(seed: int) -> None:
    assert compare(seed, 250) > 50


@pytest.mark.long
def test_a_million_steps_translate_the_same_every_way() -> None:
    for start in range(0, LONG_STEPS, STEPS_OF_ONE):
        compare(1000 + start, min(STEPS_OF_ONE, LONG_STEPS - start), sanitize=False)
