"""The lines of a program's recording, read as if an enemy had written them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define

from viommu.oracle.blobs import word
from viommu.oracle.recording import NAMES, Record, RecordingError, read_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NUMBER_LIMIT = 1 << 64


@define(eq=False)
class Line:
    """One line: a call, a DMA, a read, or something that is told beside them."""

    file: str
    number: int
    fields: dict[str, Any]

    @property
    def type(self) -> str:
        """What kind of line it is; other recorders may have more."""
        return self.text("type")

    def wrong(self, name: str, expected: str) -> RecordingError:
        """Say what is wrong with a field."""
        return RecordingError(self.file, self.number, name, self.fields.get(name), expected)

    def has(self, name: str) -> bool:
        """Say whether the line has the field."""
        return name in self.fields

    def text(self, name: str) -> str:
        """Give a field of text. Raises RecordingError."""
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def whole(self, name: str, of: Mapping[str, Any] | None = None) -> int:
        """Give a number. Raises RecordingError."""
        value = (self.fields if of is None else of).get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "a number")
        return value

    def hex(self, name: str) -> int:
        """Give a number of at most 64 bits, told in hexadecimal. Raises RecordingError."""
        return self.hex_value(name, self.fields.get(name))

    def hex_value(self, name: str, value: object) -> int:
        """Give a number that is somewhere in a field. Raises RecordingError."""
        try:
            number = int(value, 16) if isinstance(value, str) and len(value) <= 18 else -1
        except ValueError:
            number = -1
        if not 0 <= number < NUMBER_LIMIT:
            raise self.wrong(name, "a number in hex")
        return number

    def data(self, name: str, of: Mapping[str, Any] | None = None) -> bytes:
        """Give bytes, told as hex. Raises RecordingError."""
        value = (self.fields if of is None else of).get(name)
        try:
            return bytes.fromhex(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self.wrong(name, "bytes as hex") from None

    @property
    def pointer(self) -> tuple[int, bytes, bytes] | None:
        """Where the structure's pointer is, and what it points to before and after. Raises RecordingError."""
        told_of = self.fields.get("ptr")
        if told_of is None:
            return None
        if not isinstance(told_of, dict):
            raise self.wrong("ptr", "an object")
        return self.whole("off", told_of), self.data("in", told_of), self.data("out", told_of)

    @property
    def record(self) -> Record:
        """The same as differences are told of."""
        return _RECORDS.get(self.type, _call)(self)

    @property
    def attached_to(self) -> int | None:
        """What a device is attached to by this call that went well (0: nothing); None where it is another one."""
        name = self.text("name")
        if name not in ATTACHES or self.fields.get("ret") != 0:
            return None
        return word(self.data("in"), 8, 4) if name == ATTACH else 0

    @property
    def changes_stage2(self) -> bool:
        """Whether it is a call that went well and changed what an IOAS maps."""
        return self.type == "ioctl" and self.text("name") in MAPS and self.fields.get("ret") == 0


MAPS = ("IOMMU_IOAS_MAP", "IOMMU_IOAS_UNMAP", "IOMMU_IOAS_COPY", "IOMMU_IOAS_MAP_FILE")
ATTACH, DETACH = "VFIO_DEVICE_ATTACH_IOMMUFD_PT", "VFIO_DEVICE_DETACH_IOMMUFD_PT"
ATTACHES = (ATTACH, DETACH)


def _call(line: Line) -> Record:
    fields = _answer(line) | {
        "name": line.text("name"),
        "f_in": {"in": line.text("in"), "comment": line.text("comment")},
    }
    return _record(line, "ioctl", fields, line.text("fd"))


def _dma(line: Line) -> Record:
    fields = {
        "ret": 0,
        "errno": "0",
        **{name: line.fields.get(name) for name in ("dev", "rw", "iova", "len", "comment")},
    }
    return _record(line, "dma", fields, line.text("dev"))


def _read(line: Line) -> Record:
    return _record(line, "read", _answer(line) | {"count": line.fields.get("count")}, "veventq")


def _snap(line: Line) -> Record:
    return _record(line, "snap", {"ret": 0, "errno": "0", "comment": line.text("name")}, "")


_RECORDS = {"dma": _dma, "vevent_read": _read, "snap": _snap}


def _answer(line: Line) -> dict[str, Any]:
    code = line.whole("errno")
    return {"ret": line.whole("ret"), "errno": NAMES.get(code, f"errno {code}") if code else "0"}


def _record(line: Line, call: str, fields: dict[str, Any], kind: str) -> Record:
    return Record(line.file, line.number, fields, line.text("scn"), "", 0, call, kind, line.whole("seq"))


def read_lines(path: Path) -> Iterator[Line]:
    """Give the lines of a file that are not blank. Raises RecordingError."""
    for number, fields in read_objects(path):
        yield Line(str(path), number, fields)


def is_program(path: Path) -> bool:
    """Whether a file is such a recording: each of its lines has a type. Raises RecordingError."""
    first = next(read_lines(path), None)
    return first is not None and first.has("type")
