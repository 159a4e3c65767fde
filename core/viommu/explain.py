"""One access, explained: what was read, from where, what it said, and what came of it. Values, and their JSON.

Addresses are in bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, evolve, field, frozen

from viommu._engine import Context, explain_walk
from viommu.as_json import letters, outcome_to_json
from viommu.faults import Access, Fault, FaultClass, FaultKind
from viommu.formats import entry_layout
from viommu.layout import Descriptor
from viommu.translation import RIGHTS, outcome_of, page_size_of, refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu._engine import Step
    from viommu.faults import Report
    from viommu.hardware import CheckedHardware
    from viommu.memory import PhysicalMemory
    from viommu.translation import Outcome

__all__ = [
    "ConfigurationStep",
    "Entry",
    "Explanation",
    "Fetch",
    "FieldValue",
    "Note",
    "WalkStep",
]

RESERVED = "reserved"
"""The name under which reserved bits that are set are shown."""


@frozen
class FieldValue:
    """One field that matters: it is not zero. ``meaning`` is its name in the specification's value set."""

    name: str
    value: int
    meaning: str = ""

    def to_json(self) -> dict[str, str]:
        """Give it as JSON holds it."""
        shown = {"name": self.name, "value": hex(self.value)}
        return {**shown, "meaning": self.meaning} if self.meaning else shown


def fields_of(layout: object, raw: bytes | int) -> tuple[FieldValue, ...]:
    """Name the fields of a structure that are not zero; () where ``layout`` is no Descriptor or has another size."""
    if not (isinstance(layout, type) and issubclass(layout, Descriptor)):
        return ()
    try:
        decoded = layout.decode(raw)
    except ValueError:
        return ()
    found = [_field_value(name, spec.take(int(decoded))) for name, spec in layout.fields.items()]
    if decoded.reserved_set:
        found.append(FieldValue(RESERVED, decoded.reserved_set))
    return tuple(value for value in found if value.value)


def _field_value(name: str, value: int) -> FieldValue:
    return FieldValue(name, int(value), value.name if isinstance(value, IntEnum) else "")


