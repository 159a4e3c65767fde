"""QUE: guests' own queues at every wrap, full, with an error in the middle, and after they are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from hypothesis import strategies as st

from viommu.kernel_errors import Busy
from viommu.testing.rule import Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest

if TYPE_CHECKING:
    from viommu.testing.guest_kit import Queue
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, GuestSpace

NEEDS = (Need.NESTING, Need.QUEUES)
PLACES = 8


@define(eq=False)
class Running:
    """A guest with a queue, that maps, uses and forgets pages by it. ``tail``: where the next command goes."""

    one: Guest
    space: GuestSpace
    queue: Queue
    tail: int = 0

    @classmethod
    def of(cls, one: Guest) -> Running:
        """Give a guest a queue, with some pages mapped and cached."""
        made = cls(one, one.attached(), one.queue())
        for place in range(PLACES):
            made.space.tables.map(IOVA + place * PAGE, one.page())
            made.space.reaches(IOVA + place * PAGE)
        return made

    def put(self, commands: list[bytes]) -> None:
        """Store commands, without telling hardware."""
        for command in commands:
            self.queue.write(self.tail, command)
            self.tail = (self.tail + 1) % self.queue.entries

    def drops(self, place: int) -> list[bytes]:
        """Give the commands that have a page forgotten."""
        return list(self.queue.drop(self.space.space, IOVA + place * PAGE, IOVA + (place + 1) * PAGE - 1))

    def remap(self, place: int) -> int:
        """Map a page elsewhere."""
        page = self.one.page()
        self.space.tables.map(IOVA + place * PAGE, page)
        return page

    def fill(self, count: int, place: int) -> list[bytes]:
        """Give this many commands, which all have a page forgotten again and again."""
        commands = self.drops(place)
        return (commands * (count // len(commands) + 1))[:count] if count else []

    def check_done(self, when: str) -> None:
        """Expect that hardware has executed all."""
        head = self.queue.head()
        expect(head == self.tail, f"{when}: the head is at {head}, where the tail is {self.tail}")


@rule(
    "QUE-001",
    "Wherever in the ring a command lies, it is executed: at every place, and across the end.",
    source="viommu_hw_queue_init; the ring that the guest's hardware has",
    needs=NEEDS,
)
def every_place_works(subject: Subject) -> str:
    """Go round one and a half times, one page at a time."""
    with guest(subject) as one:
        running = Running.of(one)
        for turn in range(running.queue.entries * 3 // 2):
            place = turn % PLACES
            page = _other_page(running, place, turn)
            running.put(running.drops(place))
            running.queue.ring(running.tail)
            running.check_done(f"turn {turn}")
            found = running.space.reaches(IOVA + place * PAGE)
            expect(found == page, f"turn {turn}: the command before entry {running.tail} had no effect")
        running.queue.close()
        return f"{running.queue.entries} entries"


def _other_page(running: Running, place: int, turn: int) -> int:
    """Map one of two pages that the guest keeps, so that its memory is not used up."""
    kept = running.one.kept
    while len(kept) < 2 * PLACES:
        kept.append(running.one.page())
    page = kept[place * 2 + turn // PLACES % 2]
    running.space.tables.map(IOVA + place * PAGE, page)
    return page


@rule(
    "QUE-002",
    "Batches of any length are executed to their last command, a ring that is full too.",
    source="viommu_hw_queue_init; the ring that the guest's hardware has",
    needs=NEEDS,
    plan=lambda subject: st.lists(st.one_of(st.integers(1, 20), st.integers(-3, -1)), min_size=1, max_size=10),  # noqa: ARG005
    examples=30,
)
def batches_of_any_length(subject: Subject, plan: list[int]) -> None:
    """Ring once for each batch; its last commands are those that matter. Negative: so many less than a full ring."""
    with guest(subject) as one:
        running = Running.of(one)
        for number, length in enumerate(plan):
            count = length if length > 0 else running.queue.entries + length
            place = number % PLACES
            page, wanted = _other_page(running, place, number), running.drops(place)
            filler = running.fill(max(count - len(wanted), 0), (place + 1) % PLACES)
            running.put([*filler, *wanted])
            running.queue.ring(running.tail)
            running.check_done(f"batch {number} of {count} commands")
            found = running.space.reaches(IOVA + place * PAGE)
            expect(found == page, f"the last of {count} commands had no effect (batch {number} of {plan})")
        running.queue.close()


@rule(
    "QUE-003",
    "A command that hardware refuses stops the queue at exactly that entry: those before it are done, none after it.",
    source="the life of one invalidation: a refused command stops the queue, with the vendor's consumer index",
    needs=NEEDS,
    plan=lambda subject: st.tuples(st.integers(0, 70), st.integers(0, 5)),  # noqa: ARG005
    examples=30,
)
def refused_commands_stop(subject: Subject, plan: tuple[int, int]) -> None:
    """Put one between two that count, at any place of the ring."""
    start, before = plan
    with guest(subject) as one:
        running = Running.of(one)
        running.put(running.fill(start % running.queue.entries, 7))
        running.queue.ring(running.tail)
        running.check_done("before")
        done = running.remap(0)
        cached = running.space.reaches(IOVA + PAGE)
        running.remap(1)
        first = [*running.drops(0), *running.fill(before, 2)]
        running.put([*first, running.queue.illegal(), *running.drops(1)])
        wanted = (running.tail - 1 - len(running.drops(1))) % running.queue.entries
        running.queue.ring(running.tail)
        head = running.queue.head()
        expect(head == wanted, f"the head is at {head}, where the refused command lies at {wanted}")
        expect(running.space.reaches(IOVA) == done, "a command before the refused one had no effect")
        late = running.space.reaches(IOVA + PAGE)
        expect(late == cached, "a command after the refused one was executed")
        running.queue.close()


@rule(
    "QUE-004",
    "A queue that is gone executes nothing: its doorbell is dead, its memory the guest's.",
    source="viommu_hw_queue_destroy, Owes: hardware reads its memory no more",
    needs=NEEDS,
)
def gone_queues_are_dead(subject: Subject) -> None:
    """Destroy the queue, and ring; then make it anew, and use it."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - queues are of vIOMMUs
        running = Running.of(one)
        running.put(running.drops(0))
        running.queue.ring(running.tail)
        before = running.space.reaches(IOVA)
        running.remap(0)
        running.put(running.drops(0))
        one.queues[-1].destroy()
        running.queue.ring(running.tail)
        expect(running.space.reaches(IOVA) == before, "a command of a queue that is gone was executed")
        running.queue.close()
        again = one.queue()
        commands = list(again.drop(running.space.space, IOVA, IOVA + PAGE - 1))
        for index, command in enumerate(commands):
            again.write(index, command)
        again.ring(len(commands))
        expect(running.space.reaches(IOVA) != before, "the queue that was made anew executes nothing")
        again.close()


