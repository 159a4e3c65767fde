"""A program that drove a real kernel's SMMUv3 vIOMMU path, replayed: every ioctl is answered as that kernel did.

The tables that the program built are not recorded: DMA and events are judged by the captures.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from viommu.captures.capture import load
from viommu.cli import main
from viommu.oracle.program import replay_program
from viommu.oracle.recording import RecordingError

if TYPE_CHECKING:
    import pytest

DATA = Path(__file__).parent.parent.parent / "data"
RECORDING = DATA / "oracle" / "smmuv3-nested.jsonl"
CAPTURE = DATA / "captures" / "smmuv3-nested-4k-48"
LINES = RECORDING.read_text().splitlines()


def test_every_ioctl_is_answered_as_the_kernel_answered_it() -> None:
    cases = replay_program(RECORDING, load(CAPTURE))
    assert [case.first for case in cases if case.first is not None] == []
    assert (len(cases), sum(case.agreed for case in cases)) == (43, 485)


def test_a_difference_is_told_with_both_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [json.loads(line) for line in LINES]
    (place,) = (n for n, line in enumerate(wrong) if line.get("comment") == "CFGI_STE")
    wrong[place] |= {"ret": 0, "errno": 0}
    recording = tmp_path / "wrong.jsonl"
    recording.write_text("\n".join(json.dumps(line) for line in wrong))
    code = main(["oracle", str(recording), "--machine", str(CAPTURE)])
    out = capsys.readouterr().out
    assert code == 1
    assert "IOMMU_HWPT_INVALIDATE" in out
    assert "kernel 0" in out
    assert "ours EIO" in out


VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2), st.booleans())
NAMES = st.sampled_from(["type", "fd", "name", "req", "in", "out", "ret", "errno", "ptr", "scn", "seq", "dev", "sid"])


@given(
    st.integers(0, len(LINES) - 40),
    st.lists(st.tuples(st.integers(0, 39), NAMES, VALUES), max_size=6),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 400), st.sampled_from("0123456789abcdef")), max_size=20),
)
def test_no_recording_ends_in_anything_but_a_comparison_or_a_complaint(
    tmp_path_factory: pytest.TempPathFactory,
    start: int,
    changes: list[tuple[int, str, object]],
    digits: list[tuple[int, int, str]],
) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in LINES[start : start + 40]]
    lines.insert(0, {"type": "dma", "dev": "edu", "sid": 0x28})
    for place, at, digit in digits:
        raw = lines[place].get("in", "")
        lines[place]["in"] = raw[:at] + digit + raw[at + 1 :]
    for place, name, value in changes:
        lines[place][name] = value
    recording = tmp_path_factory.mktemp("hostile") / "hostile.jsonl"
    recording.write_text("\n".join(json.dumps(line) for line in lines))
    with suppress(RecordingError):
        replay_program(recording, load(CAPTURE))
