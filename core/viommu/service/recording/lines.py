"""The file: lines of JSON in one gzip stream, each of which is in the file as soon as it is written."""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING, Any

from viommu.errors import ViommuError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GZIP = 31
"""The window of zlib that makes it write and read gzip's header and trailer."""
FAST = 1
PRIVATE = 0o600
"""A recording holds memory of programs: only its owner may read it."""
CHUNK = 1 << 16
MOST_LINE = 48 << 20
"""Bytes. The longest line is that of an event (`viommu.service.recording.events.MOST_BYTES`), twice as long in hex."""


class BadRecording(ViommuError):
    """A file is no recording, or is damaged."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path, self.line, self.reason = path, line, reason

    def __str__(self) -> str:
        return f"{shown(str(self.path))} is no recording that can be read: line {self.line} {self.reason}"


class LineWriter:
    """Writes a file. What is written is safe from the end of this process, not from that of the system."""

    def __init__(self, path: Path) -> None:
        """Begin a file. Raises OSError."""
        number = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
        self._file = os.fdopen(number, "wb", buffering=0)
        self._packer = zlib.compressobj(FAST, zlib.DEFLATED, GZIP)

    def write(self, line: dict[str, Any]) -> None:
        """Write a line. Raises OSError."""
        raw = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._put(self._packer.compress(raw) + self._packer.flush(zlib.Z_SYNC_FLUSH))

    def close(self) -> None:
        """End the file. Raises OSError."""
        try:
            self._put(self._packer.flush())
        finally:
            self._file.close()

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


class LineReader:
    """Reads a file, line by line. ``is_whole``: all was read, and the file ends where its writer ended it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.number = 0
        """Of the line that was read last, from 1."""
        self.is_whole = False

    def bad(self, reason: str) -> BadRecording:
        """Say what is wrong with the line that was read last."""
        return BadRecording(self._path, self.number, reason)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give the lines; one that was not finished is left out. Raises BadRecording, OSError."""
        begun: list[bytes] = []
        length = 0
        for part in self._unpacked():
            *whole, rest = part.split(b"\n")
            for raw in whole:
                self.number += 1
                yield self._parsed(b"".join((*begun, raw)))
                begun, length = [], 0
            begun.append(rest)
            length += len(rest)
            if length > MOST_LINE:
                self.number += 1
                raise self.bad(f"is longer than {MOST_LINE} bytes")
        if length and self.is_whole:
            self.number += 1
            raise self.bad("has no end")

    def _unpacked(self) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(GZIP)
        with self._path.open("rb") as file:
            while packed := file.read(CHUNK):
                if unpacker.eof:
                    raise self.bad("is followed by bytes that are none of a recording")
                yield from self._parts(unpacker, packed)
        self.is_whole = unpacker.eof and not unpacker.unused_data
        if unpacker.unused_data:
            raise self.bad("is followed by bytes that are none of a recording")

    def _parts(self, unpacker: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
        while True:
            try:
                part = unpacker.decompress(packed, CHUNK)
            except zlib.error as error:
                self.number += 1
                raise self.bad("is damaged, or was not written by `viommu run --record`") from error
            yield part
            packed = unpacker.unconsumed_tail
            if not packed and len(part) < CHUNK:
                return

    def _parsed(self, raw: bytes) -> dict[str, Any]:
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise self.bad("is no JSON") from error
        if not isinstance(line, dict):
            raise self.bad("is no JSON object")
        return line
