"""What was recorded of VT-d, in other words: where an access ends by the recording's rules.

These are not the architecture's: reserved bits of PASID structures are not looked at, for one. They were found out from
the rows of mutations, each of which `Recorder` reproduces whose walk was captured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attrs import define, field

from tests.plugins.flipped import pages_of, word_at

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS, PAGE = 0xF_FFFF_FFFF_F000, -0x1000
ALL = (1 << 64) - 1
PRESENT, SILENT = 1, 2
SCALABLE = 1
FIRST, SECOND, PASS = 1, 2, 4
"""PGTT."""


class RefusedError(Exception):
    """The access is refused."""


@define
class Recorder:
    """Memory and registers. ``read``: the words that the last access read, with structure and number of each."""

    pages: dict[int, bytes]
    registers: dict[str, int]
    flip: tuple[int, int] = (0, 0)
    """(address, bit) of the flipped bit."""
    read: list[tuple[str, int, int]] = field(factory=list)
    silent: bool = False
    """FPD was met: what is refused from here on is not recorded."""
    counts: bool = False
    """What is wrong now is one of the faults that FPD silences: an access that fails is not."""

    @classmethod
    def of(cls, capture: Path) -> Recorder:
        manifest = json.loads((capture / "manifest.json").read_text())
        registers = {name: int(told["value"], 0) for name, told in manifest["registers"].items()}
        return cls(pages_of(capture), registers)

    def outcome(self, source: int, iova: int, access: str) -> tuple[str, int | None]:
        """How an access without PASID ends, and where."""
        self.read, self.silent, self.counts = [], False, False
        walk = self._scalable if self.registers["RTADDR"] >> 10 & 3 == SCALABLE else self._legacy
        try:
            return "ok", walk(source, iova, 1 if access == "w" else 0)
        except RefusedError:
            return ("abort" if self.silent and self.counts else "fault"), None

    # --- structures

    def _legacy(self, source: int, iova: int, right: int) -> int:
        root = self._words("vtd-root-table", self._root + (source >> 8) * 16, 2)
        _must(root[0] & PRESENT and not root[0] & (0xFFE | self._beyond) and not root[1])
        entry = self._words("vtd-context-table", (root[0] & ADDRESS) + (source & 0xFF) * 16, 2, fpd=True)
        kind, width = entry[0] >> 2 & 3, entry[1] & 7
        _must(entry[0] & PRESENT and not entry[0] & (0xFF0 | self._beyond) and not entry[1] & (0x80 | ALL << 24))
        _must(kind == 0 or (kind == 1 and self._can(2)) or (kind == 2 and self._can(6)))
        _must(self._has_width(width))
        return self._passed(iova) if kind == 2 else self._second(entry[0] & ADDRESS, width, iova, right)

    def _scalable(self, source: int, iova: int, right: int) -> int:
        root = self._words("vtd-root-table", self._root + (source >> 8) * 16, 2)
        half = root[source >> 7 & 1]
        _must(half & PRESENT and not (root[0] | root[1]) & (0xFFE | self._beyond))
        context = self._words("vtd-context-table", (half & ADDRESS) + (source & 0x7F) * 32, 4, fpd=True)
        _must(context[0] & PRESENT and not context[0] & (0x1E0 | self._beyond) and not context[1] & ALL << 21 & ALL)
        _must(not context[2] | context[3])
        (directory,) = self._words("vtd-pasid-directory", context[0] & ADDRESS, 1, fpd=True)
        _must(directory & PRESENT)
        entry = self._words("vtd-pasid-table", directory & PAGE, 8)
        kind, width = entry[0] >> 6 & 7, entry[0] >> 2 & 7
        _must(entry[0] & PRESENT and kind in (FIRST, SECOND, PASS))
        self.silent = self.silent or bool(entry[0] & SILENT)
        if kind == PASS:
            return self._passed(iova)
        if kind == FIRST:
            _must(not entry[2] & 0xC)
            return self._first(entry[2] & PAGE, width, iova, right)
        _must(self._has_width(width))
        return self._second(entry[0] & PAGE, width, iova, right)

    # --- page tables

    def _first(self, table: int, width: int, iova: int, right: int) -> int:
        """Four levels; what is canonical is told by AW."""
        above = iova >> 9 * width + 29
        _must(9 * width + 29 >= 63 or above in (0, ALL >> 9 * width + 29))
        for level in (3, 2, 1, 0):
            entry = self._entry(table, level, iova)
            leaf = level == 0 or entry >> 7 & 1
            _must(entry & 1 and entry & 4 and (entry & 2 or not right) and not (leaf and level > 2))
            _must(not entry & (self._beyond & ADDRESS | (_offset(level) & ~0x1FFF if leaf and level else 0)))
            if leaf:
                return _spliced(entry, level, iova)
            table = entry & ADDRESS
        raise AssertionError

    def _second(self, table: int, width: int, iova: int, right: int) -> int:
        levels, legacy = width + 2, self.registers["RTADDR"] >> 10 & 3 != SCALABLE
        _must(not iova >> min(9 * levels + 12, self._bits))
        for level in reversed(range(levels)):
            entry = self._entry(table, level, iova)
            leaf = level == 0 or entry >> 7 & 1
            _must(entry >> right & 1 and not (level > 2 and entry & 0x80) and not entry >> 62 & 1)
            _must(not entry & (self._beyond & ADDRESS | (_offset(level) & ~0xFFF if leaf and level else 0)))
            _must(not entry & 0x800 or (leaf and not legacy) or (leaf and self._can(7)))
            if leaf:
                return _spliced(entry, level, iova)
            table = entry & ADDRESS
        raise AssertionError

    def _entry(self, table: int, level: int, iova: int) -> int:
        return self._words("vtd-page-table", table + (iova >> 12 + 9 * level & 0x1FF) * 8, 1)[0]

    # --- what all have in common

    def _words(self, structure: str, at: int, count: int, *, fpd: bool = False) -> list[int]:
        self.counts = structure == "vtd-page-table"
        words = [self._load(structure, at + 8 * index, index) for index in range(count)]
        self.counts = structure != "vtd-root-table"
        self.silent = self.silent or (fpd and bool(words[0] & SILENT))
        return words

    def _load(self, structure: str, at: int, index: int) -> int:
        _must(not at >> 52)
        word = word_at(self.pages, at, self.flip)
        self.read.append((structure, index, at))
        return word

    def _passed(self, iova: int) -> int:
        _must(not iova >> self._bits)
        return iova

    @property
    def _root(self) -> int:
        return self.registers["RTADDR"] & PAGE

    @property
    def _bits(self) -> int:
        """MGAW, which is the width of memory's addresses too."""
        return (self.registers["CAP"] >> 16 & 0x3F) + 1

    @property
    def _beyond(self) -> int:
        return ALL << self._bits & ALL

    def _has_width(self, width: int) -> bool:
        return width <= 3 and bool(self.registers["CAP"] >> 8 + width & 1)

    def _can(self, bit: int) -> bool:
        return bool(self.registers["ECAP"] >> bit & 1)


def _must(holds: object) -> None:
    if not holds:
        raise RefusedError


def _offset(level: int) -> int:
    return (1 << 12 + 9 * level) - 1


def _spliced(entry: int, level: int, iova: int) -> int:
    end = entry & ADDRESS & ~_offset(level) | iova & _offset(level)
    _must(end >> 20 != 0xFEE)
    return end
