"""Recordings: one JSON object per line, gzipped or not, read as if an enemy had written them."""

from __future__ import annotations

import errno
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from attrs import define, frozen

from viommu.errors import ViommuError, shown, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

LINE_BYTES = 8 << 20
"""The longest line that is read; what a recorder writes stays far below."""

FILE_BYTES = 1 << 30
"""How much of one file is unpacked."""

NUMBER_LIMIT = 1 << 64

NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK", errno.EAGAIN: "EAGAIN"}
"""Names of errnos, as recordings write those that have two."""

SUFFIXES = (".jsonl", ".jsonl.gz")

CALLS = frozenset(
    [
        "open",
        "ioctl",
        "mmap",
        "read",
        "write",
        "poll",
        "close",
        "result",
        "munmap",
        "mremap",
        "mprotect",
        "madvise",
        "memfd_create",
        "ftruncate",
        "fork",
        "exit",
        "maps",
    ]
)


@define
class RecordingError(ViommuError):
    """A recording cannot be read: the line and the field that are at fault, and what would be right."""

    file: str
    line: int
    field: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: line {self.line}: {self.field} {shown(self.value)} is not {self.expected}"


@frozen
class Answer:
    """What a call returned: ``ret`` (a number, or the address as text) and the errno's name ("0": none)."""

    ret: int | str
    errno: str

    @classmethod
    def of(cls, result: int) -> Answer:
        """Make the answer of a system call that returned this: 0 or more, or a negative errno."""
        return cls(result, "0") if result >= 0 else cls(-1, NAMES.get(-result, f"errno {-result}"))

    def __str__(self) -> str:
        return f"{self.ret}" if self.errno == "0" else self.errno


@define(slots=True)
class Record:
    """One line: a call on an iommufd-related fd, a step of a probe, or what user memory became."""

    file: str
    line: int
    fields: Mapping[str, Any]
    test: str
    probe: str
    process: int
    call: str
    kind: str
    seq: int | None

    @property
    def is_known(self) -> bool:
        """Whether it is a call that a replay can make. Recordings of other recorders may have more."""
        return self.call in CALLS

    @property
    def is_memory(self) -> bool:
        """Whether it tells of user memory alone."""
        return self.kind == "memory"

    @property
    def case(self) -> str:
        """The case it belongs to: the probe's name, or the test's."""
        return self.probe or self.test

    @property
    def answer(self) -> Answer:
        """What the real kernel returned. To be read after one's own call only."""
        ret = self.fields.get("ret", 0)
        if not isinstance(ret, (int, str)):
            raise self.wrong("ret", "a number or an address")
        return Answer(ret, self.text("errno", "0"))

    def wrong(self, field: str, expected: str) -> RecordingError:
        """Make the error that names this line."""
        return RecordingError(self.file, self.line, field, self.fields.get(field), expected)

    def has(self, field: str) -> bool:
        """Say whether the line has the field."""
        return field in self.fields

    def is_unreadable(self, field: str) -> bool:
        """Say whether a pointer of the caller's led nowhere: that is no answer, but how its memory is."""
        return self.fields.get(field) == "EFAULT"

    def number(self, field: str, default: int | None = None) -> int:
        """Give a whole number, written as one or as hexadecimal text. Raises RecordingError."""
        return self._number(field, self.fields.get(field, default))

    def text(self, field: str, default: str | None = None) -> str:
        """Give a text. Raises RecordingError."""
        value = self.fields.get(field, default)
        if not isinstance(value, str):
            raise self.wrong(field, "text")
        return value

    def blob(self, field: str) -> bytes:
        """Give bytes that are written in hexadecimal. Raises RecordingError."""
        try:
            return bytes.fromhex(self.text(field))
        except ValueError:
            raise self.wrong(field, "an even number of hexadecimal digits") from None

    def rows(self, field: str) -> list[Mapping[str, Any]]:
        """Give a list of objects. Raises RecordingError."""
        value = self.fields.get(field)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise self.wrong(field, "a list of objects")
        return value

    def row_number(self, row: Mapping[str, Any], field: str, default: int | None = None) -> int:
        """Give a number of one of `rows`. Raises RecordingError."""
        return self._number(field, row.get(field, default))

    def _number(self, field: str, value: object) -> int:
        if isinstance(value, str) and value.startswith("0x") and len(value) <= 18:
            try:
                value = int(value, 16)
            except ValueError:
                raise self.wrong(field, "a number") from None
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= NUMBER_LIMIT:
            raise self.wrong(field, "a number of at most 64 bits")
        return value


def recordings_in(paths: Iterable[Path]) -> Iterator[Path]:
    """Give every recording among files and folders, a folder's in the order of their names. Raises RecordingError."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
        if not found:
            raise RecordingError(str(path), 0, "folder", path.name, "one that holds recordings (.jsonl, .jsonl.gz)")
        yield from found


def read_records(path: Path) -> Iterator[Record]:
    """Give the records of one file, line by line. Raises RecordingError."""
    for line, fields in read_objects(path):
        yield _record(str(path), line, fields)


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the objects of one file, each with the number of its line. Raises RecordingError."""
    try:
        with _opened(path) as stream:
            yield from _objects(str(path), stream)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(str(path), 0, "file", path.name, f"readable: {told(error)}") from error


def _opened(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _objects(file: str, stream: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    size = 0
    line = 0
    while text := stream.readline(LINE_BYTES + 1):
        line += 1
        size += len(text)
        if len(text) > LINE_BYTES:
            raise RecordingError(file, line, "length of the line", len(text), f"at most {LINE_BYTES:#x} bytes")
        if size > FILE_BYTES:
            raise RecordingError(file, line, "size of the file", size, f"at most {FILE_BYTES:#x} bytes, unpacked")
        if text.strip():
            yield line, _object(file, line, text)


def _object(file: str, line: int, text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(file, line, "line", text[:40].decode(errors="replace"), told(error)) from error
    if not isinstance(fields, dict):
        raise RecordingError(file, line, "line", text[:40].decode(errors="replace"), "an object")
    return fields


def _record(file: str, line: int, fields: dict[str, Any]) -> Record:
    record = Record(file, line, fields, "", "", 0, "", "", None)
    record.test = record.text("test")
    record.probe = record.text("probe", "").strip()
    record.call = record.text("call")
    record.kind = record.text("kind", "")
    record.process = record.number("proc", 0)
    record.seq = record.number("seq") if "seq" in fields else None
    return record
