"""DET: the same history has the same outcome, to the last byte."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from viommu.faults import Access, Fault
from viommu.testing.rule import Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import IOVA, guest

if TYPE_CHECKING:
    from viommu.testing.subject import Subject

Step = tuple[int, int]


@rule(
    "DET-001",
    "Two machines that live through the same history give the same answers, and hold the same bytes.",
    source="determinism: a recording can be replayed",
    needs=(Need.NESTING,),
    plan=lambda subject: st.lists(st.tuples(st.integers(0, 4), st.integers(0, 15)), min_size=1, max_size=14),  # noqa: ARG005
    examples=15,
)
def histories_repeat(subject: Subject, plan: list[Step]) -> None:
    """Live twice."""
    first, second = _lived(subject, plan), _lived(subject, plan)
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        expect(one == other, f"step {number} differs between two lives", first=repr(one), second=repr(other))


def _lived(subject: Subject, plan: list[Step]) -> list[object]:
    """Give what came of each step, and of all bytes at the end."""
    told: list[object] = []
    with guest(subject) as one:
        space = one.attached()
        for kind, place in plan:
            iova = IOVA + place * PAGE
            if kind == 0:
                space.tables.map(iova, one.page())
            elif kind == 1:
                told.append(space.drop(iova, iova + PAGE - 1))
            elif kind == 2:
                told.append(one.device.dma_write(iova + 64, b"written", space.space.pasid) is None)
            elif kind == 3:
                space = one.space()
                space.attach()
            else:
                outcome = one.device.translate(iova, Access.READ, space.space.pasid)
                report = one.host.machine.report(outcome) if isinstance(outcome, Fault) else outcome
                told.append(repr(report))
        told.append(_digest(one.memory.tobytes()))
        port = one.host.machine.host().port
        told += [_digest(port.memory.read(pa, length) or b"") for pa, length in port.frames.stretches()]
    return told


def _digest(raw: bytes) -> str:
    return sha256(raw).hexdigest()
