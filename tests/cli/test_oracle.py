"""`viommu oracle`: what it prints, how it ends, and that no recording makes it end otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from viommu.cli import main

if TYPE_CHECKING:
    from tests.cli.conftest import Run

LINES: list[dict[str, Any]] = [
    {"test": "t", "seq": 0, "proc": 0, "call": "open", "path": "/dev/iommu", "flags": "0x2", "ret": 3, "errno": "0"},
    {"test": "t", "seq": 1, "proc": 0, "call": "ioctl", "fd": 3, "kind": "iommufd", "cmd": "0x3b81"}
    | {"name": "IOMMU_IOAS_ALLOC", "size": 12, "in": "0c0000000000000000000000", "ret": 0, "errno": "0"}
    | {"out": "0c0000000000000001000000", "f_in": {"size": 12, "flags": 0, "out_ioas_id": 0}},
    {"test": "t", "seq": 2, "proc": 0, "call": "ioctl", "fd": 3, "kind": "iommufd", "cmd": "0x3b80"}
    | {"name": "IOMMU_DESTROY", "size": 8, "in": "0800000001000000", "ret": 0, "errno": "0"}
    | {"f_in": {"size": 8, "id": 1}},
    {"test": "t", "seq": 3, "proc": 0, "call": "close", "fd": 3, "kind": "iommufd", "ret": 0, "errno": "0"},
]


def written(file: Path, lines: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def test_a_recording_that_agrees_is_told_in_one_table(run: Run, tmp_path: Path) -> None:
    code, out, err = run("oracle", written(tmp_path / "a.jsonl", LINES))
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split() == ["t", "1", "1", "4", "4"]


def test_the_first_difference_is_told_with_both_answers_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    wrong = [*LINES[:2], LINES[2] | {"ret": -1, "errno": "EBUSY"}, LINES[3]]
    code, out, err = run("oracle", written(tmp_path / "a.jsonl", wrong))
    assert (code, err) == (1, "")
    assert "seq 2, process 0: IOMMU_DESTROY(id=1)" in out
    assert "differs in answer: kernel EBUSY" in out
    assert "ours 0" in out


def test_the_json_names_each_case(run: Run, tmp_path: Path) -> None:
    wrong = [*LINES[:2], LINES[2] | {"ret": -1, "errno": "EBUSY"}]
    code, out, _ = run("oracle", written(tmp_path / "a.jsonl", wrong), "--json")
    found = json.loads(out)
    assert (code, found["agreed"]) == (1, False)
    (case,) = found["cases"]
    assert (case["case"], case["calls"], case["agreed"]) == ("t", 3, 2)
    assert case["first_difference"]["ours"] == "0"


def test_a_broken_recording_is_told_in_one_line_and_ends_with_2(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}")
    code, out, err = run("oracle", file)
    assert (code, out) == (2, "")
    assert "line 1: test None is not text" in err


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        ["0x3b85", "0x3ba0", "ioctl", "read", "mmap", "poll", "maps", "memory", "EFAULT", "00" * 72, "ff" * 40]
    ),
    st.text(max_size=8),
    st.lists(st.integers(0, 1), max_size=2),
    st.just([{"start": "0x0", "end": hex(1 << 46), "prot": 3, "shared": True, "obj": "x"}]),
)
FIELDS = st.sampled_from(
    [
        *(
            "test",
            "seq",
            "proc",
            "call",
            "kind",
            "fd",
            "cmd",
            "name",
            "op",
            "size",
            "in",
            "out",
            "ret",
            "errno",
            "path",
        ),
        *(
            "flags",
            "probe",
            "ranges",
            "range",
            "full",
            "length",
            "addr",
            "data_in",
            "data_out",
            "count",
            "fds",
            "offset",
        ),
        *("prot", "child", "obj"),
    ]
)


@settings(max_examples=150)
@given(changes=st.lists(st.tuples(st.integers(0, 3), FIELDS, VALUES), max_size=4))
def test_no_recording_ends_otherwise(changes: list[tuple[int, str, object]]) -> None:
    lines = [dict(line) for line in LINES]
    for index, field, value in changes:
        lines[index][field] = value
    with TemporaryDirectory() as folder:
        assert main(["oracle", str(written(Path(folder) / "a.jsonl", lines)), "--json"]) in (0, 1, 2)
