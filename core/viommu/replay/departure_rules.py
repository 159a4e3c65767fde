"""Rules of the architecture that a recording is known not to follow, each general enough for rows not yet seen.

One line of ``departure_rules.csv`` is one rule. It holds for a mutation whose ``structure``, ``bits``, ``when`` and
``recorded`` outcome are as it says, and it excuses that row only if **our** outcome is the one that the architecture
demands there. A rule about a section without mutations has neither structure nor bits.

- ``bits``: ``1:0-20 0:3,5`` are bits of the structure's 64-bit words 1 and 0; empty: any.
- ``when``: conditions that all hold: ``ECAP[40]=0``, ``CAP[21:16]=47`` (registers of the capture), ``word[8:6]=1`` (the
  64-bit word that was mutated, as it was before), ``rid[7]=1``, ``access=w``.
- ``recorded``: the recorded outcome; empty: any.
- ``ours``: ``unchanged`` (as if nothing had been flipped), or ``fault REASON`` with, where a reason says too little,
  the neutral kind of fault: ``fault IO_PAGE_FAULT RESERVED``. About commands and fault records, whose names stand under
  ``structure``: ``no field LEAF``, where these bytes have no such field, whatever was recorded as its value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

from viommu.as_json import letters
from viommu.captures.rows import LETTERS, OUTCOMES, MutatedRow, same_fault
from viommu.decoding.naming import field_of
from viommu.errors import BadValue
from viommu.faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from viommu.captures.rows import RecordedRow
    from viommu.hookspecs import Registers
    from viommu.replay.described import Misread
    from viommu.replay.verdicts import OurVerdict

NO_FIELD = "no field "

COLUMNS = ("driver", "section", "structure", "bits", "when", "recorded", "ours", "specification")

UNCHANGED = "unchanged"

WORD_BITS = re.compile(r"(\d{1,2}):(\d{1,2}(?:-\d{1,2})?(?:,\d{1,2}(?:-\d{1,2})?)*)", re.ASCII)
CONDITION = re.compile(r"(\w+)\[(\d{1,2})(?::(\d{1,2}))?\]=(\d{1,6})", re.ASCII)


@frozen
class Case:
    """A row on which we differ from its recording.

    ``word`` is the mutated 64-bit word as it was before, None where nothing was mutated. ``unmutated`` asks what our
    model makes of the access where nothing is flipped.
    """

    driver: str
    registers: Registers
    section: str
    row: RecordedRow
    ours: OurVerdict
    word: int | None = None
    unmutated: Callable[[], OurVerdict] | None = None


@frozen
class LayoutRule:
    """Bytes that a recording reads by a layout which is not theirs."""

    driver: str
    section: str
    structure: str
    field: str
    specification: str

    @classmethod
    def parse(cls, cells: Mapping[str, str]) -> LayoutRule:
        """Read a line whose ``ours`` says which field there is not."""
        field = cells["ours"].removeprefix(NO_FIELD)
        return cls(cells["driver"], cells["section"], cells["structure"], field, cells["specification"])

    def excuses(self, driver: str, misread: Misread) -> bool:
        """Whether that field is all that differs, and the driver's layout has none of that name."""
        ours = misread.ours
        return (
            (self.driver, self.section) == (driver, misread.section)
            and ours is not None
            and ours.name == self.structure
            and misread.differs == (f"field {self.field}",)
            and field_of(ours, self.field) is None
        )


@frozen
class Condition:
    """A field of a register, the word or the requester id that has to have one value."""

    source: str
    high: int
    low: int
    value: int

    def holds(self, case: Case) -> bool:
        """Whether it is so in this case."""
        sources: dict[str, int | None] = {"rid": case.row.asked.requester, "word": case.word}
        whole = sources[self.source] if self.source in sources else case.registers[self.source]
        return whole is not None and whole >> self.low & (1 << self.high - self.low + 1) - 1 == self.value


@frozen
class Rule:
    """One line of the list, as the module's text explains it."""

    driver: str
    section: str
    structure: str
    bits: frozenset[tuple[int, int]]
    conditions: tuple[Condition, ...]
    access: str
    recorded: str
    ours: tuple[str, ...]
    specification: str

    @classmethod
    def parse(cls, cells: Mapping[str, str]) -> Rule:
        """Read a line. Raises BadValue naming what is wrong with it."""
        conditions = cells["when"].split()
        accesses = [text.removeprefix("access=") for text in conditions if text.startswith("access=")]
        ours = tuple(cells["ours"].split())
        for what, text, valid in (
            ("specification", cells["specification"], bool(cells["specification"])),
            ("recorded", cells["recorded"], cells["recorded"] in ("", *OUTCOMES)),
            ("access", " ".join(accesses), accesses in [[], *([letter] for letter in LETTERS)]),
            ("ours", cells["ours"], ours == (UNCHANGED,) or _is_fault(ours)),
        ):
            if not valid:
                raise BadValue(f"{what} of a departure rule", text, "as the list needs it")
        return cls(
            driver=cells["driver"],
            section=cells["section"],
            structure=cells["structure"],
            bits=frozenset(_bits(cells["bits"])),
            conditions=tuple(_condition(text) for text in conditions if not text.startswith("access=")),
            access="".join(accesses),
            recorded=cells["recorded"],
            ours=ours,
            specification=cells["specification"],
        )

    def excuses(self, case: Case) -> bool:
        """Whether this is the case that the rule is about, and our outcome is what the architecture demands."""
        return self._is_about(case) and self._is_met_by(case)

    def _is_about(self, case: Case) -> bool:
        return (
            (self.driver, self.section) == (case.driver, case.section)
            and self._has_mutation(case.row)
            and self.recorded in ("", case.row.recorded.outcome)
            and self.access in ("", letters(case.row.asked.access))
            and all(condition.holds(case) for condition in self.conditions)
        )

    def _has_mutation(self, row: RecordedRow) -> bool:
        if not isinstance(row, MutatedRow):
            return not self.structure and not self.bits
        return self.structure in ("", row.structure) and (not self.bits or (row.qword, row.bit) in self.bits)

    def _is_met_by(self, case: Case) -> bool:
        if self.ours == (UNCHANGED,):
            return case.unmutated is not None and case.ours == case.unmutated()
        outcome, reason, *kind = self.ours
        return (
            case.ours.outcome == outcome and same_fault(reason, case.ours.fault) and kind in ([], [case.ours.kind.name])
        )


def _is_fault(ours: tuple[str, ...]) -> bool:
    return len(ours) in (2, 3) and ours[0] in ("fault", "abort") and set(ours[2:]) <= set(FaultKind.__members__)


def _bits(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split():
        found = WORD_BITS.fullmatch(part)
        if found is None:
            raise BadValue("bits of a departure rule", text, "like 1:0-20 0:3,5")
        for span in found[2].split(","):
            first, _, last = span.partition("-")
            yield from ((int(found[1]), bit) for bit in range(int(first), int(last or first) + 1))


def _condition(text: str) -> Condition:
    found = CONDITION.fullmatch(text)
    if found is None:
        raise BadValue("when of a departure rule", text, "like ECAP[40]=0 or access=w")
    high, low = int(found[2]), int(found[3] or found[2])
    if high < low:
        raise BadValue("when of a departure rule", text, "like CAP[21:16]=47, the high bit first")
    return Condition(found[1], high, low, int(found[4]))
