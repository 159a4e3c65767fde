"""A rule excuses what it is about, where our outcome is the architecture's, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from tests.core.captured import toy_guest, write_capture, write_table
from tests.core.toy import WRITE, ToyDriver
from viommu.captures.capture import load
from viommu.captures.rows import Asked, MutatedRow, RecordedRow, Verdict
from viommu.drivers import bind_plugin
from viommu.errors import BadValue
from viommu.faults import Access, FaultKind
from viommu.hookspecs import Registers
from viommu.replay import run as replay_module
from viommu.replay.departure_rules import COLUMNS, Case, Rule
from viommu.replay.departures import Departures, departures
from viommu.replay.run import SECTIONS, replay
from viommu.replay.verdicts import OurVerdict

if TYPE_CHECKING:
    from pathlib import Path


def rule(**changes: str) -> Rule:
    cells = dict.fromkeys(COLUMNS, "")
    cells |= {
        "driver": "toy",
        "section": "mutations",
        "structure": "leaf",
        "bits": "1:0-2,5 0:3",
        "when": "CAP[3:2]=1 rid[7]=0 word[0]=1 access=w",
        "recorded": "ok",
        "ours": "fault 0x10 RESERVED",
        "specification": "toy 1.2: bits 2:0 are reserved",
    }
    return Rule.parse(cells | changes)


ROW = MutatedRow(9, Asked(3, None, 0x5000, Access.WRITE), Verdict("ok"), structure="leaf", qword=1, bit=5)
OURS = OurVerdict("fault", fault="16", kind=FaultKind.RESERVED)
CASE = Case("toy", Registers({"CAP": 0x4}), "mutations", ROW, OURS, word=0x21)


def test_a_rule_excuses_the_case_that_it_is_about() -> None:
    assert rule().excuses(CASE)


@pytest.mark.parametrize(
    "other",
    [
        evolve(CASE, driver="other"),
        evolve(CASE, section="translations"),
        evolve(CASE, registers=Registers({"CAP": 0x8})),
        evolve(CASE, registers=Registers()),
        evolve(CASE, word=0x20),
        evolve(CASE, word=None),
        evolve(CASE, row=evolve(ROW, structure="table")),
        evolve(CASE, row=evolve(ROW, bit=4)),
        evolve(CASE, row=evolve(ROW, qword=0)),
        evolve(CASE, row=evolve(ROW, recorded=Verdict("fault"))),
        evolve(CASE, row=evolve(ROW, asked=Asked(3, None, 0x5000, Access.READ))),
        evolve(CASE, row=evolve(ROW, asked=Asked(0x83, None, 0x5000, Access.WRITE))),
        evolve(CASE, row=RecordedRow(9, ROW.asked, ROW.recorded)),
    ],
)
def test_another_case_is_not_excused(other: Case) -> None:
    assert not rule().excuses(other)


@pytest.mark.parametrize(
    "ours",
    [
        OurVerdict("ok", pa=0x5000),
        evolve(OURS, outcome="abort"),
        evolve(OURS, fault="0x11"),
        evolve(OURS, kind=FaultKind.TRANSLATION),
    ],
)
def test_an_outcome_that_the_architecture_does_not_demand_is_not_excused(ours: OurVerdict) -> None:
    assert not rule().excuses(evolve(CASE, ours=ours))


def test_a_bit_without_meaning_excuses_what_would_have_been_without_it() -> None:
    without_meaning = rule(ours="unchanged", recorded="")
    same, other = OurVerdict("ok", 0x8000, 0x1000), OurVerdict("ok", 0x9000, 0x1000)

    assert without_meaning.excuses(evolve(CASE, ours=same, unmutated=lambda: same))
    assert not without_meaning.excuses(evolve(CASE, ours=other, unmutated=lambda: same))
    assert not without_meaning.excuses(evolve(CASE, ours=same))


def test_what_a_rule_leaves_out_does_not_matter() -> None:
    broad = rule(structure="", bits="", when="", recorded="", ours="fault 0x10")

    assert broad.excuses(CASE)
    assert broad.excuses(evolve(CASE, row=RecordedRow(9, ROW.asked, Verdict("fault"))))


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("bits", "1"),
        ("bits", "1:x"),
        ("bits", "1:3-"),
        ("when", "CAP=1"),
        ("when", "CAP[2:3]=1"),
        ("when", "access=w access=r"),
        ("when", "access=q"),
        ("recorded", "maybe"),
        ("ours", ""),
        ("ours", "fault"),
        ("ours", "fault 0x10 BAD"),
        ("specification", ""),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(column: str, text: str) -> None:
    with pytest.raises(BadValue, match=column if column != "when" else "when|access"):
        rule(**{column: text})


def test_the_lists_that_are_shipped_can_be_read() -> None:
    listed = departures()

    for (capture, section, row), reason in listed.rows.items():
        assert capture
        assert section in SECTIONS
        assert row > 0
        assert reason
    for layout in listed.layout_rules:
        assert layout.section in {"commands", "faults"}
        assert layout.structure
        assert layout.specification
    for known in listed.rules:
        assert known.section in SECTIONS
        assert known.bits


def test_a_row_that_a_rule_excuses_is_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = toy_guest()
    entry = guest.map(0x6000, 0x8000_1000)
    folder = write_capture(tmp_path / "toy", guest=guest)
    rows = [
        ("leaf", hex(entry), "0", "60", "3", "0x6000", "w", "fault", "", ""),
        ("leaf", hex(entry), "0", "12", "3", "0x6000", "w", "fault", "", ""),
        ("leaf", hex(entry), "0", str(WRITE.bit_length() - 1), "3", "0x6000", "w", "ok", "0x80001000", ""),
        ("leaf", hex(entry), "0", "0", "3", "0x6000", "w", "ok", "0x80001000", ""),
    ]
    header = ("structure", "entry", "qword", "bit", "rid", "iova", "access", "outcome", "pa", "record")
    write_table(folder / "mutations.csv", rows, header)
    known = (
        rule(bits="0:12,60", when="word[1]=1", recorded="fault", ours="unchanged"),
        rule(bits="0:0-1", when="access=w", ours="fault PERMISSION"),
    )
    monkeypatch.setattr(replay_module, "departures", lambda: Departures(rules=known))
    capture = load(folder)
    machine = capture.machine(bind_plugin(ToyDriver()))

    result = replay(capture, machine, ["mutations"])

    assert result.sections["mutations"].to_json() == {"rows": 4, "agreed": 0, "departures": 2, "unjudged": 0}
    assert [found.row.number for found in result.mismatches] == [2, 4]
    assert machine.memory.load(entry) == 0x8000_1003
