"""Reading the files of a capture: each is regular, of bounded size, and read row by row where it has rows."""

from __future__ import annotations

import csv
import os
import re
import stat
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CSV_LIMIT = 1 << 28
"""Bytes; the largest capture so far has a hundredth of it."""

NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,32}|[0-9]{1,32}", re.ASCII)
HEX = re.compile(r"(?:[0-9a-fA-F]{2}){1,1024}", re.ASCII)


def parsed_number(text: str) -> int | None:
    """Read ``0x1f`` or ``31``; None where the text is no number."""
    return int(text, 0 if text[1:2] in "xX" else 10) if NUMBER.fullmatch(text) else None


def checked_file(path: Path, limit: int) -> Path:
    """Refuse a file that is missing, is no plain file (reading a pipe would hang) or exceeds ``limit`` bytes."""
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise CaptureError(str(path), "", "file", None, "it is not a regular file")
    if status.st_size > limit:
        raise CaptureError(str(path), "", "size", status.st_size, f"at most {limit:#x} bytes are read")
    return path


def unreadable(path: Path, error: OSError) -> CaptureError:
    """Tell of a file that the system does not give."""
    return CaptureError(str(path), "", "file", None, error.strerror or type(error).__name__)


@frozen
class Row:
    """One row of a CSV file: cells by column, and where it stands, for those who find it wrong."""

    file: str
    number: int
    """The first row after the header is 1."""
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """Give a cell, "" where the file has no such column."""
        return self.cells.get(column, "")

    def wrong(self, column: str, bound: str) -> CaptureError:
        """Tell what is wrong with a cell."""
        return CaptureError(self.file, f"row {self.number}", column, self.text(column), bound)

    def optional_number(self, column: str, last: int = (1 << 64) - 1) -> int | None:
        """Read a number of at most ``last``, None where the cell is empty. Raises CaptureError."""
        text = self.text(column)
        if not text:
            return None
        value = parsed_number(text)
        if value is None:
            raise self.wrong(column, "it is no number (0x1f or 31)")
        if value > last:
            raise self.wrong(column, f"it is above {last:#x}")
        return value

    def number_in(self, column: str, last: int = (1 << 64) - 1) -> int:
        """Read a number that has to be there. Raises CaptureError."""
        value = self.optional_number(column, last)
        if value is None:
            raise self.wrong(column, "a number is needed here")
        return value

    def optional_bytes(self, column: str) -> bytes | None:
        """Read bytes written in hexadecimal, None where the cell is empty. Raises CaptureError."""
        text = self.text(column)
        if not text:
            return None
        if not HEX.fullmatch(text):
            raise self.wrong(column, "it is not up to 1024 bytes in hexadecimal")
        return bytes.fromhex(text)

    def bytes_in(self, column: str) -> bytes:
        """Read bytes that have to be there. Raises CaptureError."""
        value = self.optional_bytes(column)
        if value is None:
            raise self.wrong(column, "bytes in hexadecimal are needed here")
        return value

    def choice(self, column: str, choices: Sequence[str]) -> str:
        """Read one of a few words. Raises CaptureError."""
        if self.text(column) not in choices:
            raise self.wrong(column, f"it is none of {', '.join(choices)}")
        return self.text(column)


@define
class Table:
    """A CSV file with a header, read row by row. Raises CaptureError as it is read.

    ``expected`` is how many rows it should have, None where nobody says. A file that stops in the middle of a
    line is refused, unless all of its rows are there.
    """

    path: Path
    required: Sequence[str]
    expected: int | None = None
    rows_read: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Row]:
        name = str(checked_file(self.path, CSV_LIMIT))
        try:
            with self.path.open(encoding="utf-8", newline="") as lines:
                yield from self._rows(name, csv.reader(lines, strict=True))
            if self.rows_read != self.expected and not self._ends_with_newline():
                raise CaptureError(name, "", "rows", self.rows_read, "it is cut short: its last line has no end")
        except OSError as error:
            raise unreadable(self.path, error) from error
        except UnicodeDecodeError as error:
            raise CaptureError(name, self._place(), "text", None, f"it is not UTF-8 ({error.reason})") from error
        except csv.Error as error:
            raise CaptureError(name, self._place(), "text", None, f"it is not CSV ({error})") from error

    def _rows(self, name: str, lines: Iterator[list[str]]) -> Iterator[Row]:
        header = next(lines, [])
        missing = [column for column in self.required if column not in header]
        if missing or len(set(header)) != len(header):
            raise CaptureError(
                name, "header", "columns", ",".join(header), f"needed, each once: {', '.join(self.required)}"
            )
        for cells in lines:
            if not cells:
                continue
            self.rows_read += 1
            if len(cells) != len(header):
                raise CaptureError(name, self._place(), "cells", len(cells), f"the header has {len(header)}")
            yield Row(name, self.rows_read, dict(zip(header, cells, strict=True)))

    def _place(self) -> str:
        return f"row {self.rows_read}" if self.rows_read else "header"

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) in b"\n\r"