@rule(
    "QUE-005",
    "Whatever a guest writes to its ring and its tail, nothing is raised, and what is invalidated by call works on.",
    source="LiveHardware.write: no register value, index or byte in memory may raise, hang or grow memory",
    needs=NEEDS,
    plan=lambda subject: st.lists(  # noqa: ARG005
        st.tuples(st.integers(0, 1 << 32), st.binary(min_size=16, max_size=64)), min_size=1, max_size=8
    ),
    examples=30,
)
def any_bytes_are_survived(subject: Subject, plan: list[tuple[int, bytes]]) -> None:
    """Fill stretches of the ring, and ring anywhere."""
    with guest(subject) as one:
        running = Running.of(one)
        for tail, raw in plan:
            for index in range(min(running.queue.entries, 16)):
                running.queue.write((tail + index) % running.queue.entries, raw[:16])
            running.queue.ring(tail % running.queue.entries)
            running.queue.head()
        page = running.remap(0)
        running.space.drop(IOVA, IOVA + PAGE - 1)
        expect(running.space.reaches(IOVA) == page, "invalidation by call has no effect any more")
        running.queue.close()


@rule(
    "QUE-006",
    "Memory that a queue lies in is not unmapped by the host while the queue is there, or the queue survives it.",
    source="HW_QUEUE_ALLOC: pinned memory; viommu_hw_queue_init_iova: what hardware finds unmapped it reports",
    needs=NEEDS,
)
def queues_keep_their_memory(subject: Subject) -> None:
    """Try to unmap all of the guest's memory."""
    with guest(subject) as one:
        running = Running.of(one)
        running.put(running.drops(0))
        try:
            one.ioas.unmap_all()
        except Busy:
            running.queue.ring(running.tail)
            running.check_done("after an unmap that was refused")
            running.queue.close()
            return
        expect(subject.queues.by_iova, "memory of a queue that is pinned was unmapped")
        running.queue.ring(running.tail)
        running.queue.head()
        running.queue.close()
