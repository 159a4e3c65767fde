"""Phrases that several explanations need."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.layout import Descriptor

PAGE_LG2 = 12
SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def device(requester: int) -> str:
    """A source-id as people write it: bus:device.function."""
    return f"{requester >> 8:02x}:{requester >> 3 & 0x1F:02x}.{requester & 7}"


def size(lg2: int) -> str:
    """2^``lg2`` bytes."""
    unit = min(lg2 // 10, len(SIZES) - 1)
    return f"{1 << lg2 - 10 * unit} {SIZES[unit]}"


def listed(words: list[str], otherwise: str = "nothing") -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words) or otherwise
    return f"{', '.join(words[:-1])} and {words[-1]}"


def bits_text(mask: int) -> str:
    """The bits of a mask, highest first, as specifications print them: ``63:24, 7``."""
    return ", ".join(f"{high}:{low}" if high != low else str(low) for high, low in _ranges(mask))


def _ranges(mask: int) -> Iterator[tuple[int, int]]:
    while mask:
        high = mask.bit_length() - 1
        low = high
        while low and mask >> low - 1 & 1:
            low -= 1
        yield high, low
        mask &= (1 << low) - 1


def complaints(entry: Descriptor) -> tuple[str, ...]:
    """Reserved bits that are set, and values that no name is given to."""
    found = [f"reserved bits {bits_text(entry.reserved_set)} are set"] if entry.reserved_set else []
    for name, spec in entry.fields.items():
        value = spec.take(int(entry))
        if spec.of is not None and not isinstance(value, IntEnum):
            found.append(f"{name} {value:#x} is reserved")
    return tuple(found)
