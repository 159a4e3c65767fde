"""Four levels of x86 tables over many pages, as NumPy writes them; and the walks that NumPy can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

import viommu
from viommu.formats import X86

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

RANGE = 1 << 39
"""Ranges of pages begin at its multiples: what one entry of the top level covers."""
IPA, RAM, DATA = 2 * RANGE, 1 << 40, 1 << 43
"""Where pages lie in a guest's memory, and where tables and pages lie in the machine's."""
FRAME = np.uint64(0x000F_FFFF_FFFF_F000)
INDEX, OFFSET = np.uint64(0x1FF), np.uint64(0xFFF)
WORD = np.uint64(3)
SHIFTS = [np.uint64(shift) for shift in (39, 30, 21, 12)]
ENTRY = 0x07
PAGE = 4096


@define(eq=False)
class Tables:
    """Words of table memory at `RAM`; ``shift`` is added to a table's address where it is named."""

    words: Words
    shift: int = 0
    _used: int = field(default=0, init=False)

    @classmethod
    def roomy(cls, pages: int, roots: int = 1) -> Tables:
        """Make room for the tables of ``pages`` pages, and some roots."""
        levels, left = roots, pages
        for _ in range(3):
            left = -(-left // 512)
            levels += left
        return cls(np.zeros(levels * 512, np.uint64))

    def take(self, tables: int) -> int:
        """Give the address of fresh tables."""
        at = RAM + self._used * PAGE
        self._used += tables
        return at

    def map(self, root: int, first: int, to: int, pages: int, shift: int = 0) -> None:
        """Map pages from ``first``, a multiple of `RANGE`, to frames from ``to``."""
        below = self._fill(to, pages)
        for _ in range(2):
            pages = -(-pages // 512)
            below = self._fill(below + shift, pages)
        self.words[(root - RAM) // 8 + first // RANGE] = below + shift | ENTRY

    def _fill(self, to: int, count: int) -> int:
        at = self.take(-(-count // 512))
        start = (at - RAM) // 8
        self.words[start : start + count] = np.arange(to, to + count * PAGE, PAGE, dtype=np.uint64) | np.uint64(ENTRY)
        return at

    def memory(self) -> viommu.PhysicalMemory:
        """Put the tables into a machine's memory."""
        memory = viommu.PhysicalMemory()
        memory.place(RAM, self.words.view(np.uint8))
        return memory


def walk(words: Words, root: int, iovas: Words) -> Words:
    """Walk one stage for all addresses at once: what a careful Python user writes. Nothing is checked."""
    base = np.uint64(RAM)
    entries = np.full(len(iovas), root, np.uint64)
    for shift in SHIFTS:
        at = ((entries & FRAME) - base >> WORD) + (iovas >> shift & INDEX)
        entries = words[at]
    return (entries & FRAME) | (iovas & OFFSET)


def walk_nested(words: Words, first: int, second: int, iovas: Words) -> Words:
    """Walk both stages: each entry of the first lies behind the second."""
    base = np.uint64(RAM)
    entries = np.full(len(iovas), first, np.uint64)
    for shift in SHIFTS:
        ipas = (entries & FRAME) | (iovas >> shift & INDEX) << WORD
        entries = words[walk(words, second, ipas) - base >> WORD]
    return walk(words, second, (entries & FRAME) | (iovas & OFFSET))


def shuffled(first: int, pages: int, least: int, most: int) -> Words:
    """Give the pages in any order, between ``least`` rows (again and again) and ``most``."""
    order = np.random.default_rng(1).permutation(pages)[:most]
    rows = np.resize(order, max(least, len(order)))
    return np.uint64(first) + rows.astype(np.uint64) * np.uint64(PAGE)


def x86(root: int) -> X86:
    """Describe the tables to the engine."""
    return X86(table=root, levels=4)
