"""Replays what a program did on a machine with real hardware: ioctls of /dev/iommu and of VFIO devices, in order.

These recordings have a ``type`` in each line (smmuv3-nested.jsonl). What they do not tell is taken as it must
have been: event files are closed before their objects go, and memory is there where a call that names it succeeds.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from typing import TYPE_CHECKING, Any

from attrs import define, field

from viommu.errors import ViommuError, told
from viommu.iommufd.local import LocalFile
from viommu.kernel_errors import Invalid, KernelError
from viommu.machine import Machine
from viommu.objects.device import Device
from viommu.oracle.comparison import Case, Difference, compare_answers, compare_bytes
from viommu.oracle.program_memory import ProgramProcess
from viommu.oracle.recording import FILE_BYTES, LINE_BYTES, NAMES, Answer, Record, RecordingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from viommu.captures.capture import Capture
    from viommu.endpoint import Endpoint
    from viommu.iommufd.fd import IommuFd

IOMMUFD = "iommufd"
LOWEST_ADDRESS = 1 << 20
"""Below it nothing is ever mapped: the program's wrong addresses are there."""
LONGEST, MOST_FILES = 1 << 30, 64
STRUCT_AT, STRUCT_BYTES = 0x10_0000_0000, 1 << 16
IOAS_MAP, IOAS_MAP_FILE, DESTROY, FAULT_ALLOC, VEVENTQ_ALLOC = 0x3B85, 0x3B8F, 0x3B80, 0x3B8E, 0x3B93
FILES = {FAULT_ALLOC: (8, 12), VEVENTQ_ALLOC: (20, 24)}
"""Where replies have the id of an object and the number of its file."""


def replay_program(path: Path, capture: Capture) -> list[Case]:
    """Replay a recording on a machine like that of a capture; a case for each scenario. Raises RecordingError."""
    lines = list(_lines(path))
    machine, streams = Machine(capture.driver, registers=capture.registers), _streams(lines)
    try:
        run = _Run.on(machine, streams)
    except ViommuError as error:
        raise RecordingError(str(path), 0, "devices", streams, told(error)) from error
    for line in lines:
        run.step(line)
    return list(run.cases.values())


@define(eq=False)
class Line:
    """One line: a call, or something that is told beside the calls."""

    file: str
    number: int
    fields: dict[str, Any]

    def wrong(self, name: str, expected: str) -> RecordingError:
        """Say what is wrong with a field."""
        return RecordingError(self.file, self.number, name, self.fields.get(name), expected)

    def text(self, name: str) -> str:
        """Give a field of text. Raises RecordingError."""
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def whole(self, name: str, of: dict[str, Any] | None = None) -> int:
        """Give a number. Raises RecordingError."""
        value = (self.fields if of is None else of).get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "a number")
        return value

    def data(self, name: str, of: dict[str, Any] | None = None) -> bytes:
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
        code = self.whole("errno")
        fields = {
            "ret": self.whole("ret"),
            "errno": NAMES.get(code, f"errno {code}") if code else "0",
            "name": self.text("name"),
            "f_in": {"in": self.text("in"), "comment": self.text("comment")},
        }
        scenario = self.text("scn")
        return Record(self.file, self.number, fields, scenario, "", 0, "ioctl", self.text("fd"), self.whole("seq"))