@frozen
class Fetch:
    """A configuration structure that was read at ``address``; ``raw`` None: the read aborted."""

    structure: str
    address: int
    raw: bytes | None
    fields: tuple[FieldValue, ...]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it; ``raw`` is in memory order."""
        return {
            "structure": self.structure,
            "address": hex(self.address),
            "raw": None if self.raw is None else self.raw.hex(),
            "fields": [value.to_json() for value in self.fields],
            "note": self.note,
        }


@frozen
class Note:
    """A decision that the hardware took between two reads."""

    text: str

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        return {"note": self.text}


ConfigurationStep: TypeAlias = Fetch | Note
"""What the hardware did before it walked."""


@define
class ConfigurationRecorder:
    """A ConfigurationLog that keeps what it is told."""

    steps: list[ConfigurationStep] = field(factory=list)

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        """Keep one read, with its fields named."""
        fields = () if raw is None else fields_of(structure, raw)
        self.steps.append(Fetch(structure.__name__, address, raw, fields, note))

    def note(self, text: str) -> None:
        """Keep one decision."""
        self.steps.append(Note(text))


@frozen
class Entry:
    """One page-table entry that the walk read; see `viommu._engine.Step` for the numbers."""

    stage: int
    format: str
    level: int
    fault_class: FaultClass
    input: int
    address: int
    pa: int
    raw: int
    verdict: str
    kind: FaultKind
    output: int
    page_size: int
    rights: Access
    updated: int
    layout: str
    fields: tuple[FieldValue, ...]

    @classmethod
    def of(cls, step: Step) -> Entry:
        """Take it from the engine, with its fields named."""
        layout = entry_layout(step.format, step.verdict, step.level, step.raw)
        return cls(
            stage=step.stage,
            format=step.format,
            level=step.level,
            fault_class=FaultClass(step.fault_class),
            input=step.input,
            address=step.address,
            pa=step.pa,
            raw=step.raw,
            verdict=step.verdict,
            kind=FaultKind(step.kind),
            output=step.output,
            page_size=page_size_of(step.page_lg2),
            rights=Access(step.rights) & RIGHTS,
            updated=step.updated,
            layout="" if layout is None else layout.__name__,
            fields=() if layout is None else fields_of(layout, step.raw),
        )

    @property
    def serves_a_fetch(self) -> bool:
        """Whether stage 2 read it only to find a stage-1 entry."""
        return self.stage == 2 and self.fault_class is FaultClass.TABLE

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        shown: dict[str, Any] = {
            "stage": self.stage,
            "format": self.format,
            "level": self.level,
            "input": hex(self.input),
            "address": hex(self.address),
            "pa": hex(self.pa),
            "raw": f"{self.raw:#018x}",
            "layout": self.layout,
            "fields": [value.to_json() for value in self.fields],
            "verdict": self.verdict,
        }
        if self.verdict == "fault":
            return {**shown, "kind": self.kind.name}
        if self.updated != self.raw:
            shown["updated"] = f"{self.updated:#018x}"
        shown["output"] = hex(self.output)
        return (
            {**shown, "page_size": hex(self.page_size), "rights": letters(self.rights)}
            if self.verdict == "leaf"
            else shown
        )


@frozen
class WalkStep:
    """An entry, and beneath it what stage 2 had to read for its sake: to fetch it, and to store its flags.

    ``entry`` None: stage 2 refused, so that the stage-1 entry at ``beneath[0].input`` was never read.
    """

    entry: Entry | None
    beneath: tuple[Entry, ...] = ()
    beneath_store: tuple[Entry, ...] = ()

    @property
    def stores_through_stage2(self) -> bool:
        """Whether stage 2 is asked once more, since a stage-1 entry behind it is updated."""
        return bool(self.beneath) and self.entry is not None and self.entry.updated != self.entry.raw

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        if self.entry is None:
            shown: dict[str, Any] = {"stage": 1, "address": hex(self.beneath[0].input), "verdict": "unread"}
        else:
            shown = self.entry.to_json()
        for name, entries in (("beneath", self.beneath), ("beneath_store", self.beneath_store)):
            if entries:
                shown[name] = [entry.to_json() for entry in entries]
        return shown


def grouped(entries: Iterable[Entry]) -> tuple[WalkStep, ...]:
    """Put each stage-2 walk that served a stage-1 entry beneath that entry."""
    steps: list[WalkStep] = []
    waiting: list[Entry] = []
    for entry in entries:
        if not entry.serves_a_fetch:
            steps.append(WalkStep(entry, tuple(waiting)))
            waiting = []
            continue
        waiting.append(entry)
        if entry.verdict != "table" and steps and steps[-1].stores_through_stage2 and not steps[-1].beneath_store:
            steps[-1] = evolve(steps[-1], beneath_store=tuple(waiting))
            waiting = []
    if waiting:
        steps.append(WalkStep(None, tuple(waiting)))
    return tuple(steps)


@frozen
class Explanation:
    """All of one access. ``report`` is what the vendor's hardware records, None where nothing went wrong."""

    driver: str
    requester: int
    pasid: int | None
    iova: int
    access: Access
    configuration: tuple[ConfigurationStep, ...]
    walk: tuple[WalkStep, ...]
    outcome: Outcome
    report: Report | None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it: numbers are text in hexadecimal, levels and stages are numbers."""
        return {
            "driver": self.driver,
            "rid": hex(self.requester),
            "pasid": None if self.pasid is None else hex(self.pasid),
            "iova": hex(self.iova),
            "access": letters(self.access),
            "configuration": [step.to_json() for step in self.configuration],
            "walk": [step.to_json() for step in self.walk],
            "result": outcome_to_json(self.outcome, self.report),
        }

    def __str__(self) -> str:
        from viommu.explain_text import text_of  # noqa: PLC0415 - the text is made of these values

        return text_of(self)


def explain(
    hardware: CheckedHardware, memory: PhysicalMemory, requester: int, iova: int, access: Access, pasid: int | None
) -> Explanation:
    """Configure and walk once more, keeping every step; accessed and dirty stores are undone. Raises DriverBug."""
    log = ConfigurationRecorder()
    found = hardware.configure(requester, pasid, log)
    walk: tuple[WalkStep, ...] = ()
    outcome: Outcome
    if isinstance(found, Context):
        result, steps = explain_walk(memory.engine, found, iova, int(access))
        outcome = outcome_of(requester, pasid, result)
        walk = grouped(Entry.of(step) for step in steps)
    else:
        outcome = refused(requester, pasid, iova, int(access), found)
    report = hardware.report(outcome) if isinstance(outcome, Fault) else None
    return Explanation(hardware.driver, requester, pasid, iova, Access(access), tuple(log.steps), walk, outcome, report)
