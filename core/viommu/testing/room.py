"""Where the kit maps: IOVAs inside what a driver's page tables hold, and outside what devices reserve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.testing.rule import Inapplicable
from viommu.testing.tables import PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NEEDED", "Room"]

ALIGNMENT = 512 * PAGE
NEEDED = 2 * ALIGNMENT
"""Bytes in a row that rules map in."""
USUAL, USUAL_FAR = 1 << 30, (1 << 30) + (1 << 32)
"""Where they lie if there is room: beyond what fits into small offsets; and where other page tables lead there."""


@frozen
class Room:
    """Closed ``ranges`` of IOVAs that may be mapped."""

    ranges: Sequence[tuple[int, int]]

    @property
    def base(self) -> int:
        """The first of `NEEDED` bytes, aligned to the half of them. Raises Inapplicable (the aperture is too small)."""
        if self.holds(USUAL, NEEDED):
            return USUAL
        first, last = max(self.ranges, key=lambda one: one[1] - one[0], default=(1, 0))
        for found in ((first + (last + 1 - first) // 2) & -ALIGNMENT, -(-first // ALIGNMENT) * ALIGNMENT):
            if self.holds(found, NEEDED):
                return found
        told = ", ".join(f"{first:#x} to {last:#x}" for first, last in self.ranges) or "none"
        raise Inapplicable(
            f"its aperture is too small: the kit maps {NEEDED:#x} bytes in a row, aligned to {ALIGNMENT:#x}, and "
            f"there are IOVAs {told}"
        )

    @property
    def far(self) -> int:
        """A place of some pages, as far from `base` as there is one. Raises Inapplicable, as `base`."""
        if self.holds(USUAL_FAR, NEEDED):
            return USUAL_FAR
        base = self.base
        ends = [end for first, last in self.ranges for end in (-(-first // PAGE) * PAGE, (last + 1 - 8 * PAGE) & -PAGE)]
        return max((end for end in ends if self.holds(end, 8 * PAGE)), key=lambda end: abs(end - base))

    def holds(self, first: int, length: int) -> bool:
        """Say whether that many bytes may be mapped from there on."""
        return any(start <= first and first + length - 1 <= last for start, last in self.ranges)