@define(eq=False)
class _Vfio:
    """A device in VFIO's hands."""

    file: IommuFd
    endpoint: Endpoint
    device: Device | None = None

    def call(self, name: str, raw: bytes) -> tuple[int, bytes]:
        """Answer an ioctl of its file: 0 or a negative errno, and the structure afterwards."""
        act = _VFIO.get(name)
        if act is None:
            return -errno.ENOTTY, raw
        try:
            with self.file.context.lock:
                return 0, act(self, raw)
        except KernelError as error:
            return -error.code, raw

    def bind(self, raw: bytes) -> bytes:
        """VFIO_DEVICE_BIND_IOMMUFD."""
        if self.device is not None:
            raise Invalid("VFIO device", "owner", bound="none yet")
        self.device = Device.bind(self.file.context, self.endpoint.physical)
        return _patched(raw, 12, self.device.id)

    def attach(self, raw: bytes) -> bytes:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT: what is attached already is replaced."""
        if self.device is None:
            raise Invalid("VFIO device", "owner", bound="bound before it is attached")
        change = self.device.replace if 0 in self.device.group.attachments else self.device.attach
        return _patched(raw, 8, change(_word(raw, 8)).id)

    def detach(self, raw: bytes) -> bytes:
        """VFIO_DEVICE_DETACH_IOMMUFD_PT."""
        if self.device is not None:
            self.device.detach()
        return raw


_VFIO: dict[str, Callable[[_Vfio, bytes], bytes]] = {
    "VFIO_DEVICE_BIND_IOMMUFD": _Vfio.bind,
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT": _Vfio.attach,
    "VFIO_DEVICE_DETACH_IOMMUFD_PT": _Vfio.detach,
}


@define(eq=False)
class _Run:
    process: ProgramProcess
    file: IommuFd
    devices: dict[str, _Vfio]
    cases: dict[str, Case] = field(factory=dict)
    files: dict[int, int] = field(factory=dict)
    """Open event files of ours, by the id of their object."""

    @classmethod
    def on(cls, machine: Machine, streams: dict[str, int]) -> _Run:
        process = ProgramProcess(machine.memory, new_buffer=machine.buffer)
        process.ensure(STRUCT_AT, STRUCT_BYTES)
        file = machine.open_file()
        return cls(process, file, {name: _Vfio(file, machine.add_device(sid)) for name, sid in streams.items()})

    def step(self, line: Line) -> None:
        """Make one call, and compare."""
        if line.fields.get("type") != "ioctl":
            return
        record = line.record
        raw = line.data("in")
        if len(raw) > STRUCT_BYTES:
            raise line.wrong("in", f"at most {STRUCT_BYTES} bytes")
        case = self.cases.setdefault(record.test, Case(line.file, record.test, judged=True))
        if line.text("fd") == IOMMUFD:
            case.count(self.iommufd(line, record, bytearray(raw)))
        elif line.text("fd") in self.devices:
            result, after = self.devices[line.text("fd")].call(line.text("name"), raw)
            case.count(_compared(record, result, line.data("out"), after))

    def iommufd(self, line: Line, record: Record, raw: bytearray) -> Difference | None:
        """Make an ioctl of /dev/iommu."""
        number = _number(line)
        self.prepare(line, raw, number)
        pointer = line.pointer
        if pointer is not None:
            self.place(line, raw, pointer)
        self.process.write(STRUCT_AT, bytes(raw))
        result = self.file.ioctl(number, STRUCT_AT, self.process)
        after = bytearray(self.process.read(STRUCT_AT, len(raw)) or b"")
        recorded = line.data("out")
        if result == 0 and number in FILES and len(after) >= FILES[number][1] + 4 <= len(recorded):
            self.remember(number, after, recorded)
        found = _compared(record, result, recorded, bytes(after))
        if found is None and pointer is not None:
            at = _address(raw, pointer[0])
            found = compare_bytes(record, "data", pointer[2], self.process.read(at, len(pointer[2])) or b"")
        return found

    def prepare(self, line: Line, raw: bytearray, number: int) -> None:
        """Let the memory and the files be there that the call names."""
        if number == IOAS_MAP and len(raw) >= 32:
            address, length = struct.unpack_from("<QQ", raw, 16)
            if address >= LOWEST_ADDRESS:
                self.ensure(line, address, min(length, LONGEST))
        elif number == IOAS_MAP_FILE and len(raw) >= 32:
            fd = _word(raw, 12)
            if fd not in self.process.named and line.whole("ret") == 0:
                if len(self.process.named) >= MOST_FILES:
                    raise line.wrong("in", f"one of at most {MOST_FILES} files")
                self.process.named[fd] = _memfd(self.process, sum(struct.unpack_from("<QQ", raw, 16)))
        elif number == DESTROY and len(raw) >= 8 and line.whole("ret") == 0:
            ours = self.files.pop(_word(raw, 4), None)
            if ours is not None:
                self.process.close(ours)

    def place(self, line: Line, raw: bytearray, pointer: tuple[int, bytes, bytes]) -> None:
        """Put at the pointer's address what was there."""
        offset, before, _ = pointer
        if offset < 0 or offset + 8 > len(raw):
            raise line.wrong("ptr", "within the structure")
        if before:
            self.ensure(line, _address(raw, offset), len(before))
            self.process.write(_address(raw, offset), before)

    def ensure(self, line: Line, address: int, length: int) -> None:
        """Let memory be there. Raises RecordingError."""
        if not self.process.ensure(address, length):
            raise line.wrong("in", "memory of a size that a program has")

    def remember(self, number: int, after: bytearray, recorded: bytes) -> None:
        """Numbers of files are each process's own: take the recorded one into our answer."""
        object_at, file_at = FILES[number]
        self.files[_word(after, object_at)] = _word(after, file_at)
        after[file_at : file_at + 4] = recorded[file_at : file_at + 4]


def _memfd(process: ProgramProcess, size: int) -> Any:  # noqa: ANN401 - a file that can be pinned
    """A file of the program's, as long as a call says; one that is named on an IOAS without domain may be shorter."""
    fd = os.memfd_create("recorded")
    os.ftruncate(fd, min(size, LONGEST))
    return LocalFile(process.memory, fd)


def _compared(record: Record, result: int, recorded: bytes, ours: bytes) -> Difference | None:
    return compare_answers(record, Answer.of(result)) or compare_bytes(record, "struct", recorded, ours)


def _number(line: Line) -> int:
    try:
        return int(line.text("req"), 16) & 0xFFFF_FFFF
    except ValueError:
        raise line.wrong("req", "a number in hex") from None


def _word(raw: bytes | bytearray, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], "little")


def _address(raw: bytes | bytearray, at: int) -> int:
    return int.from_bytes(raw[at : at + 8], "little")


def _patched(raw: bytes, at: int, value: int) -> bytes:
    return raw[:at] + struct.pack("<I", value) + raw[at + 4 :]


def _streams(lines: Iterable[Line]) -> dict[str, int]:
    """Say which device has which requester id: DMA tells it."""
    dma = [line for line in lines if line.fields.get("type") == "dma"]
    return {line.text("dev"): line.whole("sid") for line in dma}


def _lines(path: Path) -> Iterator[Line]:
    try:
        with path.open("rb") as stream:
            size = 0
            for number, text in enumerate(iter(lambda: stream.readline(LINE_BYTES + 1), b""), 1):
                size += len(text)
                if len(text) > LINE_BYTES or size > FILE_BYTES:
                    raise RecordingError(str(path), number, "size", size, "that of a recording")
                if text.strip():
                    yield Line(str(path), number, _object(path, number, text))
    except OSError as error:
        raise RecordingError(str(path), 0, "file", path.name, f"readable: {told(error)}") from error


def _object(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(str(path), number, "line", text[:40].decode(errors="replace"), told(error)) from error
    if not isinstance(fields, dict):
        raise RecordingError(str(path), number, "line", text[:40].decode(errors="replace"), "an object")
    return fields
