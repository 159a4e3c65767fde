from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import pytest

from viommu.oracle.recording import Record
from viommu.oracle.replay import replay
from viommu.oracle.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from viommu.oracle.comparison import Case
    from viommu.oracle.processes import Process
    from viommu.oracle.recording import Answer

OPEN = {"call": "open", "path": "/dev/iommu", "flags": "0x2", "ret": 3, "errno": "0"}
ALLOC = {"call": "ioctl", "fd": 3, "kind": "iommufd", "cmd": "0x3b81", "name": "IOMMU_IOAS_ALLOC", "size": 12}
ALLOC |= {"in": "0c00000000000000ffffffff", "out": "0c0000000000000001000000", "ret": 0, "errno": "0"}


class Parrot(Subject):
    """Answers ioctls as a test wants."""

    def __init__(self, answer: Callable[[Process, int], int]) -> None:
        self.answer = answer

    def open(self, *_: object) -> object:
        return object()

    def ioctl(self, process: Process, _file: object, _number: int, argument: int) -> int:
        return self.answer(process, argument)


def replayed(folder: Path, answer: Callable[[Process, int], int], *lines: dict[str, Any]) -> Case:
    file = folder / "a.jsonl"
    full = [{"test": "t", "seq": n, "proc": 0, "kind": ""} | line for n, line in enumerate(lines)]
    file.write_text("\n".join(json.dumps(line) for line in full))
    (case,) = replay(file, lambda: Parrot(answer))
    return case


def allocates(process: Process, address: int) -> int:
    process.write(address + 8, (1).to_bytes(4, "little"))
    return 0


def test_the_same_answer_and_the_same_bytes_agree(tmp_path: Path) -> None:
    case = replayed(tmp_path, allocates, OPEN, ALLOC)
    assert (case.agrees, case.calls, case.agreed) == (True, 2, 2)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"call": "reboot", "ret": 0, "errno": "0"}, "not made: this replay knows no such call"),
        ({"call": "brk", "kind": "memory", "ret": 0, "errno": "0"}, "not made: this replay knows no such call"),
        (ALLOC | {"in": "xyz"}, "not made"),
        (ALLOC | {"cmd": "no number"}, "not made"),
        (ALLOC | {"ret": [], "data_in": 7}, "not made"),
        ({"call": "mmap", "kind": "memory", "length": "much", "ret": 0}, "not made"),
        ({"call": "poll", "fds": [{"fd": 3}], "ret": 0, "errno": "0"}, "not made"),
    ],
)
def test_what_is_not_understood_is_told_and_the_rest_is_judged(tmp_path: Path, line: dict[str, Any], told: str) -> None:
    case = replayed(tmp_path, allocates, OPEN, line, ALLOC)
    assert case.first is not None
    assert (case.first.ours, case.first.record.seq) == (told, 1)
    assert (case.calls, case.agreed) == (3, 2)


def test_another_errno_is_told(tmp_path: Path) -> None:
    case = replayed(tmp_path, lambda _, __: -errno.EINVAL, OPEN, ALLOC)
    assert case.first is not None
    assert (case.first.what, case.first.recorded, case.first.ours) == ("answer", "0", "EINVAL")


def test_bytes_that_differ_are_told_by_their_place(tmp_path: Path) -> None:
    case = replayed(tmp_path, lambda _, __: 0, OPEN, ALLOC)
    assert case.first is not None
    assert case.first.what == "struct at byte 8"
    assert (case.first.recorded, case.first.ours) == ("01000000", "ffffffff")


def test_a_reply_that_the_kernel_did_not_write_is_told(tmp_path: Path) -> None:
    failed = {key: value for key, value in ALLOC.items() if key != "out"} | {"ret": -1, "errno": "EINVAL"}

    def answer(process: Process, address: int) -> int:
        allocates(process, address)
        return -errno.EINVAL

    case = replayed(tmp_path, answer, OPEN, failed)
    assert case.first is not None
    assert case.first.what == "struct at byte 8"


def test_no_answer_is_looked_at_before_the_call_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    answer_of, blob = vars(Record)["answer"].fget, Record.blob

    def watched_answer(record: Record) -> Answer:
        looked.append("answer")
        told: Answer = answer_of(record)
        return told

    monkeypatch.setattr(Record, "answer", property(watched_answer))

    def watched_blob(record: Record, field: str) -> bytes:
        looked.append(field)
        return blob(record, field)

    monkeypatch.setattr(Record, "blob", watched_blob)
    seen: list[list[str]] = []

    def answer(process: Process, address: int) -> int:
        seen.append([field for field in looked if field != "in"])
        return allocates(process, address)

    replayed(tmp_path, answer, OPEN, ALLOC)
    assert seen == [["answer"]]  # that of the call before
    assert looked[-1] == "out"


def reading(value: str) -> dict[str, Any]:
    return access(0) | {"data_out": value}


def writing(value: str) -> dict[str, Any]:
    return access(1) | {"data_in": value}


def access(flags: int) -> dict[str, Any]:
    """ACCESS_RW of one byte, to or from a buffer at 0x7f0000000000."""
    struct = (72, 8, 9, 0, 0x1000000, 1, 0x7F0000000000, flags)
    sizes = (4, 4, 4, 4, 8, 8, 8, 4)
    raw = b"".join(value.to_bytes(size, "little") for value, size in zip(struct, sizes, strict=True)).ljust(72, b"\0")
    call = {"call": "ioctl", "fd": 3, "kind": "iommufd", "cmd": "0x3ba0", "name": "IOMMU_TEST_CMD", "op": "ACCESS_RW"}
    return call | {"size": 72, "in": raw.hex(), "ret": 0, "errno": "0"}


def accesses(*, loses_writes: bool) -> Callable[[Process, int], int]:
    """One byte of mapped memory at 0x7e0000000000, as an access reaches it."""

    def answer(process: Process, address: int) -> int:
        struct = process.read(address, 72) or b""
        buffer, mapped = int.from_bytes(struct[32:40], "little"), 0x7E0000000000
        if not struct[40] & 1:
            process.write(buffer, process.read(mapped, 1) or b"")
        elif not loses_writes:
            process.write(mapped, process.read(buffer, 1) or b"")
        return 0

    return answer


CONVERSATION = [
    OPEN,
    reading("11"),
    writing("22"),
    reading("22"),
    writing("33"),
    reading("33"),
    writing("44"),
    reading("44"),
]


def test_memory_that_nobody_told_is_learned_and_then_known(tmp_path: Path) -> None:
    assert replayed(tmp_path, accesses(loses_writes=False), *CONVERSATION).agrees


def test_what_a_program_stores_itself_is_no_difference(tmp_path: Path) -> None:
    assert replayed(tmp_path, accesses(loses_writes=False), *CONVERSATION, reading("99"), reading("99")).agrees


def test_an_access_that_loses_writes_is_found_out(tmp_path: Path) -> None:
    case = replayed(tmp_path, accesses(loses_writes=True), *CONVERSATION)
    assert case.first is not None
    assert (case.first.recorded, case.first.ours) == ("33", "22")
