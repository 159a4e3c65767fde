"""Differences in words: the call with its fields, what the kernel answered, what we did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.oracle.comparison import Case, Difference
    from viommu.oracle.recording import Record

SHOWN_FIELDS = 16
SHOWN_WIDTH = 40


def told_difference(difference: Difference) -> Iterator[str]:
    """Give the lines that explain a difference."""
    record = difference.record
    yield f"line {record.line}, seq {record.seq}, process {record.process}: {told_call(record)}"
    yield f"kernel: {record.answer}{_outputs(record)}"
    yield f"differs in {difference.what}: kernel {difference.recorded}"
    yield f"{'':12}{'':{len(difference.what)}}ours {difference.ours}"


def told_call(record: Record) -> str:
    """Say which call it is: ``IOMMU_DESTROY(id=1)``."""
    if record.call == "ioctl":
        operation = record.fields.get("op")
        name = f"{record.fields.get('name')}{f'.{operation}' if operation else ''}"
        fields = record.fields.get("f_in")
        return f"{name}({_fields(fields if isinstance(fields, dict) else {'arg': record.fields.get('arg')})})"
    fields = {key: record.fields[key] for key in CALL_FIELDS if key in record.fields}
    return f"{record.call}({_fields(fields)})"


DMA_FIELDS = ("dev", "rw", "iova", "len")
CALL_FIELDS = ("path", "fd", "kind", "length", "prot", "flags", "offset", "count", "data_in", "fds", *DMA_FIELDS)


def case_to_json(case: Case) -> dict[str, Any]:
    """Give a case as `--json` prints it."""
    value: dict[str, Any] = {
        "file": case.file,
        "case": case.name,
        "calls": case.calls,
        "agreed": case.agreed,
        "learned_bytes": case.learned,
        "unjudged": case.unjudged,
    }
    if case.assumed:
        value["assumed"] = case.assumed
    if case.first is not None:
        first = case.first
        value["first_difference"] = {
            "line": first.record.line,
            "seq": first.record.seq,
            "call": told_call(first.record),
            "what": first.what,
            "recorded": first.recorded,
            "ours": first.ours,
        }
    return value


def _outputs(record: Record) -> str:
    fields = record.fields.get("f_out")
    return f", {_fields(fields)}" if isinstance(fields, dict) and fields else ""


def _fields(fields: dict[str, Any]) -> str:
    shown = [f"{name}={_value(value)}" for name, value in fields.items() if name != "size"]
    more = ["..."] if len(shown) > SHOWN_FIELDS else []
    return ", ".join(shown[:SHOWN_FIELDS] + more)


def _value(value: object) -> str:
    text = f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) and value > 9 else str(value)
    return text if len(text) <= SHOWN_WIDTH else f"{text[:SHOWN_WIDTH]}..."
