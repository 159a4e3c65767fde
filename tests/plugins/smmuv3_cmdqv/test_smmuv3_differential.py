"""One history of maps, unmaps and invalidations, three ways: trapped commands, a vCMDQ, and no IOTLB at all."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.smmuv3_cmdqv.guest import BASE, NG, READ_ONLY, VSID, Guest
from tests.plugins.smmuv3_cmdqv.program import PAGE, SID, Program
from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import guest_with_vintf, queue_of
from viommu import Iotlb, Machine
from viommu.faults import Access, Fault
from viommu.iommufd import uapi
from viommu_smmuv3_cmdqv.spec.commands import (
    ATC_INV,
    CFGI_CD,
    SYNC,
    TLBI_NH_ALL,
    TLBI_NH_ASID,
    TLBI_NH_VA,
    TLBI_NH_VAA,
    CommandOpcode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tests.plugins.smmuv3_cmdqv.guest import Events
    from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import Queue
    from viommu.layout import Descriptor

IOVAS = [0x7000_0000 + PAGE * page for page in range(8)] + [0x40_0000_0000 + PAGE * page for page in range(4)]
SPARE = BASE + (64 << 20)
"""Memory that the host takes from the guest and gives back."""
SPARE_PAGES = 4
LEAF_BITS = 0x743
STEPS = 400
SYNC_COMMAND = SYNC(Opcode=CommandOpcode.SYNC)


def va(address: int, asid: int) -> TLBI_NH_VA:
    return TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, ASID=asid, Address=address, Leaf=1)


@define(eq=False)
class World:
    """A machine with a guest; ``tell`` is how the guest's invalidations go."""

    program: Program
    guest: Guest
    events: Events
    queue: Queue | None = None
    trapped: bool = True
    spare: object = None
    outbox: NDArray[np.uint8] = field(init=False)
    roots: list[int] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.outbox = self.program.buffer()

    @classmethod
    def make(cls, iotlb: Iotlb | None, *, trapped: bool) -> World:
        program = Program.on(Machine("smmuv3_cmdqv", iotlb=iotlb))
        guest, mapping = guest_with_vintf(program)
        queue = queue_of(guest, mapping, lg2=7)
        made = cls(program, guest, guest.events(depth=64), queue, trapped)
        made.spare = program.buffer(PAGE * SPARE_PAGES)
        made.roots = [guest.root, guest.page()]
        made.give_spare()
        for iova in IOVAS:
            for root in made.roots:
                guest.leaf(iova, root)
        guest.page(8)
        return made

    def give_spare(self) -> None:
        self.program.map(self.guest.ioas, SPARE, self.spare)  # type: ignore[arg-type]

    def take_spare(self) -> None:
        self.program.unmap(self.guest.ioas, SPARE, PAGE * SPARE_PAGES)

    def tell(self, commands: Sequence[Descriptor]) -> None:
        """Invalidate: what a queue of its own may not say is trapped in every world."""
        assert self.queue is not None
        if self.trapped:
            self.call(*commands)
            return
        for command in commands:
            if isinstance(command, TLBI_NH_VA | TLBI_NH_ASID | ATC_INV):
                self.queue.submit(command)
            else:
                self.queue.submit(SYNC_COMMAND)
                self.call(command)
        self.queue.submit(SYNC_COMMAND)

    def call(self, *commands: Descriptor) -> None:
        raw = b"".join(command.encode() for command in commands)
        self.outbox[: len(raw)] = list(raw)
        fields = {"data_type": 1, "entry_len": 16, "entry_num": len(commands), "data_uptr": self.outbox.ctypes.data}
        self.program.must(uapi.HwptInvalidate.of(**{"hwpt_id": self.guest.viommu, **fields}))

    def outcome(self, iova: int, access: Access) -> object:
        """Where an access leads, as the guest would say; or why it does not."""
        found = self.program.machine.translate(SID, iova, access)
        if isinstance(found, Fault):
            return found.kind, found.stage, found.level
        return found.ipa, found.rights


