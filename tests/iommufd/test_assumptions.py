"""What recordings without memory records leave untold is found by trying, and told; what cannot be is a difference."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from viommu.oracle.replay import replay
from viommu.oracle.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.oracle.comparison import Case
    from viommu.oracle.processes import Process

PROBES = Path(__file__).parents[1] / "data" / "oracle" / "probes.jsonl"


def replayed(folder: Path, lines: list[dict[str, Any]], new_subject: Callable[[], Subject] = Subject) -> list[Case]:
    file = folder / "a.jsonl"
    file.write_text("\n".join(json.dumps({"test": "t", "seq": n, "proc": 0} | line) for n, line in enumerate(lines)))
    return list(replay(file, new_subject))


def nameless() -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in PROBES.read_text().splitlines()]
    names: dict[str, str] = {}
    return [line | {"probe": names.setdefault(line["probe"], f"p{len(names)}")} for line in lines]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return replayed(tmp_path_factory.mktemp("nameless"), nameless())


def test_probes_agree_whatever_they_are_called(cases: list[Case]) -> None:
    assert [(case.name, case.first) for case in cases if not case.agrees] == []


def test_what_was_assumed_is_told_with_its_case(cases: list[Case]) -> None:
    told = [text for case in cases for text in case.assumed]
    assert len(told) == 12
    assert {"zeros follow the struct", "a struct cannot be written", "a read's buffer leads nowhere"} <= set(told)


def ioctl(cmd: int, name: str, *words: int, errno_: str = "0", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    raw = b"".join(word.to_bytes(4, "little") for word in (4 * len(words) + 4, *words))
    call = {"call": "ioctl", "fd": 3, "kind": "iommufd", "cmd": hex(cmd), "name": name, "size": len(raw)}
    return call | {"in": raw.hex(), "ret": 0 if errno_ == "0" else -1, "errno": errno_} | more


OPEN = {"call": "open", "path": "/dev/iommu", "flags": "0x2", "ret": 3, "errno": "0"}
ALLOC = ioctl(0x3B81, "IOMMU_IOAS_ALLOC", 0, 0, out="0c0000000000000001000000")


def mapping(va: int, iova: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return ioctl(0x3B85, "IOMMU_IOAS_MAP", 7, 1, 0, *pair(va), *pair(0x1000), *pair(iova), **more)


def pair(value: int) -> tuple[int, int]:
    return value & 0xFFFFFFFF, value >> 32


DOMAIN = ioctl(0x3BA0, "IOMMU_TEST_CMD", 2, 1, *[0] * 15, op="MOCK_DOMAIN")
DOMAIN |= {"out": "48000000020000000100000000000000" + "020000000400000003000000" + "00" * 44}


def test_a_page_that_went_away_is_found(tmp_path: Path) -> None:
    gone = mapping(0x7F0000000000, 0x1002000, errno_="EFAULT")
    lines = [OPEN, ALLOC, DOMAIN, mapping(0x7F0000000000, 0x1000000), gone, mapping(0x7F0000001000, 0x1002000)]
    (case,) = replayed(tmp_path, lines)
    assert case.agrees, case.first
    assert case.assumed == ["memory at 0x7f0000000000 is read-only"]


def test_an_assumption_that_breaks_what_agreed_is_not_made(tmp_path: Path) -> None:
    again = ioctl(0x3B81, "IOMMU_IOAS_ALLOC", 0, 0, errno_="ENOMEM")
    (case,) = replayed(tmp_path, [OPEN, ALLOC, again])
    assert case.first is not None
    assert (case.first.recorded, case.first.ours) == ("ENOMEM", "0")
    assert case.assumed == []


class Refusing(Subject):
    """Answers every ioctl but the first with EINVAL."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def ioctl(self, process: Process, file: object, number: int, argument: int) -> int:
        self.calls += 1
        return super().ioctl(process, file, number, argument) if self.calls == 1 else -errno.EINVAL


def test_a_wrong_answer_that_nothing_explains_is_a_difference(tmp_path: Path) -> None:
    (case,) = replayed(tmp_path, [OPEN, ALLOC, mapping(0x7F0000000000, 0x1000000)], Refusing)
    assert case.first is not None
    assert (case.first.recorded, case.first.ours, case.assumed) == ("0", "EINVAL", [])


def test_a_hostile_recording_is_not_tried_for_ever(tmp_path: Path) -> None:
    made: list[Refusing] = []

    def new_subject() -> Subject:
        made.append(Refusing())
        return made[-1]

    replayed(tmp_path, [OPEN, ALLOC, *[ioctl(0x3B80, "IOMMU_DESTROY", 1)] * 200], new_subject)
    assert len(made) <= 300


def file_mapping(fd: int, start: int, length: int, iova: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    words = (7, 1, fd, *pair(start), *pair(length), *pair(iova))
    return ioctl(0x3B8F, "IOMMU_IOAS_MAP_FILE", *words, **more)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (file_mapping(9, 0, 0x1000, 0x1002000, errno_="EINVAL"), "fd 9 is no memory"),
        (file_mapping(9, 0, 0x1000, 0x1002000, errno_="EBADF"), "fd 9 is not open"),
        (file_mapping(9, 0x8000, 0x1000, 0x1002000), "the file of fd 9 has 0x9000 bytes"),
        (mapping(0x7F0000000000, 0x1002000, errno_="EFAULT"), "memory at 0x7f0000000000 is read-only"),
    ],
)
def test_a_fact_about_the_memory_of_a_mapping_is_found(tmp_path: Path, call: dict[str, Any], told: str) -> None:
    (case,) = replayed(tmp_path, [OPEN, ALLOC, DOMAIN, call])
    assert (case.first, case.assumed) == (None, [told])


def test_the_end_of_a_buffer_is_found_before_the_whole_of_it_is_given_up(tmp_path: Path) -> None:
    words = (7, 1, 0, *pair(0x7F0000000000), *pair(0x3000), *pair(0x1002000))
    across = ioctl(0x3B85, "IOMMU_IOAS_MAP", *words, errno_="EFAULT")
    lines = [OPEN, ALLOC, DOMAIN, across, mapping(0x7F0000000000, 0x1002000), mapping(0x7F0000001000, 0x1004000)]
    (case,) = replayed(tmp_path, lines)
    assert (case.first, case.assumed) == (None, ["memory at 0x7f0000002000 is read-only"])
