"""Hex dumps: lines with an address each, as hexdump -C, xxd, debuggers and monitors print them.

Groups of two or four digits are bytes in memory order; groups of eight or sixteen are words, so values.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import Factory, define

from viommu.errors import BadPaste

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTE_LIMIT = 1 << 16

DIGITS = re.compile(r"(0[xX])?([0-9a-fA-F][0-9a-fA-F_]*)(?:[uU]?[lL]{0,2}|[uU])", re.ASCII)
"""A number in hexadecimal, as C and Python write it."""

HEXDUMP = re.compile(r"([0-9a-fA-F]{7,16}) ((?: {1,2}[0-9a-fA-F]{2}(?= |$)){1,16}) *(?:\|.{0,16}\|)?", re.ASCII)
"""A line of ``hexdump -C``."""

ADDRESSED = re.compile(r"(?:0[xX])?([0-9a-fA-F]{4,16})(?: <[^>]{0,80}>)?:\s*(\S.*)", re.ASCII)
"""A line of the others: an address, a colon, and groups."""

END = re.compile(r"[0-9a-fA-F]{7,16}", re.ASCII)
"""The last line of ``hexdump -C``: where it ended."""

TEXT_COLUMN = re.compile(r"\s{2,}")

SAME = "*"
"""Stands for lines that are as the one before."""


def dumped_bytes(text: str) -> bytes | None:
    """Read a dump; None where the first line is of none. Raises BadPaste where a later one does not fit."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or _row(lines[0]) is None:
        return None
    dump = _Dump(_row(lines[0]) or (0, b""))
    for line in lines[1:]:
        dump.add(line)
    return bytes(dump.data)


@define
class _Dump:
    first: tuple[int, bytes]
    data: bytearray = Factory(lambda self: bytearray(self.first[1]), takes_self=True)
    last: bytes = Factory(lambda self: self.first[1], takes_self=True)
    repeats: bool = False

    def add(self, line: str) -> None:
        """Take in one more line. Raises BadPaste where its address is not the one that follows."""
        if line == SAME:
            self.repeats = True
            return
        address, raw = _row(line) or (int(line, 16) if END.fullmatch(line) else None, b"")
        if address is None:
            raise BadPaste(line, "the lines before it are a hex dump's, it is not")
        offset = address - self.first[0]
        if self.repeats and len(self.data) <= offset <= BYTE_LIMIT:
            missing = offset - len(self.data)
            self.data += (self.last * (missing // len(self.last) + 1))[:missing]
        if offset != len(self.data) or offset > BYTE_LIMIT:
            raise BadPaste(
                line, f"its address is not {self.first[0] + len(self.data):#x}, where the lines before it end"
            )
        self.data += raw
        self.last, self.repeats = raw or self.last, False


def _row(line: str) -> tuple[int, bytes] | None:
    """Read one line: (address, bytes); None where it is no line of a dump."""
    found = HEXDUMP.fullmatch(line)
    if found is not None:
        return int(found[1], 16), bytes.fromhex(found[2])
    found = ADDRESSED.fullmatch(line)
    if found is None:
        return None
    raw = _grouped(_groups(found[2]))
    return None if raw is None else (int(found[1], 16), raw)


def _groups(rest: str) -> Sequence[str]:
    """Split the groups of a line from each other, and from the text column that may follow them."""
    if "0x" in rest:
        return rest.split()
    return TEXT_COLUMN.split(rest, maxsplit=1)[0].split()


def _grouped(groups: Sequence[str]) -> bytes | None:
    digits = [found[2] for group in groups if (found := DIGITS.fullmatch(group))]
    lengths = set(map(len, digits))
    if len(digits) != len(groups):
        return None
    if lengths <= {2, 4} and "0x" not in "".join(groups):
        return bytes.fromhex("".join(digits))
    if lengths in ({8}, {16}):
        return b"".join(int(value, 16).to_bytes(len(value) // 2, "little") for value in digits)
    return None
