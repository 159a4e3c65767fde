"""THR: devices that are refused by several threads at once, and the host that hears of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from viommu.faults import Access
from viommu.testing.at_once import SECONDS, together
from viommu.testing.rule import Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest

if TYPE_CHECKING:
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, GuestSpace


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

        def send(number: int) -> None:
            for place in range(number * each, (number + 1) * each):
                one.device.translate(IOVA + place * PAGE, Access.READ, space.space.pasid)

        together(threads, send)

        def hear(interrupt: object) -> None:
            subject.driver.ask("viommu_interrupt", iommu=iommu, interrupt=interrupt)

        machine.handle_interrupts(hear)
        for interrupt in waiting:
            hear(interrupt)
        told = [subject.events.told(event.data)[1] for event in events.read() if not event.lost]
        return [(iova - IOVA) // PAGE for iova in told if iova is not None]


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

    def send(number: int) -> None:
        for place in range(each):
            iova = IOVA + (first + number * each + place) * PAGE
            one.device.translate(iova, Access.READ, space.space.pasid)

    together(threads, send)
    return set(range(first, first + each * threads))
