from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.captured import GOOD_ROWS, HEADER, toy_guest, translation, write_capture, write_table
from tests.core.toy import PRESENT, WRITE, ToyDriver
from viommu.captures.capture import load
from viommu.captures.rows import RecordedRow, Verdict, same_fault
from viommu.drivers import bind_plugin
from viommu.errors import CaptureError
from viommu.replay import run as replay_module
from viommu.replay.comparison import Mismatch
from viommu.replay.departures import Departures
from viommu.replay.run import replay
from viommu.replay.verdicts import differences

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from viommu.replay.comparison import Replay


def replayed(folder: Path, sections: Sequence[str] = ("translations",), *, limit: int = 10) -> Replay:
    capture = load(folder)
    return replay(capture, capture.machine(bind_plugin(ToyDriver())), sections, limit=limit)


def test_a_true_recording_agrees_in_every_row(tmp_path: Path) -> None:
    result = replayed(write_capture(tmp_path / "toy"))

    assert result.agreed
    assert result.mismatches == []
    section = result.sections["translations"]
    assert (section.rows, section.agreed, section.departures, section.disagreed) == (len(GOOD_ROWS),) * 2 + (0, 0)


def test_the_json_has_the_promised_form(tmp_path: Path) -> None:
    shown = replayed(write_capture(tmp_path / "toy")).to_json()

    assert list(shown) == ["name", "driver", "translations", "seconds", "mismatches"]
    assert shown["translations"] == {"rows": len(GOOD_ROWS), "agreed": len(GOOD_ROWS), "departures": 0}


@pytest.mark.parametrize(
    ("row", "differs"),
    [
        (translation("3", "0x5010", "r", "fault", fault="TRANSLATION"), ("outcome",)),
        (translation("3", "0x5010", "r", "bypass", pa="0x5010"), ("outcome",)),
        (translation("3", "0x5010", "r", "ok", pa="0x80000011", page_size="0x1000"), ("pa",)),
        (translation("3", "0x5010", "r", "ok", pa="0x80000010", page_size="0x200000"), ("page_size",)),
        (translation("3", "0x5010", "r", "ok", pa="0x80000010", page_size="0x0"), ("page_size",)),
        (translation("4", "0x5010", "r", "ok", pa="0x5010", page_size="0x200000"), ("page_size",)),
        (translation("4", "0x5010", "r", "bypass", pa="0x5011"), ("pa",)),
        (translation("3", "0x5010", "w", "abort"), ("outcome",)),
        (translation("3", "0x5010", "w", "fault", fault="TRANSLATION"), ("fault",)),
        (translation("128", "0x5000", "r", "fault", fault="0x10"), ("fault",)),
        (translation("5", "0x5000", "r", "fault"), ("outcome",)),
        (translation("3", "0x5010", "w", "fault", record="11" * 16), ("record",)),
        (translation("3", "0x5010", "w", "fault", record="10"), ("record",)),
        (translation("5", "0", "r", "abort", record="10"), ()),
        (translation("3", "0x5010", "r", "ok", pa="0x80000010", record="11" * 16), ()),
        (translation("3", "0x5010", "w", "fault", record="11" * 16, record_mask="00" * 16), ()),
        (translation("3", "0x5010", "r", "ok", pa="0x80000010"), ()),
        (translation("4", "0x5010", "r", "bypass"), ()),
        (translation("4", "0x5010", "r", "ok", pa="0x5010", page_size="0x1000"), ()),
        (translation("128", "0x5000", "r", "fault", fault="0x0011"), ()),
    ],
)
def test_all_that_was_recorded_counts_and_nothing_else(
    tmp_path: Path, row: tuple[str, ...], differs: tuple[str, ...]
) -> None:
    result = replayed(write_capture(tmp_path / "toy", [row]))

    assert [mismatch.differs for mismatch in result.mismatches] == ([differs] if differs else [])
    assert result.agreed is not bool(differs)


def test_a_number_is_compared_as_one_and_a_name_as_one() -> None:
    assert same_fault("0x6", "6")
    assert same_fault("F_PERMISSION", "F_PERMISSION")
    assert not same_fault("0x6", "0x60")
    assert not same_fault("F_PERMISSION", "f_permission")
    assert not same_fault("0x6", "F_PERMISSION")


def test_mismatches_are_explained_up_to_the_limit(tmp_path: Path) -> None:
    wrong = translation("3", "0x5010", "r", "ok", pa="0x1")

    result = replayed(write_capture(tmp_path / "toy", [wrong] * 5), limit=2)

    assert result.sections["translations"].disagreed == 5
    assert [mismatch.row.number for mismatch in result.mismatches] == [1, 2]
    assert result.mismatches[0].to_json()["walk"]["result"]["pa"] == "0x80000010"


def test_a_listed_departure_is_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = translation("3", "0x5010", "r", "ok", pa="0x1")
    folder = write_capture(tmp_path / "toy", [wrong, GOOD_ROWS[0], wrong])
    listed = Departures({("toy", "translations", 1): "rule 1", ("toy", "translations", 2): "rule 2"})
    monkeypatch.setattr(replay_module, "departures", lambda: listed)

    section = replayed(folder).sections["translations"]

    assert (section.rows, section.agreed, section.departures, section.disagreed) == (3, 1, 1, 1)


