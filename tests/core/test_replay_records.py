"""Commands and fault records of captures: read, explained, and the same bytes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import viommu
from tests.core.captured import GOOD_ROWS, write_capture, write_table
from tests.core.talking_toy import Event, TalkingToy
from tests.core.toy import ToyDriver
from viommu.captures.capture import load
from viommu.drivers import bind_plugin
from viommu.errors import CaptureError
from viommu.replay import run as replay_module
from viommu.replay.departure_rules import LayoutRule
from viommu.replay.departures import Departures
from viommu.replay.described import Misread
from viommu.replay.run import replay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from viommu.hookspecs import Decoded
    from viommu.replay.comparison import Replay

SYNC = "0101000000000000" + "00" * 8
INVALIDATE = "0200000007000000" + "0050000000000000"
RECORD = "10500000000000000300000004000000"
"""What the toy records of a write to 0x5010 by device 3."""

COMMANDS = ("index", "address", "raw", "kind", "fields", "qemu")
FAULTS = ("source", "tables", "rid", "iova", "access", "fault", "raw", "mask", "fields")


def replayed(folder: Path, section: str, driver: object | None = None) -> Replay:
    capture = load(folder)
    return replay(capture, capture.machine(bind_plugin(driver or TalkingToy())), [section])


def commands(folder: Path, *rows: tuple[str, str, str]) -> Path:
    """Write a capture whose commands are (raw, kind, fields)."""
    write_capture(folder, counts={"translations": len(GOOD_ROWS), "commands": len(rows)})
    numbered = [(str(index), "", *row, "") for index, row in enumerate(rows)]
    write_table(folder / "commands.csv", numbered, COMMANDS)
    return folder


def faults(folder: Path, *rows: Sequence[str]) -> Path:
    """Write a capture whose fault records are (tables, iova, access, fault, raw, mask, fields), of device 3."""
    write_capture(folder, counts={"translations": len(GOOD_ROWS), "faults": len(rows)})
    write_table(folder / "faults.csv", [("probe", tables, "3", *rest) for tables, *rest in rows], FAULTS)
    return folder


@pytest.mark.parametrize(
    ("raw", "kind", "fields", "differs"),
    [
        (SYNC, "SYNC", "", None),
        (SYNC, "sync", '{"op": "SYNC", "signal": 1}', None),
        (SYNC, "wait", '{"signal": "0x1", "did": 0, "unheard of": 0}', None),
        (INVALIDATE, "invalidate-pages", '{"did": 7, "addr": "0x5000", "domain_id": 7}', None),
        (SYNC, "INVALIDATE_PAGES", "", "name"),
        (SYNC, "SYNC", '{"op": "INVALIDATE_PAGES"}', "field op"),
        (SYNC, "SYNC", '{"did": 7}', "field did"),
        (INVALIDATE, "", '{"did": 8}', "field did"),
        (INVALIDATE, "", '{"addr": "0x10000000005000"}', "field addr"),
        (INVALIDATE, "", '{"addr": -1}', "field addr"),
        (SYNC + "00" * 16, "SYNC", '{"signal": 0}', None),
        ("0101000000000001" + "00" * 8, "SYNC", '{"reserved_bit": 56}', None),
        ("0101000000000001" + "00" * 8, "SYNC", '{"reserved_bit": 57}', "field reserved_bit"),
        (SYNC, "SYNC", '{"reserved_bit": 0}', "field reserved_bit"),
        (SYNC + "00" * 8, "SYNC", "", "size"),
    ],
)
def test_a_command_is_what_the_recording_says_it_is(
    tmp_path: Path, raw: str, kind: str, fields: str, differs: str | None
) -> None:
    result = replayed(commands(tmp_path / "toy", (raw, kind, fields)), "commands")

    assert [found.differs for found in result.mismatches] == ([] if differs is None else [(differs,)])
    assert result.sections["commands"].to_json() == {"rows": 1, "agreed": int(differs is None), "departures": 0}


def test_a_misread_command_is_told_with_what_was_read(tmp_path: Path) -> None:
    result = replayed(commands(tmp_path / "toy", (SYNC, "SYNC", ""), (SYNC, "FLUSH", '{"signal": 2}')), "commands")

    [misread] = result.mismatches
    assert misread.to_json() == {
        "section": "commands",
        "row": 2,
        "differs": ["name", "field signal"],
        "recorded": {"name": "FLUSH", "raw": SYNC, "fields": {"signal": 2}},
        "ours": {"name": "SYNC", "raw": SYNC, "descriptor": "Sync(Opcode=Op.SYNC, Signal=1)"},
    }


class Forgetful(TalkingToy):
    @viommu.hookimpl
    def viommu_decode(self, kind: str, raw: bytes) -> Decoded:
        return super().viommu_decode(kind, raw[:4] + bytes(len(raw) - 4))


def test_an_explanation_that_loses_bytes_is_a_disagreement(tmp_path: Path) -> None:
    result = replayed(commands(tmp_path / "toy", (INVALIDATE, "", ""), (SYNC, "", "")), "commands", Forgetful())

    assert [found.differs for found in result.mismatches] == [("bytes",)]
    assert result.sections["commands"].agreed == 1


def test_a_listed_command_is_a_departure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Departures({("toy", "commands", 1): "a flush is no sync"})
    monkeypatch.setattr(replay_module, "departures", lambda: listed)

    result = replayed(commands(tmp_path / "toy", (SYNC, "FLUSH", "")), "commands")

    assert result.sections["commands"].to_json() == {"rows": 1, "agreed": 0, "departures": 1}


@pytest.mark.parametrize(
    ("raw", "fields", "departures"),
    [
        (SYNC, '{"leaf": 1}', 1),
        (SYNC, '{"leaf": 1, "signal": 2}', 0),
        (SYNC, '{"other": 1}', 0),
        (INVALIDATE, '{"leaf": 1}', 0),
    ],
)
def test_a_field_that_a_command_does_not_have_is_a_departure_by_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: str, fields: str, departures: int
) -> None:
    rule = LayoutRule("toy", "commands", "SYNC", "leaf", "a sync has no leaf")
    monkeypatch.setattr(replay_module, "departures", lambda: Departures(layout_rules=(rule,)))

    result = replayed(commands(tmp_path / "toy", (raw, "", fields)), "commands")

    assert result.sections["commands"].to_json() == {"rows": 1, "agreed": 0, "departures": departures}


@pytest.mark.parametrize("section", ["commands", "faults"])
def test_a_driver_that_explains_nothing_is_named_in_a_note(tmp_path: Path, section: str) -> None:
    folder = commands(tmp_path / "toy", (SYNC, "SYNC", ""))
    row = ("probe", "history", "3", "0x5010", "w", "", RECORD, "", "")
    write_table(folder / "faults.csv", [row], FAULTS)

    result = replayed(folder, section, ToyDriver())

    assert result.sections[section].rows == 0
    assert len(result.notes) == 1
    assert result.to_json()["notes"] == result.notes
    assert f"{section} are not decoded: driver toy" in result.notes[0]


def test_nothing_is_noted_where_there_was_nothing_to_explain(tmp_path: Path) -> None:
    assert replayed(write_capture(tmp_path / "toy"), "commands", ToyDriver()).notes == []


@pytest.mark.parametrize("fields", ["[1]", "{", '{"op": 1.5}', '{"op": true}', '{"op": null}', "[" * 20000])
def test_fields_that_are_none_are_errors_of_the_row(tmp_path: Path, fields: str) -> None:
    folder = commands(tmp_path / "toy", (SYNC, "SYNC", fields))

    with pytest.raises(CaptureError, match=r"commands\.csv: row 1: fields "):
        replayed(folder, "commands")


def test_a_command_without_bytes_is_an_error_of_the_row(tmp_path: Path) -> None:
    folder = commands(tmp_path / "toy", ("", "SYNC", ""))

    with pytest.raises(CaptureError, match=r"commands\.csv: row 1: raw '': bytes in hexadecimal are needed here"):
        replayed(folder, "commands")


ALL = "ff" * 16
NOT_THE_CODE = "ff" * 12 + "00" * 4


def test_records_are_read_and_those_of_these_tables_are_written_again(tmp_path: Path) -> None:
    other = Event(InputAddr=1, RID=3, Code=2).encode().hex()
    folder = faults(
        tmp_path / "toy",
        ("in-force", "0x5010", "w", "PERMISSION", RECORD, ALL, '{"addr": "0x5010", "rid": 3, "type": "PERMISSION"}'),
        ("history", "0x1", "w", "INPUT_SIZE", other, ALL, ""),
        ("history", "", "", "2", other, ALL, ""),
        ("in-force", "0x5010", "w", "", RECORD[:-8] + "05000000", NOT_THE_CODE, '{"type": 99}'),
        ("history", "0x1", "w", "TRANSLATION", other, ALL, ""),
        ("history", "0x1", "w", "", other, ALL, '{"rid": 4}'),
        ("history", "0x1", "w", "", other + "00", ALL + "ff", ""),
        ("in-force", "0x5010", "w", "", other, ALL, ""),
    )

    result = replayed(folder, "faults")

    assert result.sections["faults"].to_json() == {"rows": 8, "agreed": 4, "departures": 0}
    assert [(found.row.number, found.differs) for found in result.mismatches] == [
        (5, ("name",)),
        (6, ("field rid",)),
        (7, ("size",)),
        (8, ("record",)),
    ]
    assert [isinstance(found, Misread) for found in result.mismatches] == [True, True, True, False]


def test_without_explanations_the_records_of_these_tables_are_written_all_the_same(tmp_path: Path) -> None:
    folder = faults(
        tmp_path / "toy",
        ("in-force", "0x5010", "w", "PERMISSION", RECORD, ALL, ""),
        ("history", "0x1", "w", "GONE", "00" * 16, ALL, ""),
        ("in-force", "0x5010", "w", "", "ff" * 16, ALL, ""),
    )

    result = replayed(folder, "faults", ToyDriver())

    assert result.sections["faults"].to_json() == {"rows": 2, "agreed": 1, "departures": 0}
    assert [(found.row.number, found.differs) for found in result.mismatches] == [(3, ("record",))]
    assert len(result.notes) == 1