@define(eq=False)
class History:
    """Random steps, each taken in all worlds."""

    worlds: list[World]
    random: Random
    root: int = 0
    spare_given: bool = True

    def step(self) -> None:
        weights = (6, 4, 2, 1, 1, 16)
        (act,) = self.random.choices((self.map, self.unmap, self.protect, self.switch, self.host, self.access), weights)
        act()

    def everywhere(self, act: Callable[[World], object]) -> list[object]:
        return [act(world) for world in self.worlds]

    def map(self) -> None:
        """Change an entry; the old one is forgotten."""
        iova, extra = self.random.choice(IOVAS), self.random.choice((NG, NG | READ_ONLY, 0))
        page = self.random.choice([BASE + PAGE * self.random.randrange(256), SPARE + PAGE * self.random.randrange(5)])
        self.store(iova, page | LEAF_BITS | extra)

    def unmap(self) -> None:
        self.store(self.random.choice(IOVAS), 0)

    def protect(self) -> None:
        iova = self.random.choice(IOVAS)
        entry = self.worlds[0].guest.load(self.worlds[0].guest.leaf(iova, self.worlds[0].roots[self.root]))
        self.store(iova, entry ^ READ_ONLY)

    def store(self, iova: int, entry: int) -> None:
        asid = 1 + self.root
        is_global = self.random.random() < 0.5  # then commands that spare global entries will not do
        commands: list[Descriptor] = [va(iova, asid)]
        if is_global:
            commands = self.random.choice(
                [
                    [TLBI_NH_VAA(Opcode=CommandOpcode.TLBI_NH_VAA, Address=iova)],
                    [TLBI_NH_ALL(Opcode=CommandOpcode.TLBI_NH_ALL)],
                    [va(iova & -(8 * PAGE), asid).replace(TG=1, NUM=7, TTL=3)],
                    [TLBI_NH_ASID(Opcode=CommandOpcode.TLBI_NH_ASID, ASID=asid), va(iova, asid)],
                ]
            )

        def act(world: World) -> None:
            world.guest.store(world.guest.leaf(iova, world.roots[self.root]), entry)
            world.tell(commands)

        self.everywhere(act)

    def switch(self) -> None:
        """Let another table govern; its translations may be cached since it did last."""
        self.root = 1 - self.root

        def act(world: World) -> None:
            guest = world.guest
            guest.put(guest.cd, guest.descriptor(world.roots[self.root], asid=1 + self.root))
            everything = TLBI_NH_ALL(Opcode=CommandOpcode.TLBI_NH_ALL)  # global entries are every ASID's
            world.tell([CFGI_CD(Opcode=CommandOpcode.CFGI_CD, SID=VSID, Leaf=1), everything])

        self.everywhere(act)

    def host(self) -> None:
        """Let the host take memory away, or give it back."""
        self.spare_given = not self.spare_given
        self.everywhere(World.give_spare if self.spare_given else World.take_spare)

    def access(self) -> None:
        iova = self.random.choice(IOVAS) + self.random.randrange(0, PAGE, 8)
        access = self.random.choice((Access.READ, Access.WRITE))
        first, *others = self.everywhere(lambda world: world.outcome(iova, access))
        assert all(other == first for other in others), (hex(iova), access, first, others)
        first, *others = self.everywhere(lambda world: [raw for _, _, raw in world.events.read()])
        assert all(other == first for other in others), (hex(iova), access, first, others)


def run(seed: int, steps: int) -> list[World]:
    worlds = [
        World.make(Iotlb(entries=64), trapped=True),
        World.make(Iotlb(entries=64), trapped=False),
        World.make(None, trapped=True),
    ]
    history = History(worlds, Random(seed))
    for _ in range(steps):
        history.step()
    return worlds


@pytest.mark.parametrize("seed", range(3))
def test_translations_and_events_are_the_same_three_ways(seed: int) -> None:
    trapped, queued, _ = run(seed, STEPS)
    assert trapped.program.machine.command_counts["CFGI_CD"] == queued.program.machine.command_counts["CFGI_CD"]


@pytest.mark.long
def test_a_million_steps_are_the_same_three_ways() -> None:
    for seed in range(50):
        run(1000 + seed, 20_000)