def test_rows_do_not_see_one_another_and_memory_stays_as_it_was(tmp_path: Path) -> None:
    capture = load(write_capture(tmp_path / "toy", [*GOOD_ROWS, *GOOD_ROWS]))
    machine = capture.machine(bind_plugin(ToyDriver()))
    [(start, last, _)] = machine.memory.engine.regions()
    before = machine.memory.read(start, last + 1 - start)

    assert replay(capture, machine, ["translations"]).agreed

    assert machine.memory.read(start, last + 1 - start) == before


def test_disputed_rows_are_shown_with_our_verdict_and_count_for_nothing(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "toy")
    row = (*translation("3", "0x5010", "w", "fault", fault="NO_EVENT"), "fault:PERMISSION", "who is right?")
    write_table(folder / "disputed.csv", [row], (*HEADER, "second_walker", "note"))

    result = replayed(folder)

    assert result.agreed
    [disputed] = result.to_json()["disputed"]
    assert (disputed["ours"]["fault"], disputed["recorded"]["fault"]) == ("PERMISSION", "NO_EVENT")
    assert (disputed["second_walker"], disputed["note"]) == ("fault:PERMISSION", "who is right?")


MUTATION_HEADER = ("structure", "entry", "qword", "bit", "rid", "iova", "access", "outcome", "pa", "record")


def test_a_mutation_holds_for_its_own_row_alone(tmp_path: Path) -> None:
    guest = toy_guest()
    entry = guest.map(0x6000, 0x8000_1000)
    device = guest.registers["TABLE"] + 16 * 3
    folder = write_capture(tmp_path / "toy", guest=guest)
    write_table(
        folder / "mutations.csv",
        [
            ("leaf", hex(entry), "0", str(PRESENT.bit_length() - 1), "3", "0x6000", "r", "fault", "", ""),
            ("leaf", hex(entry), "0", str(WRITE.bit_length() - 1), "3", "0x6000", "r", "ok", "0x80001000", ""),
            ("leaf", hex(entry), "0", "12", "3", "0x6000", "w", "ok", "0x80000000", ""),
            ("device", hex(device), "0", "0", "3", "0x6000", "r", "abort", "", ""),
            ("device", hex(device), "0", "1", "3", "0x6000", "r", "ok", "0x6000", ""),
            ("device", hex(device), "0", "63", "3", "0x6000", "r", "fault", "", ""),
            ("device", hex(device), "0", "50", "3", "0x6000", "r", "fault", "", ""),
            ("device", hex(device), "0", "50", "3", "0x6000", "r", "fault", "", "00" * 16),
            ("device", hex(device), "0", "50", "3", "0x6000", "r", "ok", "0x80001000", ""),
        ],
        MUTATION_HEADER,
    )

    result = replayed(folder, ["mutations", "translations"])

    assert result.sections["mutations"].to_json() == {"rows": 8, "agreed": 6, "departures": 0, "unjudged": 1}
    mismatch, no_hole_is_mapped = result.mismatches
    assert no_hole_is_mapped.row.number == 9
    assert isinstance(mismatch, Mismatch)
    assert mismatch.explanation is not None
    assert "reserved=0x8000000000000000" in str(mismatch.explanation)
    assert result.sections["translations"].disagreed == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [("0x77770000", "row 1: entry 0x77770000: this page was not captured"), ("0x4", "row 1: entry '0x4': it is not")],
)
def test_a_mutation_of_what_was_not_captured_is_an_error(tmp_path: Path, entry: str, message: str) -> None:
    folder = write_capture(tmp_path / "toy")
    write_table(folder / "mutations.csv", [("leaf", entry, "0", "0", "3", "0", "r", "fault", "", "")], MUTATION_HEADER)

    with pytest.raises(CaptureError, match=message):
        replayed(folder, ["mutations"])


def test_a_requester_that_the_hardware_cannot_name_is_an_error_of_the_row(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "toy", [GOOD_ROWS[0], translation("0x100", "0", "r", "abort")])

    with pytest.raises(CaptureError, match=r"translations\.csv: row 2: rid '0x100': it is above 0xff"):
        replayed(folder)


def test_rows_with_and_without_a_pasid_share_a_table(tmp_path: Path) -> None:
    with_pasid = translation("3", "0x5010", "r", "ok", pa="0x80000010", pasid="0x0")

    assert replayed(write_capture(tmp_path / "toy", [GOOD_ROWS[0], with_pasid])).agreed


def test_progress_is_told_until_every_row_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "CHUNK", 3)
    capture = load(write_capture(tmp_path / "toy"))
    told: list[int] = []

    result = replay(capture, capture.machine(bind_plugin(ToyDriver())), progress=told.append)

    assert result.agreed
    assert told == [3, 3, 1]


def test_a_bypass_whose_address_was_not_recorded_is_held_to_its_iova() -> None:
    from viommu.captures.rows import Asked  # noqa: PLC0415
    from viommu.faults import Access  # noqa: PLC0415

    row = RecordedRow(1, Asked(1, None, 0x5000, Access.READ), Verdict("bypass"))

    assert differences(row, Verdict("bypass", 0x5000, 0)) == ()
    assert differences(row, Verdict("bypass", 0x6000, 0)) == ("pa",)
