"""FLT: what guests are told of their devices' accesses, and what devices are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from viommu.faults import Access
from viommu.kernel_errors import KernelError
from viommu.testing.rule import Inapplicable, Level, Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest

if TYPE_CHECKING:
    from viommu.testing.subject import Subject

SENT = 5000
"""Accesses: more than any host's queue has room for."""


def _last_page(subject: Subject) -> int:
    """The last page of the lower half of what a guest's table translates."""
    return ((1 << subject.nesting.tables.input_bits - 1) - 1) // PAGE


@rule(
    "FLT-004",
    "A guest is told of each refused access of its device: by the device's virtual id, with the IOVA, in order.",
    source="report_event; IOMMU_VEVENTQ_ALLOC: virtual ids, sequence numbers",
    needs=(Need.NESTING, Need.EVENTS),
    plan=lambda subject: st.lists(st.integers(0, _last_page(subject)), min_size=1, max_size=12),
    examples=20,
)
def guests_are_told(subject: Subject, plan: list[int]) -> None:
    """Send accesses that the guest's empty table refuses, and read events."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - events are of vIOMMUs
        space, events = one.attached(), one.viommu.veventq_alloc(subject.events.type, 1024)
        iovas = [page * PAGE + 8 * (page % 64) for page in plan]
        wanted = [iova for number, iova in enumerate(iovas) if not number or iova != iovas[number - 1]]
        for iova in wanted:
            one.device.translate(iova, Access.READ, space.space.pasid)
        found = events.read()
        told = [subject.events.told(event.data) for event in found if not event.lost]
        expect(
            [virtual for virtual, _ in told] == [one.virt_id] * len(wanted),
            f"of {len(wanted)} refused accesses of {one.virt_id:#x}, events name {[hex(who) for who, _ in told]}",
            events="\n".join(event.data.hex(" ") for event in found),
        )
        pairs = zip(wanted, (iova for _, iova in told), strict=True)
        wrong = [
            (hex(iova), hex(named)) for iova, named in pairs if named is not None and named & -PAGE != iova & -PAGE
        ]
        expect(not wrong, f"events name other addresses than were accessed: {wrong}")
        numbers = [event.sequence for event in found]
        expect(numbers == list(range(len(found))), f"sequence numbers are {numbers}")


@rule(
    "FLT-005",
    "A guest that does not read loses the newest events, is told so by a mark, and hears of what comes afterwards.",
    source="IOMMU_VEVENTQ_ALLOC: veventq_depth, LOST_EVENTS",
    needs=(Need.NESTING, Need.EVENTS),
    plan=lambda subject: st.tuples(st.integers(1, 8), st.integers(1, 12)),  # noqa: ARG005
    examples=10,
)
def lost_events_are_marked(subject: Subject, plan: tuple[int, int]) -> None:
    """Send more than the queue holds."""
    depth, more = plan
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - events are of vIOMMUs
        space, events = one.attached(), one.viommu.veventq_alloc(subject.events.type, depth)
        for number in range(depth + more):
            one.device.translate(IOVA + number * PAGE, Access.READ, space.space.pasid)
        found = events.read()
        kept = [subject.events.told(event.data)[1] for event in found[:-1]]
        expect(len(found) == depth + 1 and found[-1].lost, f"{len(found)} events are read of a queue of {depth}")
        wanted = [IOVA + number * PAGE for number in range(depth)]
        wrong = [named for named, iova in zip(kept, wanted, strict=True) if named is not None and named & -PAGE != iova]
        expect(not wrong, f"the events that are kept are not the oldest: {[hex(named) for named in wrong]}")
        one.device.translate(IOVA, Access.READ, space.space.pasid)
        last = events.read()
        expect(len(last) == 1 and not last[0].lost, f"afterwards, {len(last)} events are read, where one was set off")
        expect(last[0].sequence == depth + more, f"its sequence number is {last[0].sequence}, not {depth + more}")


@rule(
    "FLT-006",
    "Records that find no room in the host's queue are lost; those that wait are never overwritten.",
    source="LiveHardware.record: the event queue, overflow",
    needs=(Need.NESTING, Need.EVENTS),
)
def waiting_records_stay(subject: Subject) -> str:
    """Keep the host from hearing interrupts, send thousands of accesses, then let it hear."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - events are of vIOMMUs
        space, events = one.attached(), one.viommu.veventq_alloc(subject.events.type, 1 << 14)
        machine, physical = one.host.machine, one.device.endpoint.physical
        waiting: list[object] = []
        machine.handle_interrupts(waiting.append)
        for number in range(SENT):
            one.device.translate(IOVA + number * PAGE, Access.READ, space.space.pasid)
        machine.handle_interrupts(
            lambda interrupt: subject.driver.ask("viommu_interrupt", iommu=physical.iommu, interrupt=interrupt)
        )
        for interrupt in waiting:
            subject.driver.ask("viommu_interrupt", iommu=physical.iommu, interrupt=interrupt)
        found = [subject.events.told(event.data)[1] for event in events.read() if not event.lost]
        expect(found, f"of {SENT} refused accesses none is told once the host listens again")
        places = [(named - IOVA) // PAGE for named in found if named is not None]
        expect(
            places[: len(places)] == list(range(len(places))),
            f"what is told begins with accesses {places[:4]}, where the oldest of {SENT} have to be kept",
        )
        one.device.translate(IOVA, Access.READ, space.space.pasid)
        told = [event for event in events.read() if not event.lost]
        expect(told, "nothing is told any more after an overflow")
        return f"{len(found)} of {SENT} records had room"


@rule(
    "FLT-007",
    "A page request comes to the FAULT of what governs the device, and its answer comes back to the device.",
    source="viommu_page_response, report_fault; IOMMU_FAULT_QUEUE_ALLOC",
    needs=(Need.NESTING, Need.PAGE_REQUESTS),
    plan=lambda subject: st.lists(st.tuples(st.integers(0, 1 << 20), st.booleans()), min_size=1, max_size=6),  # noqa: ARG005
    examples=8,
)
def page_requests_are_answered(subject: Subject, plan: list[tuple[int, bool]]) -> None:
    """Ask for pages by groups, and answer each."""
    with guest(subject) as one:
        space, faults = one.space(), one.host.iommu.fault_alloc()
        below = one.parent if one.viommu is None else one.viommu
        try:
            hwpt = below.hwpt_alloc(one.device, space.space.data, data_type=space.space.data_type, fault=faults)
            one.device.attach(hwpt)
        except KernelError as error:
            raise Inapplicable(f"the driver takes no page requests for a guest's HWPT: {error}") from error
        answers, came = one.device.endpoint.with_ats.responses, 0
        for group, (page, success) in enumerate(plan):
            for pasid in (space.space.pasid, 1):  # some hardware, or its kernel, takes none without a PASID
                answered = len(answers)
                one.device.request_page(page * PAGE, Access.READ, pasid, group=group)
                found = faults.read()
                if found:
                    came += 1
                    told = found[0].addr
                    expect(len(found) == 1, f"{len(found)} requests are read, where one was sent")
                    expect(told == page * PAGE, f"it names {told:#x}, where {page * PAGE:#x} was asked for")
                    expect(len(answers) == answered, "the device is answered before user space has answered")
                    faults.respond(found[0], success=success)
                expect(len(answers) == answered + 1, f"the device has {len(answers) - answered} answers to one group")
                code = answers[-1].code.name
                expect(answers[-1].group == group, f"group {answers[-1].group} is answered, where {group} asked")
                expect(not found or (code == "SUCCESS") == success, f"it is answered {code}, success was {success}")
        expect(came >= len(plan), f"of {2 * len(plan)} requests, {came} came to user space")


@rule(
    "FLT-009",
    "A guest is told what hardware says of the access: reads and writes differ in the event.",
    source="report_event: the vendor's record",
    needs=(Need.NESTING, Need.EVENTS),
    level=Level.SHOULD,
)
def events_tell_the_access(subject: Subject) -> None:
    """Compare the events of a read and a write."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - events are of vIOMMUs
        space, events = one.attached(), one.viommu.veventq_alloc(subject.events.type)
        for access in (Access.READ, Access.WRITE):
            one.device.translate(IOVA, access, space.space.pasid)
        found = [event.data for event in events.read()]
        expect(len(set(found)) == 2, "the event of a write is that of a read", events=repr(found))
