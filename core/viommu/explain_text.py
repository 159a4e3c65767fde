"""An explained access as text that a person can follow: a line for each thing that was read."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from attrs import frozen

from viommu.as_json import letters
from viommu.explain import Fetch
from viommu.faults import Access, FaultClass, FaultKind, Stage
from viommu.translation import Translation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from viommu.explain import ConfigurationStep, Entry, Explanation, FieldValue, WalkStep
    from viommu.faults import Fault, Refusal, Report

REASONS = {
    FaultKind.CONFIGURATION: "the configuration refuses it",
    FaultKind.INPUT_SIZE: "the address is wider than the tables translate",
    FaultKind.TRANSLATION: "the entry is not present",
    FaultKind.PERMISSION: "a right is missing",
    FaultKind.ACCESS_FLAG: "the accessed flag is clear and hardware does not set it",
    FaultKind.ADDRESS_SIZE: "the entry points beyond the output size",
    FaultKind.EXTERNAL_ABORT: "the entry could not be read: no memory is there",
    FaultKind.RESERVED: "a reserved bit is set",
    FaultKind.MALFORMED: "the entry is one that no table may hold",
    FaultKind.UPDATE_FAILED: "memory refused the store of an accessed or dirty flag",
    FaultKind.UPDATE_FORBIDDEN: "an accessed or dirty flag would have to be stored, and must not be",
    FaultKind.BLOCKED_OUTPUT: "the output lies where no DMA may go",
}

WORD = 8
WIDTH = 120

HEADING = "heading"
GOOD = "good"
BAD = "bad"
PLAIN = ""
FAINT = "faint"


@frozen
class Line:
    """One line; ``style`` says what it is, for those who have colours."""

    indent: int
    text: str
    style: str = PLAIN

    def __str__(self) -> str:
        return "  " * self.indent + self.text


def text_of(explanation: Explanation) -> str:
    """Write the whole explanation as plain text."""
    return "\n".join(str(line) for line in lines_of(explanation))


def lines_of(explanation: Explanation) -> Iterator[Line]:
    """Write the whole explanation, line by line."""
    yield Line(0, _asked(explanation), HEADING)
    yield Line(0, "configuration", HEADING)
    for step in explanation.configuration:
        yield from _configuration(step)
    yield from _walk(explanation.walk)
    yield from _result(explanation)


def _asked(explanation: Explanation) -> str:
    who = f"RID {explanation.requester:#x}"
    if explanation.pasid is not None:
        who += f", PASID {explanation.pasid:#x}"
    return f"{access_words(explanation.access)} of IOVA {explanation.iova:#x} by {who}, driver {explanation.driver}"


def access_words(access: Access) -> str:
    """Write an access in words: ``privileged read and write``."""
    named = ((Access.READ, "read"), (Access.WRITE, "write"), (Access.EXECUTE, "execute"))
    words = " and ".join(word for right, word in named if access & right)
    return " ".join(part for part in ("privileged" if access & Access.PRIVILEGED else "", words) if part)


def _configuration(step: ConfigurationStep) -> Iterator[Line]:
    if not isinstance(step, Fetch):
        yield Line(1, step.text)
        return
    where = f"{step.structure} at {step.address:#x}"
    if step.raw is None:
        yield Line(1, f"{where}: no memory is there", BAD)
    elif len(step.raw) <= WORD:
        yield Line(1, f"{where}: {_word(step.raw)}")
    else:
        yield Line(1, where)
        yield from _words(step.raw)
    yield from _fields(2, step.fields)
    if step.note:
        yield Line(2, step.note)


def _word(raw: bytes) -> str:
    return f"0x{int.from_bytes(raw, 'little'):0{2 * len(raw)}x}"


def _words(raw: bytes) -> Iterator[Line]:
    """Show up to four 64-bit words in a line, the lowest address first; lines of zeros are left out."""
    for first in range(0, len(raw), 4 * WORD):
        line = raw[first : first + 4 * WORD]
        if first == 0 or any(line):
            words = " ".join(_word(line[at : at + WORD]) for at in range(0, len(line), WORD))
            yield Line(2, f"+{first:#04x}  {words}")


def _fields(indent: int, fields: Sequence[FieldValue]) -> Iterator[Line]:
    for text in wrap(fields_text(fields), WIDTH - 2 * indent, break_long_words=False, break_on_hyphens=False):
        yield Line(indent, text, FAINT)


def fields_text(fields: Sequence[FieldValue]) -> str:
    """Write fields as ``V=1 Config=5 (S1_TRANSLATE) S1ContextPtr=0x48000``."""
    return " ".join(_field_text(value) for value in fields)


def _field_text(value: FieldValue) -> str:
    number = str(value.value) if value.value < 10 else hex(value.value)
    return f"{value.name}={number}" + (f" ({value.meaning})" if value.meaning else "")


def _walk(steps: Sequence[WalkStep]) -> Iterator[Line]:
    stage = None
    for step in steps:
        entry = step.entry
        if entry is None:
            yield Line(1, f"entry at IPA {step.beneath[0].input:#x}: never read", BAD)
        else:
            if entry.stage != stage:
                yield _stage_heading(entry, "IOVA" if stage is None else "IPA")
            stage = entry.stage
            yield from _entry(1, entry)
        yield from _beneath(step.beneath, "")
        yield from _beneath(step.beneath_store, ", to store the flag")


def _stage_heading(entry: Entry, kind: str) -> Line:
    if entry.stage == Stage.FLAT:
        return Line(0, f"instead of stage 2: flat table, {kind} {entry.input:#x}", HEADING)
    return Line(0, f"stage {entry.stage}: {entry.format} tables, {kind} {entry.input:#x}", HEADING)


def _beneath(entries: Sequence[Entry], purpose: str) -> Iterator[Line]:
    """Show what stage 2 read for the sake of one stage-1 entry."""
    if entries:
        yield Line(3, f"stage 2 looks for that entry{purpose}: {entries[0].format} tables, IPA {entries[0].input:#x}")
    for entry in entries:
        yield from _entry(4, entry)


def _entry(indent: int, entry: Entry) -> Iterator[Line]:
    where = f"{entry.address:#x}" if entry.address == entry.pa else f"IPA {entry.address:#x} (PA {entry.pa:#x})"
    yield Line(
        indent,
        f"level {entry.level} at {where}: {entry.raw:#018x} {_verdict(entry)}",
        BAD if entry.verdict == "fault" else PLAIN,
    )
    yield from _fields(indent + 2, entry.fields)
    if entry.updated != entry.raw:
        yield Line(indent + 2, f"accessed or dirty flag to store: {entry.updated:#018x}")


def _verdict(entry: Entry) -> str:
    if entry.verdict == "table":
        return f"table at {entry.output:#x}"
    if entry.verdict == "leaf":
        return f"{size_text(entry.page_size)} page at {entry.output:#x}, rights {letters(entry.rights) or 'none'}"
    return f"refused: {REASONS.get(entry.kind, entry.kind.name)}"


def size_text(size: int) -> str:
    """Write a size as 4K, 2M, 1G, 512G."""
    for unit, letter in ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if size >= unit and not size % unit:
            return f"{size // unit}{letter}"
    return str(size)


def _result(explanation: Explanation) -> Iterator[Line]:
    yield Line(0, "result", HEADING)
    outcome = explanation.outcome
    if isinstance(outcome, Translation):
        yield Line(1, _translated(outcome), GOOD)
        return
    yield from _refused(outcome)
    if explanation.report is not None:
        yield from _recorded(explanation.report)


def _translated(found: Translation) -> str:
    if found.untranslated:
        return f"PA {found.pa:#x}, untranslated, rights {letters(found.rights)}"
    through = "" if int(found.ipa) in {int(found.iova), int(found.pa)} else f" through IPA {found.ipa:#x}"
    return f"PA {found.pa:#x}{through}, {size_text(found.page_size)} page, rights {letters(found.rights)}"


def _refused(fault: Fault) -> Iterator[Line]:
    if fault.refusal is not None:
        yield from _refused_configuration(fault.refusal)
        return
    where = f"in stage {int(fault.stage)}, level {fault.level}"
    where = {Stage.NONE: "before any table", Stage.FLAT: "in the flat table"}.get(fault.stage, where)
    yield Line(1, f"refused {where}: {REASONS[fault.kind]} ({fault.kind.name})", BAD)
    if fault.entry_address:
        yield Line(2, f"entry {fault.entry_value:#018x} at {fault.entry_address:#x}")
    if fault.missing:
        yield Line(2, f"missing: {access_words(fault.missing) or 'nothing'}")
    if fault.fault_class is FaultClass.TABLE:
        yield Line(
            2,
            f"while reaching for a stage-1 entry at IPA {fault.ipa:#x}" + (" to update it" if fault.for_update else ""),
        )


def _refused_configuration(refusal: Refusal) -> Iterator[Line]:
    detail = f": {refusal.detail}" if refusal.detail else ""
    yield Line(1, f"refused by the configuration, {refusal.reason}{detail}", BAD)
    if refusal.address is not None:
        yield Line(2, f"the structure at {refusal.address:#x} could not be read")
    if refusal.walk is not None:
        walk = refusal.walk
        reason = f"{REASONS[FaultKind(walk.kind)]} ({FaultKind(walk.kind).name})"
        yield Line(2, f"stage 2 refused the fetch at IPA {walk.ipa:#x}, level {walk.level}: {reason}")
        if walk.entry_address:
            yield Line(3, f"entry {walk.entry_value:#018x} at {walk.entry_address:#x}")


def _recorded(report: Report) -> Iterator[Line]:
    if report.outcome == "abort":
        yield Line(1, "the device's access is aborted, and nothing is recorded")
    elif report.record is None:
        yield Line(1, f"reported as {report.reason}, without a record")
    else:
        yield Line(1, f"reported as {report.reason}, record in memory order: {report.record.hex()}")
