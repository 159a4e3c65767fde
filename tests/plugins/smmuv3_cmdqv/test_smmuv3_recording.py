"""A program that drove a real kernel's SMMUv3 vIOMMU path, replayed: every call is answered as that kernel did.

Its tables are those of captures that were taken while it ran: its DMA and its events are made anew through them.
"""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.captures.capture import load
from viommu.cli import main
from viommu.explain import Fetch
from viommu.faults import Fault
from viommu.oracle.program import Captures, is_program, replay_program
from viommu.oracle.recording import RecordingError
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.stream_table import STE

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.oracle.comparison import Case
    from viommu.oracle.program.run import Replayed

DATA = Path(__file__).parent.parent.parent / "data"
RECORDING = DATA / "oracle" / "smmuv3-nested.jsonl"
CAPTURES = DATA / "captures"
LINES = RECORDING.read_text().splitlines()
EDU, MAPPED, UNMAPPED = 0x28, 0x1000, 0xC000


@cache
def replayed() -> Replayed:
    return replay_program(RECORDING, Captures.at(CAPTURES))


def replayed_with(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> list[Case]:
    """Replay the recording with its lines changed."""
    lines = [json.loads(line) for line in LINES]
    for line in lines:
        change(line)
    recording = tmp_path / "changed.jsonl"
    recording.write_text("\n".join(json.dumps(line) for line in lines))
    return replay_program(recording, Captures.at(CAPTURES)).cases


def test_every_ioctl_dma_and_read_is_answered_as_the_kernel_answered_it() -> None:
    assert [case.first for case in replayed().cases if case.first is not None] == []
    lines = [json.loads(line) for line in LINES]
    told = sum(line["type"] in ("ioctl", "dma", "vevent_read") for line in lines)
    programs = [case for case in replayed().cases if not case.name.startswith("captured/")]
    assert sum(case.agreed + case.unjudged for case in programs) == told == 737


def test_what_is_not_judged_are_moments_without_capture_and_disputed_rows() -> None:
    captured = {load(path).name.removeprefix("smmuv3-nested-") for path in CAPTURES.iterdir() if path.is_dir()}
    doubted = {case.name: case.unjudged for case in replayed().cases if case.unjudged}
    assert {name: count for name, count in doubted.items() if name.removeprefix("n-") in captured} == {
        "n-bypass": 3,
        "n-4k-48": 6,
    }
    changed = "inval-semantics"  # its program changes tables between captures
    assert {name for name in doubted if name.removeprefix("n-") not in captured} - {changed} == {
        line["name"] for line in map(json.loads, LINES) if line["type"] == "snap" and line["name"] != "END"
    } - {"s2only-parent"} - {f"n-{name}" for name in captured}


def test_every_dma_that_captures_recorders_made_is_made_through_the_vmms_mappings() -> None:
    made = sum(case.agreed for case in replayed().cases if case.name.startswith("captured/"))
    rows = [row for path in CAPTURES.glob("smmuv3-nested-*") for row in load(path).translations()]
    assert made == sum(row.oracle == "qemu-probe" for row in rows) == 1489


def test_an_event_that_differs_in_one_bit_is_found(tmp_path: Path) -> None:
    def flip(line: dict[str, Any]) -> None:
        if line["type"] == "vevent_read" and line["scn"] == "uapi-teardown" and line["data"]:
            line["data"] = line["data"][:16] + "11" + line["data"][18:]  # another event code

    (wrong,) = (case for case in replayed_with(flip, tmp_path) if case.first is not None)
    assert wrong.name == "uapi-teardown"


def test_an_event_too_many_or_too_few_is_found(tmp_path: Path) -> None:
    def forget(line: dict[str, Any]) -> None:
        if line["type"] == "vevent_read" and line["scn"] == "n-cd-epd0" and line["data"]:
            line |= {"data": line["data"][:-80], "ret": line["ret"] - 40}

    assert "n-cd-epd0" in [case.name for case in replayed_with(forget, tmp_path) if case.first is not None]


def test_a_dma_that_read_another_page_is_found(tmp_path: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["type"] == "dma" and line.get("comment") == "warm TLB":
            line["data"] = line["want"] = "0xc0de000000200002"  # the page that IOVA 0x2000 leads to

    assert "inval-semantics" in [case.name for case in replayed_with(change, tmp_path) if case.first is not None]


def test_a_dma_that_was_refused_there_and_is_not_here_is_found(tmp_path: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["type"] == "dma" and "result" in line:
            line["result"] = "0xdead0002"

    assert "inval-semantics" in [case.name for case in replayed_with(change, tmp_path) if case.first is not None]


def test_captures_of_other_memory_judge_nothing(tmp_path: Path) -> None:
    def move(line: dict[str, Any]) -> None:
        if line["type"] == "region":
            line["pfn_runs"] = [[hex(int(pa, 16) + (1 << 40)), length] for pa, length in line["pfn_runs"]]

    cases = replayed_with(move, tmp_path)
    assert all(case.first is None for case in cases)
    assert not [case for case in cases if case.name == "captured/smmuv3-nested-4k-48"]


def test_the_command_finds_captures_beside_the_recordings_and_says_what_happened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["oracle", str(RECORDING), "--summary"]) == 0
    out = capsys.readouterr().out
    assert "trapped: 335 commands, 90 exits, 90 ioctls" in out
    assert "89 calls are not judged" in out


def test_a_recording_may_be_gzipped(tmp_path: Path) -> None:
    recording = tmp_path / "recording.jsonl.gz"
    recording.write_bytes(gzip.compress("\n".join(LINES[:40]).encode()))
    assert is_program(recording)
    assert all(case.agrees for case in replay_program(recording, Captures.at(CAPTURES)).cases)


def test_a_difference_is_told_with_both_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [json.loads(line) for line in LINES]
    (place,) = (n for n, line in enumerate(wrong) if line.get("comment") == "CFGI_STE")
    wrong[place] |= {"ret": 0, "errno": 0}
    recording = tmp_path / "wrong.jsonl"
    recording.write_text("\n".join(json.dumps(line) for line in wrong))
    code = main(["oracle", str(recording), "--captures", str(CAPTURES)])
    out = capsys.readouterr().out
    assert code == 1
    assert "IOMMU_HWPT_INVALIDATE" in out
    assert "kernel 0" in out
    assert "ours EIO" in out


UNCAPTURED: list[tuple[str, dict[str, int], dict[str, int]]] = [
    ("n-cd-a0", {}, {"A": 0}),
    ("n-cd-r0", {}, {"R": 0}),
    ("n-cd-tsz45", {}, {"T0SZ": 45}),
    ("n-cd-tg3", {}, {"TG0": 3}),
    ("n-cd-ha", {}, {"HA": 1}),
    ("n-cd-endi", {}, {"ENDI": 1}),
    ("n-cd-ttb-high", {}, {"TTB0": 1 << 44}),
    ("n-ste-stalld", {"S1STALLD": 1}, {}),
]
"""Moments of which no capture is at hand, and what the names of their scenarios say of STE and CD."""


@pytest.mark.parametrize(("scenario", "of_ste", "of_cd"), UNCAPTURED, ids=[name for name, _, _ in UNCAPTURED])
def test_structures_that_no_capture_has_end_as_the_guest_was_told(
    scenario: str, of_ste: dict[str, int], of_cd: dict[str, int]
) -> None:
    """The captured STE and CD with that change give the event that the program read then, or none."""
    machine = load(CAPTURES / "smmuv3-nested-4k-48").machine()
    read = {step.structure: step for step in machine.explain(EDU, MAPPED).configuration if isinstance(step, Fetch)}
    for layout, change in ((STE, of_ste), (CD, of_cd)):
        found = read[layout.__name__]
        assert found.raw is not None
        machine.memory.write(found.address, layout.decode(found.raw).replace(**change).encode())
    told = [bytes.fromhex(line["data"])[8:40] for line in map(json.loads, LINES) if _is_read(line, scenario)]
    outcome = machine.translate(EDU, MAPPED if told else UNMAPPED)
    assert isinstance(outcome, Fault)
    record = machine.report(outcome).record
    assert record == (told[0][:4] + EDU.to_bytes(4, "little") + told[0][8:] if told else None)


def _is_read(line: dict[str, Any], scenario: str) -> bool:
    return bool(line["type"] == "vevent_read" and line["scn"] == scenario and line["data"])


NUMBERS = st.integers(0, 1 << 65).map(hex)
VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=20),
    NUMBERS,
    st.lists(st.lists(NUMBERS, max_size=3), max_size=2),
    st.booleans(),
)
CALLS = ["type", "fd", "name", "req", "in", "out", "ret", "errno", "ptr", "scn", "seq"]
NAMES = st.sampled_from(
    [*CALLS, "dev", "sid", "iova", "len", "rw", "data", "want", "result", "pfn_runs", "count", "poll"]
)


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
    lines.insert(0, {"type": "dma", "dev": "edu", "sid": 0x28, "iova": "0x1000", "rw": "r", "seq": 0})
    for place, at, digit in digits:
        raw = lines[place].get("in", "")
        lines[place]["in"] = raw[:at] + digit + raw[at + 1 :]
    for place, name, value in changes:
        lines[place][name] = value
    recording = tmp_path_factory.mktemp("hostile") / "hostile.jsonl"
    recording.write_text("\n".join(json.dumps(line) for line in lines))
    with suppress(RecordingError):
        replay_program(recording, Captures.at(CAPTURES / "smmuv3-nested-4k-48"))
