from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.core.captured import GOOD_ROWS, HEADER, RECORDINGS, translation, write_capture, write_table
from tests.core.talking_toy import TalkingToy
from viommu.replay.run import SECTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from tests.cli.conftest import Run
    from tests.core.installed import Shelf

WRONG = translation("3", "0x5010", "r", "ok", pa="0x1", page_size="0x1000")


def without_speed(text: str) -> str:
    """Replace rates, which no two runs share."""
    return re.sub(r"( +)[\d,]+$", lambda found: found[1] + "(rate)", text, flags=re.MULTILINE)


def test_captures_that_agree_are_told_in_one_table(run: Run, toy: Path, snapshot: SnapshotAssertion) -> None:
    write_capture(toy.with_name("toy2"))

    code, out, err = run("replay", toy.parent)

    assert (code, err) == (0, "")
    assert re.sub(r" +\(rate\)", " (rate)", without_speed(out)) == snapshot


def test_a_disagreement_is_explained_and_ends_with_1(run: Run, toy: Path, snapshot: SnapshotAssertion) -> None:
    write_table(toy / "translations.csv", [*GOOD_ROWS[:4], WRONG, WRONG, WRONG])

    code, out, err = run("replay", toy, "--limit-mismatches", 1)

    assert (code, err) == (1, "")
    assert re.sub(r" +\(rate\)", " (rate)", without_speed(out)) == snapshot


def test_disputed_rows_are_shown_beside_our_verdict(run: Run, toy: Path, snapshot: SnapshotAssertion) -> None:
    row = (*translation("3", "0x5010", "w", "ok", pa="0x80000010", pasid="2"), "fault:PERMISSION", "who is right?")
    write_table(toy / "disputed.csv", [row], (*HEADER, "second_walker", "note"))

    code, out, _ = run("replay", toy)

    assert code == 0
    assert re.sub(r" +\(rate\)", " (rate)", without_speed(out)) == snapshot


def test_the_json_is_what_scripts_were_promised(run: Run, toy: Path) -> None:
    write_table(toy / "translations.csv", [*GOOD_ROWS[:6], WRONG])

    code, out, _ = run("replay", toy, "--json")

    found = json.loads(out)
    assert (code, found["agreed"]) == (1, False)
    [capture] = found["captures"]
    assert (capture["name"], capture["driver"]) == ("toy", "toy")
    assert capture["translations"] == {"rows": 7, "agreed": 6, "departures": 0}
    assert isinstance(capture["seconds"], float)
    [mismatch] = capture["mismatches"]
    assert (mismatch["row"], mismatch["differs"]) == (7, ["pa"])
    assert (mismatch["recorded"]["pa"], mismatch["ours"]["pa"]) == ("0x1", "0x80000010")
    assert mismatch["walk"]["result"]["pa"] == "0x80000010"


def test_sections_are_replayed_on_request(run: Run, toy: Path) -> None:
    code, out, _ = run("replay", toy, "--json", "--section", "mutations", "--section", "translations")

    [capture] = json.loads(out)["captures"]
    assert code == 0
    assert capture["mutations"] == {"rows": 0, "agreed": 0, "departures": 0, "unjudged": 0}
    assert "commands" not in capture
    assert capture["translations"]["rows"] == len(GOOD_ROWS)


def test_every_section_of_a_capture_has_its_line(
    run: Run, toy: Path, shelf: Shelf, snapshot: SnapshotAssertion
) -> None:
    shelf.entries.clear()
    shelf.install("toy", TalkingToy())
    sync = "01" * 2 + "00" * 14
    write_table(
        toy / "commands.csv", [(sync, "wait", ""), (sync, "FLUSH", '{"op": "SYNC"}')], ("raw", "kind", "fields")
    )

    code, out, err = run("replay", toy)

    assert (code, err) == (1, "")
    assert re.sub(r" +\(rate\)", " (rate)", without_speed(out)) == snapshot


def test_what_could_not_be_compared_is_noted(run: Run, toy: Path) -> None:
    write_table(toy / "commands.csv", [("01" * 16, "wait")], ("raw", "kind"))

    code, out, _ = run("replay", toy)

    assert code == 0
    assert "toy: commands are not decoded: driver toy does not explain the kind command" in out


def test_a_table_that_lost_rows_is_bad_input(run: Run, toy: Path) -> None:
    path = toy / "translations.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))

    code, out, err = run("replay", toy)

    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "translations.csv: rows 0x2: the manifest says 7" in err


def test_an_unknown_driver_is_told_before_anything_is_replayed(run: Run, toy: Path) -> None:
    write_capture(toy.with_name("zebra"), driver="riscv")

    code, out, err = run("replay", toy.parent)

    assert (code, out) == (2, "")
    assert err == "viommu: no driver named 'riscv' is installed (installed: toy)\n"


def test_a_bad_row_is_told_with_file_field_value_and_bound(run: Run, toy: Path) -> None:
    write_table(toy / "translations.csv", [GOOD_ROWS[0], translation("0x12345", "0", "r", "abort")])

    assert run("replay", toy, "--json") == (
        2,
        "",
        "viommu: toy/translations.csv: row 2: rid '0x12345': it is above 0xff\n",
    )


def test_a_path_without_a_capture_is_told(run: Run, toy: Path) -> None:
    assert run("replay", toy, "nowhere") == (2, "", "viommu: nowhere: file: No such file or directory\n")


def test_recordings_of_every_family_agree(run: Run) -> None:
    families = ("vtd-scalable-fs", "amd-v1", "smmuv3-nested-64k-42")

    code, out, _ = run("replay", *(RECORDINGS / name for name in families), "--json")

    found = json.loads(out)
    assert code == 0
    for capture in found["captures"]:
        for name in SECTIONS:
            section = capture[name]
            assert section["rows"] == section["agreed"] + section["departures"]
