"""THR: several threads at once, as a VMM and its devices are; the interpreter changes between them all the time."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define

from viommu.faults import Access
from viommu.kernel_errors import KernelError
from viommu.testing.at_once import SECONDS, at_once, often_switching
from viommu.testing.history import BASE
from viommu.testing.rule import Need, expect, rule
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

    @classmethod
    def of(cls, world: Host) -> Crowd:
        """Begin with nothing mapped, and nothing attached."""
        devices, spaces = [world.device(0), world.device(1)], [world.iommu.ioas_alloc() for _ in range(2)]
        memory = world.machine.buffer(PLACES * PAGE)
        for place in range(PLACES):
            memory[place * PAGE : place * PAGE + 8] = list(tag(place + 1))
        return cls(devices, spaces, [[ioas.hwpt_alloc(device) for device in devices] for ioas in spaces], memory)

    def map(self, chance: random.Random) -> None:
        """Map some pages to the places of their numbers."""
        place, count = chance.randrange(PLACES), chance.randint(1, 3)
        part = self.memory[place * PAGE : (place + count) * PAGE]
        chance.choice(self.spaces).map(part, BASE + place * PAGE, write=False)

    def unmap(self, chance: random.Random) -> None:
        """Unmap from the first place on."""
        chance.choice(self.spaces).unmap(BASE, chance.choice([1, 4, PLACES]) * PAGE)

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
        found = chance.choice(self.devices).dma_read(BASE + place * PAGE, 8)
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
            left = [place for place in range(PLACES) if isinstance(device.dma_read(BASE + place * PAGE, 8), bytes)]
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
    "THR-004",
    "While threads send accesses that are refused and the host listens, no event is told twice or made up; afterwards "
    "the next one is told.",
    source="viommu_interrupt: one that comes meanwhile is handled next; LiveHardware.record, from any thread",
    needs=(Need.NESTING, Need.EVENTS),
)
def recording_goes_on(subject: Subject) -> str:
    """Let devices and the host's interrupt handler meet again and again."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - events are of vIOMMUs
        space, events = one.attached(), one.viommu.veventq_alloc(subject.events.type, 1 << 16)
        told = 0
        for round_ in range(ROUNDS):
            sent = _stray(one, space, round_)
            found = [subject.events.told(event.data)[1] for event in events.read() if not event.lost]
            named = [iova for iova in found if iova is not None]
            strange = [hex(iova) for iova in named if (iova - IOVA) // PAGE not in sent]
            expect(not strange, f"events name {strange[:4]}, which nobody has accessed")
            expect(len(named) == len(set(named)), f"{len(named) - len(set(named))} events are told twice")
            one.device.translate(IOVA - PAGE, Access.READ, space.space.pasid)
            last = [subject.events.told(event.data)[1] for event in events.read() if not event.lost]
            expect(last, f"round {round_}: once threads were done, an access that is refused is not told any more")
            told += len(found) + len(last)
        return f"{told} events"


ROUNDS = 40


def _stray(one: Guest, space: GuestSpace, round_: int) -> set[int]:
    """Let four threads send accesses, each to pages of its own; all of these pages."""
    each, threads = 16, 4
    first = round_ * each * threads
    started = threading.Barrier(threads)

    def send(number: int) -> None:
        started.wait()
        for place in range(each):
            iova = IOVA + (first + number * each + place) * PAGE
            one.device.translate(iova, Access.READ, space.space.pasid)

    with often_switching():
        running = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    return set(range(first, first + each * threads))


@rule(
    "THR-003",
    "Of accesses that several threads send, each that hardware has room to record is told, once, and whole.",
    source="LiveHardware.record, from any thread",
    needs=(Need.NESTING, Need.EVENTS),
)
def every_record_is_told(subject: Subject) -> str:
    """Find out for how many there is room; then let threads send so many, with the host not listening until the end."""
    room = _told_after(subject, 1, 512)
    threads, total = 4, 0
    each = len(room) // threads
    expect(each, f"of 512 accesses, {len(room)} are told")
    until = time.monotonic() + 2 * SECONDS
    while time.monotonic() < until:
        found = _told_after(subject, threads, each)
        expect(
            sorted(found) == sorted(range(threads * each)),
            f"{threads} threads send {each} accesses each; {len(found)} are told, {len(set(found))} different ones",
        )
        total += threads * each
    return f"{total} records"


def _told_after(subject: Subject, threads: int, each: int) -> list[int]:
    """Let threads send accesses to different pages; those that the guest is told of once the host listens."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - events are of vIOMMUs
        space, events = one.attached(), one.viommu.veventq_alloc(subject.events.type, 1 << 13)
        machine, iommu = one.host.machine, one.device.endpoint.physical.iommu
        waiting: list[object] = []
        machine.handle_interrupts(waiting.append)
        started = threading.Barrier(threads)

        def send(number: int) -> None:
            started.wait()
            for place in range(number * each, (number + 1) * each):
                one.device.translate(IOVA + place * PAGE, Access.READ, space.space.pasid)

        with often_switching():
            running = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()

        def hear(interrupt: object) -> None:
            subject.driver.ask("viommu_interrupt", iommu=iommu, interrupt=interrupt)

        machine.handle_interrupts(hear)
        for interrupt in waiting:
            hear(interrupt)
        told = [subject.events.told(event.data)[1] for event in events.read() if not event.lost]
        return [(iova - IOVA) // PAGE for iova in told if iova is not None]
