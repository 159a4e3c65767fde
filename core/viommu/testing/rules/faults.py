"""FLT: what is refused is told, as hardware records it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from hypothesis import strategies as st

from viommu.faults import Access, Fault, FaultKind
from viommu.testing.rule import Inapplicable, Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, Host, guest, host

if TYPE_CHECKING:
    from viommu.api.device import Device
    from viommu.faults import Report
    from viommu.testing.subject import Subject

KINDS = (Access.READ, Access.WRITE)
OUTCOMES = ("fault", "abort", "stall")
EVENT = "event"


@frozen
class Refused:
    """One access that is refused: where, and what it asks for."""

    iova: int
    access: Access
    pasid: int | None = None


def _iovas(subject: Subject) -> st.SearchStrategy[int]:
    """Draw from what may be mapped, half of them low; upper halves that are signed are another rule's."""
    ranges = [(-(-first // PAGE), (last + 1) // PAGE - 1) for first, last in subject.room.ranges]
    parts = [(first, min(last, most)) for most in (1 << 20, (1 << 47) // PAGE - 1) for first, last in ranges]
    pages = st.one_of([st.integers(first, last) for first, last in parts if first <= last])
    return st.builds(lambda page, offset: page * PAGE + offset, pages, st.sampled_from([0, 8, 0x123, 0xFFF]))


def _accesses(subject: Subject) -> st.SearchStrategy[Refused]:
    pasids = st.one_of(st.none(), st.integers(1, 3)) if subject.has(Need.PASIDS) else st.none()
    return st.builds(Refused, _iovas(subject), st.sampled_from(KINDS), pasids)


@rule(
    "FLT-001",
    "Any access that is refused has a report, in known words, and the same report each time.",
    source="HardwareModel.report; viommu.faults.Report",
    needs=(Need.HOST,),
    plan=_accesses,
    examples=100,
)
def reports_are_in_words(subject: Subject, plan: Refused) -> None:
    """Send an access of a device that nothing, or an empty page table, governs."""
    with host(subject) as world:
        device = world.device()
        for attach in (False, True):
            if attach:
                _govern(world, device)
            outcome = world.machine.translate(device.endpoint.requester, plan.iova, plan.access, plan.pasid)
            if not isinstance(outcome, Fault):
                expect(False, f"an access goes through to {outcome.pa:#x}, where nothing is mapped")
                return
            report = world.machine.report(outcome)
            expect(report.outcome in OUTCOMES, f"the outcome is {report.outcome!r}, none of {', '.join(OUTCOMES)}")
            expect(report.reason, "the report names no reason", fault=repr(outcome))
            again = world.machine.report(outcome)
            expect(again == report, "a second report is another", first=repr(report), second=repr(again))


def _govern(world: Host, device: Device, pasid: int | None = None) -> None:
    """Let empty page tables govern."""
    ioas = world.iommu.ioas_alloc()
    hwpt = ioas.hwpt_alloc(device, pasid=pasid is not None)
    device.attach(hwpt)
    if pasid is not None:
        device.attach(hwpt, pasid=pasid)


@rule(
    "FLT-002",
    "A record decodes as an event, encodes to the same bytes, and names in its fields who asked for what.",
    source="Report.record; viommu_decode of kind event",
    needs=(Need.HOST, Need.KINDS),
    plan=_accesses,
    examples=100,
)
def records_name_requests(subject: Subject, plan: Refused) -> None:
    """Look for requester, page and PASID among the fields of the record."""
    kinds = subject.driver.kinds()
    with host(subject) as world:
        device = world.device()
        _govern(world, device, plan.pasid)
        fault, report = _refused(world, device, plan)
        raw = report.record
        if raw is None:
            return
        kind = next((name for name, sizes in kinds.items() if name in {EVENT, "fault"} and len(raw) in sizes), None)
        if kind is None:
            raise Inapplicable(f"no kind 'event' or 'fault' of {len(raw)} bytes is explained (viommu_kinds)")
        decoded = subject.driver.decode(kind, raw)
        expect(decoded.descriptor.encode() == raw, "the record encodes otherwise", record=raw.hex(" "))
        fields = {name: int(getattr(decoded.descriptor, name)) for name in decoded.descriptor.fields}
        told = "\n".join(f"{name} = {value:#x}" for name, value in fields.items())
        unrecorded = subject.kit.unrecorded
        if "requester" in unrecorded:
            other = _of_another(world, plan)
            expect(raw != other, "records of two devices are alike: none says whose it is", record=raw.hex(" "))
        else:
            expect(
                device.endpoint.requester in fields.values(),
                f"no field of {decoded.name} is the requester {device.endpoint.requester:#x}; if hardware knows "
                "devices by numbers of its own, GuestKit.unrecorded says so",
                record=raw.hex(" "),
                fields=told,
            )
        page = plan.iova & -PAGE
        named = any(value in {plan.iova, page, plan.iova >> 12} for value in fields.values())
        # What configuration refuses need not be told by address: every access would have been.
        expect(
            named or "address" in unrecorded or fault.kind is FaultKind.CONFIGURATION,
            f"no field of {decoded.name} is the address {plan.iova:#x}, or its page",
            fields=told,
        )
        if plan.pasid is not None and plan.pasid != 0 and "pasid" not in unrecorded:
            expect(
                plan.pasid in fields.values(),
                f"no field of {decoded.name} is the PASID {plan.pasid} ({report.reason})",
                record=raw.hex(" "),
                fields=told,
            )


def _of_another(world: Host, plan: Refused) -> bytes | None:
    """Give the record of the same access of the other device."""
    other = world.device(1)
    _govern(world, other, plan.pasid)
    return _refused(world, other, plan)[1].record


def _refused(world: Host, device: Device, asked: Refused) -> tuple[Fault, Report]:
    outcome = world.machine.translate(device.endpoint.requester, asked.iova, asked.access, asked.pasid)
    assert isinstance(outcome, Fault), "nothing is mapped"  # noqa: S101 - another rule asks this
    return outcome, world.machine.report(outcome)


@rule(
    "FLT-003",
    "Records tell reads from writes.",
    source="Report.record: what software has to know to serve a fault",
    needs=(Need.HOST,),
)
def records_tell_the_access(subject: Subject) -> None:
    """Compare the records of two accesses that differ in that alone."""
    if "access" in subject.kit.unrecorded:
        raise Inapplicable(f"the driver says: {subject.kit.unrecorded['access']}")
    with host(subject) as world:
        device = world.device()
        _govern(world, device)
        told = [_refused(world, device, Refused(world.base, access))[1].record for access in KINDS]
        if None in told:
            raise Inapplicable("the driver's hardware writes no record of an access that finds nothing mapped")
        expect(told[0] != told[1], "the record of a write is that of a read", record=(told[0] or b"").hex(" "))


@rule(
    "FLT-008",
    "Explaining an access says what sending it says, and changes nothing.",
    source="the life of one explained walk: there is no second implementation",
    needs=(Need.NESTING,),
    plan=lambda subject: st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=8),  # noqa: ARG005
    examples=15,
)
def explanations_agree(subject: Subject, plan: list[tuple[int, bool]]) -> None:
    """Explain and translate each page."""
    with guest(subject, cached=False) as one:
        space = one.attached()
        for place, write in plan:
            space.tables.map(IOVA + place * PAGE, one.page(), write=write)
        requester = one.device.endpoint.requester
        for place in range(16):
            for access in KINDS:
                iova = IOVA + place * PAGE
                told = one.host.machine.explain(requester, iova, access, space.space.pasid)
                outcome = one.device.translate(iova, access, space.space.pasid)
                expect(
                    isinstance(told.outcome, Fault) == isinstance(outcome, Fault)
                    and getattr(told.outcome, "pa", None) == getattr(outcome, "pa", None),
                    f"{access!r} of {iova:#x} is explained as {told.outcome!r}, and ends as {outcome!r}",
                    walk=str(told),
                )
