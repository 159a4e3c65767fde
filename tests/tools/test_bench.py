"""Goals and how a run is judged by them; nothing is measured here but paths made up for it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tools.bench import goals, tables
from tools.bench.__main__ import Bench, main
from tools.bench.goals import Goal, Limit, verdict
from tools.bench.page import BEGIN, END, page_with
from tools.bench.paths import Here, Measured, Path, Program, groups_of, measure
from tools.bench.report import Row, table_of
from tools.bench.tables import DATA, IPA, PAGE, RAM, RANGE, Tables

if TYPE_CHECKING:
    import pathlib

TWICE = Limit.of({"peer": "bare", "at_most": 2, "aim": 1.5})
AHEAD = Limit.of({"peer": ["slow", "slower"], "at_least": 10, "aim": 20})
FOUND = {
    "ours": Measured([3.0, 2.0, 4.0]),
    "bare": Measured([2.0]),
    "slow": Measured([40.0]),
    "slower": Measured([90.0]),
}


def row(*limits: Limit, path: str = "ours", **figures: float) -> Row:
    return Row.of(Goal("G0", "group", path, limits), FOUND, figures)


def test_every_goal_of_the_table_reads_and_names_what_it_bounds() -> None:
    for goal in goals.load():
        assert goal.limits
        for limit in goal.limits:
            assert (limit.figure is None) == bool(limit.peers)
            assert limit.must is None or limit.aim is not None


def test_no_goal_is_stated_twice() -> None:
    stated = [(goal.goal, goal.group, goal.path) for goal in goals.load()]
    assert len(set(stated)) == len(stated)


@pytest.mark.parametrize("number", range(1, 13))
def test_every_goal_has_a_row(number: int) -> None:
    assert any(goal.goal.rstrip("abcd") == f"G{number}" for goal in goals.load())


def test_an_upper_bound_is_on_how_often_the_peers_time_goes_into_ours() -> None:
    assert row(TWICE).values == [1.5]
    assert row(TWICE).met


def test_a_lower_bound_is_on_how_far_the_fastest_peer_is_behind() -> None:
    assert row(AHEAD).values == [pytest.approx(40 / 3)]
    assert row(AHEAD).met
    assert row(AHEAD).as_json()["aim_met"] is False


def test_a_figure_is_the_path_itself_or_what_another_tool_counted() -> None:
    assert row(Limit.of({"figure": "ns", "at_most": 3, "aim": 1})).values == [3.0]
    counted = Limit.of({"figure": "instructions", "at_most": 100, "aim": 90})
    assert row(counted, instructions=95).values == [95]
    assert row(counted).met is None


def test_a_peer_that_is_absent_leaves_a_goal_open_unless_another_limit_fails() -> None:
    absent = Limit.of({"peer": "nobody", "at_most": 1, "aim": 1})
    assert row(TWICE, absent).met is None
    assert row(Limit.of({"peer": "bare", "at_most": 1, "aim": 1}), absent).met is False


def test_a_peer_without_a_bound_is_only_shown() -> None:
    shown = row(TWICE, Limit.of({"peer": "slow"}))
    assert shown.values[1] == pytest.approx(40 / 3)
    assert shown.met


def test_a_path_that_is_absent_is_reported_as_not_measured() -> None:
    absent = row(TWICE, path="nowhere")
    assert absent.met is None
    assert absent.as_json()["ns"] == {"median": None, "min": None, "max": None}
    assert table_of([absent]).row_count == 1


def test_the_report_says_median_and_extremes() -> None:
    said = json.loads(json.dumps(row(TWICE).as_json()))
    assert said["ns"] == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert said["ratios"] == {"bare": 1.5}
    assert said["met"] is True


def test_one_failure_decides_and_one_gap_leaves_open() -> None:
    assert verdict([True, True])
    assert verdict([True, None]) is None
    assert verdict([None, False]) is False


def test_the_first_round_warms_up_and_every_path_runs_once_a_round() -> None:
    calls: list[str] = []

    def run(name: str) -> int:
        calls.append(name)
        return 1

    found = measure([Here([Path(name, partial(run, name)) for name in ("a", "b")])], 3)
    assert len(found["a"].ns) == 3
    # Each is preceded by a run that is not measured, and none always follows the same one.
    assert calls == ["a", "a", "b", "b", "b", "b", "a", "a"] * 2


def test_a_program_answers_each_line_with_a_round(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "program"
    file.write_text(
        '#!/bin/sh\n[ $# -gt 0 ] || { echo "a group"; exit; }\nwhile read -r _; do echo \'{"path": 2.5}\'; done\n'
    )
    file.chmod(0o755)
    assert groups_of(file) == ["a group"]
    with Program(file, "a group", "native: ") as program:
        assert program.round() == {"native: path": 2.5}


def test_a_program_that_dies_is_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "program"
    file.write_text("#!/bin/sh\nread -r _\n")
    file.chmod(0o755)
    with Program(file, "a group") as program, pytest.raises(RuntimeError, match="a group"):
        program.round()


def test_numpy_walks_find_each_page() -> None:
    made = Tables.roomy(4096, roots=4)
    first, second = made.take(1), made.take(1)
    made.map(second, 0, RAM, made.words.nbytes // PAGE)
    made.map(second, IPA, DATA, 700)
    made.map(first, RANGE, IPA, 700, shift=-RAM)
    iovas = tables.shuffled(RANGE, 700, 1000, 5000)
    assert np.array_equal(
        tables.walk_nested(made.words, first - RAM, second, iovas), iovas - np.uint64(RANGE) + np.uint64(DATA)
    )


def test_a_page_gets_the_table_of_a_run_and_keeps_all_else() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    said = page_with(page, [row(TWICE, AHEAD).as_json(), row(TWICE, path="nowhere").as_json()])
    assert said.startswith("before\n")
    assert said.endswith("after\n")
    assert "old" not in said
    assert "1.50 x bare" in said
    assert "not measured" in said


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places"):
        page_with("nothing", [])


def test_what_cannot_be_measured_is_told_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def group(_: Bench, name: str, peers: set[str]) -> dict[str, Measured]:
        if name == "room":
            raise RuntimeError("no room")
        return {peer: Measured([1.0]) for peer in (*peers, "hits, 1k pages, two threads")}

    monkeypatch.setattr(Bench, "group", group)
    report = tmp_path / "rows.json"
    main([str(tmp_path), "--only", "r", "--json", str(report)])
    met = {said["path"]: said["met"] for said in json.loads(report.read_text())["rows"]}
    assert met["IOTLB slot (room)"] is None
    assert met["hits, 1k pages, two threads (threads)"] is True
    assert "no room" in capsys.readouterr().err
