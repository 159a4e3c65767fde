"""LAY: layouts, and bytes that a driver explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from viommu.hookspecs import Decoded
from viommu.testing.rule import Need, expect, rule

if TYPE_CHECKING:
    from viommu.testing.subject import Subject


def _layout(subject: Subject) -> st.SearchStrategy[tuple[str, bytes] | None]:
    layouts = dict(subject.driver.layouts())
    if not layouts:
        return st.none()
    return st.sampled_from(sorted(layouts)).flatmap(
        lambda name: st.tuples(st.just(name), st.binary(min_size=layouts[name].size, max_size=layouts[name].size))
    )


@rule(
    "LAY-001",
    "Any bytes of a structure decode, and encode to the same bytes.",
    source="viommu_layouts; viommu.layout.Descriptor",
    plan=_layout,
    examples=200,
)
def structures_round_trip(subject: Subject, plan: tuple[str, bytes] | None) -> None:
    """Decode and encode."""
    if plan is None:
        return
    name, raw = plan
    made = subject.driver.layouts()[name].decode(raw)
    expect(made.encode() == raw, f"{name} encodes otherwise", bytes=raw.hex(" "), encoded=made.encode().hex(" "))


@rule(
    "LAY-002",
    "A field that is changed reads as what it was changed to, and no other field changes.",
    source="viommu_layouts; viommu.layout.Descriptor",
    plan=_layout,
    examples=100,
)
def fields_are_apart(subject: Subject, plan: tuple[str, bytes] | None) -> None:
    """Change each field to all its ones and to zero."""
    if plan is None:
        return
    name, raw = plan
    made = subject.driver.layouts()[name].decode(raw)
    for changed, spec in made.fields.items():
        for value in (0, spec.maximum):
            after = made.replace(**{changed: value})
            expect(int(getattr(after, changed)) == value, f"{name}.{changed} is not {value:#x}", bytes=raw.hex(" "))
            others = [other for other in made.fields if other != changed]
            moved = [other for other in others if getattr(after, other) != getattr(made, other)]
            expect(not moved, f"{name}.{changed} shares bits with {', '.join(moved)}", bytes=raw.hex(" "))


def _explained(subject: Subject) -> st.SearchStrategy[tuple[str, bytes]]:
    kinds = subject.driver.kinds()
    pairs = [(kind, size) for kind, sizes in sorted(kinds.items()) for size in sizes]
    return st.sampled_from(pairs).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.binary(min_size=pair[1], max_size=pair[1]))
    )


@rule(
    "LAY-003",
    "Any bytes of a kind are explained, and the explanation encodes to the same bytes.",
    source="viommu_decode, Owes",
    needs=(Need.KINDS,),
    plan=_explained,
    examples=300,
)
def anything_is_explained(subject: Subject, plan: tuple[str, bytes]) -> None:
    """Decode and encode."""
    kind, raw = plan
    found = subject.driver.decode(kind, raw)
    expect(isinstance(found, Decoded), f"viommu_decode gave {type(found).__name__}", bytes=raw.hex(" "))
    encoded = found.descriptor.encode()
    expect(encoded == raw, f"{kind} {found.name} encodes otherwise", bytes=raw.hex(" "), encoded=encoded.hex(" "))
    expect(found.name and found.meaning, f"{kind}: no name, or no meaning", bytes=raw.hex(" "))


@rule(
    "LAY-004",
    "Bytes are explained in the same way each time.",
    source="viommu_decode; determinism",
    needs=(Need.KINDS,),
    plan=_explained,
    examples=100,
)
def explanations_stay(subject: Subject, plan: tuple[str, bytes]) -> None:
    """Decode twice."""
    first, second = (subject.driver.decode(*plan) for _ in range(2))
    same = (first.name, first.meaning, first.complaints) == (second.name, second.meaning, second.complaints)
    expect(same, "the second explanation is another", bytes=plan[1].hex(" "), first=repr(first), second=repr(second))


def _line(subject: Subject) -> st.SearchStrategy[str]:  # noqa: ARG001 - every driver is given the same
    return st.one_of(st.text(max_size=200), st.from_regex(r"[a-z0-9 :_.-]*(iommu|event|fault|DMAR|AMD-Vi)[ -~]*"))


@rule(
    "LAY-005",
    "A log line is nobody's, or gives bytes of a kind that the driver explains.",
    source="viommu_log_line, Owes and Returns",
    needs=(Need.LOG_LINES,),
    plan=_line,
    examples=100,
)
def log_lines_are_known_or_not(subject: Subject, line: str) -> None:
    """Paste a line."""
    found = subject.driver.log_line(line)
    if found is None:
        return
    kind, raw = found
    sizes = subject.driver.kinds().get(kind, ())
    expect(len(raw) in sizes, f"{len(raw)} bytes of {kind}, which has {sizes}", line=line)
