"""Descriptors as a person reads them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from viommu.layout.fields import FieldSpec, range_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEX_FROM_BITS = 17
"""Plain numbers of fewer bits (tags, sizes) read best in decimal."""


def pretty(owner: str, fields: Mapping[str, FieldSpec], raw: int, reserved_mask: int) -> str:
    """Do what `Descriptor.pretty` promises."""
    rows = [
        (name, spec.place, _value(spec, raw), _meaning(spec, raw))
        for name, spec in fields.items()
        if not spec.ignored or spec.take(raw)
    ]
    rows += [
        ("reserved", f"[{range_text(high, low)}]", f"{found:#x}", "")
        for high, low, found in _reserved(raw, reserved_mask)
    ]
    return "\n".join([owner, *_aligned(rows)])


def one_line(owner: str, fields: Mapping[str, FieldSpec], raw: int, reserved_mask: int) -> str:
    """Write the fields that are not 0 as a constructor call; reserved bits that are set are told as well."""
    parts = [f"{name}={_short(spec, raw)}" for name, spec in fields.items() if spec.take(raw)]
    if raw & reserved_mask:
        parts.append(f"reserved_set={raw & reserved_mask:#x}")
    return f"{owner}({', '.join(parts)})"


def _aligned(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for name, place, value, meaning in rows:
        yield f"  {name:<{widths[0]}}  {place:<{widths[1]}}  {value:<{widths[2]}}  {meaning}".rstrip()


def _value(spec: FieldSpec, raw: int) -> str:
    value = int(spec.take(raw))
    return f"{value:#x}" if spec.shift or spec.bits >= HEX_FROM_BITS else f"{value}"


def _meaning(spec: FieldSpec, raw: int) -> str:
    if spec.of is None:
        return ""
    value = spec.take(raw)
    return f"({value.name})" if isinstance(value, IntEnum) else "(no such value)"


def _short(spec: FieldSpec, raw: int) -> str:
    value = spec.take(raw)
    return f"{type(value).__name__}.{value.name}" if isinstance(value, IntEnum) else _value(spec, raw)


def _reserved(raw: int, mask: int) -> Iterator[tuple[int, int, int]]:
    """Yield (high, low, bits found) of each unbroken reserved range that has a bit set, the lowest first."""
    base = 0
    while raw & mask:
        gap = (mask & -mask).bit_length() - 1
        raw, mask, base = raw >> gap, mask >> gap, base + gap
        run = (~mask & mask + 1).bit_length() - 1
        if found := raw & (1 << run) - 1:
            yield base + run - 1, base, found
        raw, mask, base = raw >> run, mask >> run, base + run
