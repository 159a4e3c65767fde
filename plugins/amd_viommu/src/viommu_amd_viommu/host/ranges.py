"""Ranges of addresses as invalidation commands name them: one page, or a power of two of them (AMD 48882, 2.4.3)."""

from __future__ import annotations

from attrs import frozen

PAGE = 4096
PAGE_MASK = -PAGE
LARGEST_BIT = 51
"""A size whose lowest zero would lie above this bit is told as everything, as Linux does."""

EVERYTHING_ADDRESS = 0x7FFF_FFFF_FFFF_F000


@frozen
class Pages:
    """The Address and S of a command."""

    address: int
    sized: int

    @classmethod
    def around(cls, start: int, last: int) -> Pages:
        """Name the smallest range that a command can name around a closed range."""
        if start // PAGE == last // PAGE:
            return cls(start & PAGE_MASK, 0)
        bit = (start ^ last).bit_length() - 1
        if bit > LARGEST_BIT:
            return EVERYTHING
        return cls((start | (1 << bit) - 1) & ~(1 << bit) & PAGE_MASK, 1)


EVERYTHING = Pages(EVERYTHING_ADDRESS, 1)
