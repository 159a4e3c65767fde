"""Small phrases that explanations share."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from viommu.layout import range_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.layout import Descriptor


def complaints_of(descriptor: Descriptor) -> Iterator[str]:
    """Reserved bits that are set, and values that a field's names do not have."""
    if descriptor.reserved_set:
        yield f"reserved bits are set: {_bits(descriptor.reserved_set)}"
    for name, spec in descriptor.fields.items():
        value = spec.take(int(descriptor))
        if spec.of is not None and not isinstance(value, IntEnum):
            yield f"{name} {value:#x} is reserved"


def fields_set(descriptor: Descriptor) -> str:
    """The fields that are not 0, with the values of those that have more than one bit."""
    return ", ".join(_field(descriptor, name) for name in descriptor.fields if getattr(descriptor, name)) or "all 0"


def stream(sid: int, ssv: int = 0, ssid: int = 0) -> str:
    """Name a stream and, where there is one, the substream."""
    return f"stream {sid:#x}" + (f", substream {ssid:#x}" if ssv else "")


def granule(lg2: int) -> str:
    """A size in bytes, as people say it."""
    for unit, above in (("GB", 30), ("MB", 20), ("KB", 10)):
        if lg2 >= above:
            return f"{1 << lg2 - above} {unit}"
    return f"{1 << lg2} bytes"


def first_sentence(layout: type[Descriptor]) -> str:
    """What a layout says of itself."""
    return " ".join((layout.__doc__ or "").split("\n\n", maxsplit=1)[0].split()).removesuffix(".")


def _field(descriptor: Descriptor, name: str) -> str:
    spec, value = descriptor.fields[name], getattr(descriptor, name)
    if spec.bits == 1:
        return name
    return f"{name} {value.name}" if isinstance(value, IntEnum) else f"{name} {value:#x}"


def _bits(mask: int) -> str:
    """Write a mask as ranges: ``63:60, 5``."""
    ranges: list[tuple[int, int]] = []
    for bit in range(mask.bit_length()):
        if not mask >> bit & 1:
            continue
        if ranges and ranges[-1][0] == bit - 1:
            ranges[-1] = (bit, ranges[-1][1])
        else:
            ranges.append((bit, bit))
    return ", ".join(range_text(high, low) for high, low in reversed(ranges))
