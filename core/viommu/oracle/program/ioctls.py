"""Ioctls of the program on /dev/iommu: made anew, and held against what was answered."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from attrs import define, field

from viommu.iommufd.local import LocalFile
from viommu.oracle.blobs import word
from viommu.oracle.comparison import compare_answers, compare_bytes
from viommu.oracle.recording import Answer

if TYPE_CHECKING:
    from viommu.iommufd.fd import IommuFd
    from viommu.oracle.comparison import Difference
    from viommu.oracle.program.events import EventReads
    from viommu.oracle.program.guest_memory import GuestMemory
    from viommu.oracle.program.lines import Line
    from viommu.oracle.program.memory import ProgramProcess
    from viommu.oracle.recording import Record

LOWEST_ADDRESS = 1 << 20
"""Below it nothing is ever mapped: the program's wrong addresses are there."""
LONGEST, MOST_FILES = 1 << 30, 64
STRUCT_AT, STRUCT_BYTES = 0x10_0000_0000, 1 << 16
IOAS_MAP, IOAS_MAP_FILE, DESTROY, FAULT_ALLOC, VEVENTQ_ALLOC = 0x3B85, 0x3B8F, 0x3B80, 0x3B8E, 0x3B93
FILES = {FAULT_ALLOC: (8, 12), VEVENTQ_ALLOC: (20, 24)}
"""Where replies have the id of an object and the number of its file."""
IOAS_MAP_BYTES = 40


@define(eq=False)
class Ioctls:
    """Makes them for a process on an open file; tells ``memory`` and ``events`` what they must know of them."""

    process: ProgramProcess
    file: IommuFd
    memory: GuestMemory
    events: EventReads
    files: dict[int, int] = field(factory=dict)
    """Open event files of ours, by the id of their object."""

    def __attrs_post_init__(self) -> None:
        self.process.ensure(STRUCT_AT, STRUCT_BYTES)

    def make(self, line: Line, record: Record, raw: bytearray) -> Difference | None:
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
        if result == 0 and number == IOAS_MAP and len(after) >= IOAS_MAP_BYTES:
            self.memory.mapped(word(after, 32), word(after, 16))
        found = compared(record, result, recorded, bytes(after))
        if found is None and pointer is not None:
            at = word(raw, pointer[0])
            found = compare_bytes(record, "data", pointer[2], self.process.read(at, len(pointer[2])) or b"")
        return found

    def prepare(self, line: Line, raw: bytearray, number: int) -> None:
        """Let the memory and the files be there that the call names."""
        if number == IOAS_MAP and len(raw) >= 32:
            address, length = struct.unpack_from("<QQ", raw, 16)
            if address >= LOWEST_ADDRESS:
                self.ensure(line, address, min(length, LONGEST))
        elif number == IOAS_MAP_FILE and len(raw) >= 32:
            fd = word(raw, 12, 4)
            if fd not in self.process.named and line.whole("ret") == 0:
                if len(self.process.named) >= MOST_FILES:
                    raise line.wrong("in", f"one of at most {MOST_FILES} files")
                self.process.named[fd] = _memfd(self.process, sum(struct.unpack_from("<QQ", raw, 16)))
        elif number == DESTROY and len(raw) >= 8 and line.whole("ret") == 0:
            ours = self.files.pop(word(raw, 4, 4), None)
            if ours is not None:
                self.process.close(ours)

    def place(self, line: Line, raw: bytearray, pointer: tuple[int, bytes, bytes]) -> None:
        """Put at the pointer's address what was there."""
        offset, before, _ = pointer
        if offset < 0 or offset + 8 > len(raw):
            raise line.wrong("ptr", "within the structure")
        if before:
            self.ensure(line, word(raw, offset), len(before))
            self.process.write(word(raw, offset), before)

    def ensure(self, line: Line, address: int, length: int) -> None:
        """Let memory be there. Raises RecordingError."""
        if not self.process.ensure(address, length):
            raise line.wrong("in", "memory of a size that a program has")

    def remember(self, number: int, after: bytearray, recorded: bytes) -> None:
        """Numbers of files are each process's own: take the recorded one into our answer."""
        object_at, file_at = FILES[number]
        fd = self.files[word(after, object_at, 4)] = word(after, file_at, 4)
        if number == VEVENTQ_ALLOC:
            self.events.opened(self.process.files[fd], word(after, 12, 4))
        after[file_at : file_at + 4] = recorded[file_at : file_at + 4]


def _memfd(process: ProgramProcess, size: int) -> Any:  # noqa: ANN401 - a file that can be pinned
    """A file of the program's, as long as a call says; one that is named on an IOAS without domain may be shorter."""
    fd = os.memfd_create("recorded")
    os.ftruncate(fd, min(size, LONGEST))
    return LocalFile(process.memory, fd)


def compared(record: Record, result: int, recorded: bytes, ours: bytes) -> Difference | None:
    """Compare what an ioctl returned, and its structure."""
    return compare_answers(record, Answer.of(result)) or compare_bytes(record, "struct", recorded, ours)


def _number(line: Line) -> int:
    try:
        return int(line.text("req"), 16) & 0xFFFF_FFFF
    except ValueError:
        raise line.wrong("req", "a number in hex") from None
