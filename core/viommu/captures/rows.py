"""The rows of a capture's tables, as values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attrs import field, frozen

from viommu.captures.files import parsed_number
from viommu.faults import Access

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.captures.files import Row
    from viommu.requests import Bounds

OUTCOMES = ("ok", "bypass", "abort", "fault")

TRANSLATION_COLUMNS = ("rid", "iova", "access", "outcome", "pa", "page_size", "fault")
COMMAND_COLUMNS = ("raw", "kind")
FAULT_COLUMNS = ("tables", "rid", "iova", "access", "fault", "raw")
MUTATION_COLUMNS = ("structure", "entry", "qword", "bit", "rid", "iova", "access", "outcome", "pa")

LETTERS = {"r": Access.READ, "w": Access.WRITE, "x": Access.EXECUTE}


@frozen
class Asked:
    """One access, as a device makes it."""

    requester: int
    pasid: int | None
    iova: int
    access: Access


@frozen
class Verdict:
    """What became of an access; in a recording, None and "" stand for what it does not say."""

    outcome: str
    pa: int | None = None
    page_size: int | None = None
    fault: str = ""
    record: bytes | None = None


@frozen
class RecordedRow:
    """One access and its recorded verdict. ``record_mask`` has the bits of the record that count."""

    number: int
    asked: Asked
    recorded: Verdict
    record_mask: bytes | None = None
    oracle: str = ""
    """Who says so, in the recorder's words."""


@frozen
class DisputedRow(RecordedRow):
    """A row on which the recording and a second walker differ: it counts for nothing."""

    second_walker: str = ""
    note: str = ""


@frozen
class DescribedRow:
    """Bytes with what the recording says they are: their name, and fields under the recording's names for them.

    A field's value is a number or a name. ``mask`` has the bits of ``raw`` that count, None: all.
    """

    number: int
    raw: bytes
    name: str
    fields: Mapping[str, int | str] = field(factory=dict)
    mask: bytes | None = None


@frozen
class FaultRow:
    """A record that was written. ``provoked`` is there where these very tables provoked it, by that access."""

    number: int
    described: DescribedRow
    provoked: RecordedRow | None


@frozen
class MutatedRow(RecordedRow):
    """A row that holds with one bit flipped: bit ``bit`` of the 64-bit word at ``address``.

    ``qword`` says which word of its structure that is.
    """

    structure: str = ""
    address: int = 0
    qword: int = 0
    bit: int = 0


def recorded_row(row: Row, bounds: Bounds) -> RecordedRow:
    """Read a row of translations.csv. Raises CaptureError."""
    record, mask = _record(row, "record", "record_mask")
    return RecordedRow(row.number, asked(row, bounds), _verdict(row, record), mask, row.text("oracle"))


def disputed_row(row: Row, bounds: Bounds) -> DisputedRow:
    """Read a row of disputed.csv. Raises CaptureError."""
    record, mask = _record(row, "record", "record_mask")
    note = row.text("note") or row.text("why")
    verdict, oracle = _verdict(row, record), row.text("oracle")
    return DisputedRow(row.number, asked(row, bounds), verdict, mask, oracle, row.text("second_walker"), note)


def command_row(row: Row, _bounds: Bounds) -> DescribedRow:
    """Read a row of commands.csv. Raises CaptureError."""
    return DescribedRow(row.number, row.bytes_in("raw"), row.text("kind"), _fields(row))


def fault_row(row: Row, bounds: Bounds) -> FaultRow:
    """Read a row of faults.csv, whose record is always there. Raises CaptureError."""
    raw, (_, mask) = row.bytes_in("raw"), _record(row, "raw", "mask")
    name = row.text("fault")
    provoked = None
    if row.choice("tables", ("in-force", "history")) == "in-force":
        provoked = RecordedRow(row.number, asked(row, bounds), Verdict("fault", fault=name, record=raw), mask)
    return FaultRow(row.number, DescribedRow(row.number, raw, name, _fields(row), mask), provoked)


def mutated_row(row: Row, bounds: Bounds) -> MutatedRow:
    """Read a row of mutations.csv. Raises CaptureError."""
    record, mask = _record(row, "record", "record_mask")
    # `entry` is the word's own address, whichever word of its structure `qword` says that it is.
    address = row.number_in("entry")
    if address % 8:
        raise row.wrong("entry", "it is not the address of a 64-bit word")
    verdict = Verdict(row.choice("outcome", OUTCOMES), row.optional_number("pa"), record=record)
    return MutatedRow(
        row.number,
        asked(row, bounds),
        verdict,
        mask,
        structure=row.text("structure"),
        address=address,
        qword=row.optional_number("qword", 63) or 0,
        bit=row.number_in("bit", 63),
    )


def asked(row: Row, bounds: Bounds) -> Asked:
    """Read the access of a row, within what the driver's hardware can be asked. Raises CaptureError."""
    requester = row.number_in("rid", bounds.requester_last)
    if row.text("pasid") and bounds.pasid_last < 0:
        raise row.wrong("pasid", f"the hardware of {bounds.driver} has no PASIDs")
    return Asked(requester, row.optional_number("pasid", bounds.pasid_last), row.number_in("iova"), _access(row))


def _access(row: Row) -> Access:
    access = Access(0)
    for letter in row.text("access"):
        if letter not in LETTERS:
            raise row.wrong("access", "it is not made of r, w and x")
        access |= LETTERS[letter]
    if not access:
        raise row.wrong("access", "it is not made of r, w and x")
    return access | Access.PRIVILEGED if row.choice("priv", ("", "u", "s")) == "s" else access


def _verdict(row: Row, record: bytes | None) -> Verdict:
    outcome = row.choice("outcome", OUTCOMES)
    pa = row.number_in("pa") if outcome == "ok" else row.optional_number("pa")
    page_size = row.optional_number("page_size")
    if page_size is not None and page_size & (page_size - 1):
        raise row.wrong("page_size", "it is neither a power of two nor 0 (untranslated)")
    return Verdict(outcome, pa, page_size, row.text("fault"), record)


def _record(row: Row, column: str, mask_column: str) -> tuple[bytes | None, bytes | None]:
    record, mask = row.optional_bytes(column), row.optional_bytes(mask_column)
    if record is not None and mask is not None and len(mask) != len(record):
        raise row.wrong(mask_column, f"it has {len(mask)} bytes where the record has {len(record)}")
    return record, mask


def _fields(row: Row) -> dict[str, int | str]:
    """Read fields that were recorded, as JSON: numbers, numbers as text, and names."""
    text = row.text("fields")
    try:
        parsed: object = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise row.wrong("fields", "it is not JSON") from None
    if not isinstance(parsed, dict):
        raise row.wrong("fields", "a JSON object is needed")
    return {name: _field(row, name, value) for name, value in parsed.items()}


def _field(row: Row, name: str, value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        number = parsed_number(value)
        return value if number is None else number
    raise row.wrong("fields", f"{name[:40]!r} is neither a number nor a name")


def same_fault(recorded: str, ours: str) -> bool:
    """Compare fault reasons: numbers as numbers (``0x6`` is ``6``), names as names."""
    number = parsed_number(recorded)
    return recorded == ours if number is None else number == parsed_number(ours)
