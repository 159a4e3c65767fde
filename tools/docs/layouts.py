"""Bit layouts as reStructuredText tables, from the `spec/` of an installed driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import bind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.layout import Descriptor, FieldSpec

SHOWN_VALUES = 16
"""Named values that are listed in a table's cell."""


def page(driver: str) -> str:
    """Give a table for each of a driver's layouts, by the specification's name."""
    lines: list[str] = []
    for name, layout in sorted(bind(driver).layouts().items()):
        lines += [*_table(name, layout), ""]
    return "\n".join(lines)


def _table(name: str, layout: type[Descriptor]) -> Iterator[str]:
    yield from (name, "~" * len(name), "")
    doc = " ".join((layout.__doc__ or "").split())
    yield f"{doc} {layout.width} bits; ``{layout.__module__}``." if layout.__doc__ else f"{layout.width} bits."
    yield from ("", ".. list-table::", "   :header-rows: 1", "   :widths: 15 30 55", "")
    yield from ("   * - bits", "     - field", "     - holds")
    for field, spec in layout.fields.items():
        yield from (f"   * - ``{spec.place}``", f"     - ``{field}``", f"     - {_holds(spec)}")
    if layout.reserved_mask:
        yield from ("   * -", "     - reserved", f"     - ``{layout.reserved_mask:#x}``")


def _holds(spec: FieldSpec) -> str:
    if spec.ignored:
        return "ignored by hardware"
    if spec.of is not None:
        members = [f"``{member.name}`` {member.value}" for member in spec.of]
        more = ", ..." if len(members) > SHOWN_VALUES else ""
        return ", ".join(members[:SHOWN_VALUES]) + more
    return f"a multiple of ``{1 << spec.shift:#x}``" if spec.shift else ""
