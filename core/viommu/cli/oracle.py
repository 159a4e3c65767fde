"""``viommu oracle``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import define, field, frozen
from rich.table import Table

from viommu.cli.output import console, print_table, write_json
from viommu.oracle.program import Captures, is_program, replay_program
from viommu.oracle.recording import recordings_in
from viommu.oracle.replay import replay
from viommu.oracle.report import case_to_json, told_difference
from viommu.oracle.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from viommu.machine import Machine
    from viommu.oracle.comparison import Case
    from viommu.summary import Summary


@click.command(short_help="Compare our /dev/iommu with recordings of a real kernel's.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="PATH...")
@click.option(
    "--captures",
    "captures_at",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Captures of the machine that recorded programs ran on; else a folder of that name beside the recordings'.",
)
@click.option("--summary", is_flag=True, help="Say also what happened on the machine of a recorded program.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def oracle(paths: Sequence[Path], captures_at: Path | None, summary: bool, as_json: bool) -> int:
    """Make every recorded call anew, and compare what it returns and writes: exit 0 if all agree, 1 if not.

    PATH is a recording (.jsonl, .jsonl.gz) or a folder of them. Each test begins with a fresh machine. Calls are made
    in the recorded order; a recorded answer is read after ours. Object ids are equal; fds and user addresses are
    those of the recorded processes.

    A recording of the selftests' kind needs nothing else. One of a program that drove real hardware (each line has a
    type) needs captures of it, taken while it ran: they tell of its hardware, and of the tables that the program built.
    Each scenario is a case then. Its DMAs are made anew too, and its event queues read, wherever a capture has the
    tables that were in force; so are the DMAs that a capture's recorder made.
    """
    replays = [_replayed(path, captures_at) for path in recordings_in(paths)]
    cases = [case for found in replays for case in found.cases]
    summaries = [found.machine.summary() for found in replays if summary and found.machine is not None]
    agreed = all(case.agrees for case in cases)
    if as_json:
        told = {"summaries": [one.to_json() for one in summaries]} if summary else {}
        write_json({"cases": [case_to_json(case) for case in cases], "agreed": agreed, **told})
    else:
        _print(console(), cases, summaries)
    return 0 if agreed else 1


@frozen
class _Replayed:
    """The cases of one recording, and the machine, if there is one that belongs to the recording."""

    cases: Sequence[Case]
    machine: Machine | None = None


def _replayed(path: Path, captures_at: Path | None) -> _Replayed:
    if not is_program(path):
        return _Replayed(list(replay(path, Subject)))
    folders = [path.resolve().parent / "captures", path.resolve().parent.parent / "captures"]
    beside = next((folder for folder in folders if folder.is_dir()), folders[0])
    found = replay_program(path, Captures.at(captures_at or beside))
    return _Replayed(found.cases, found.machine)


@define
class _Group:
    """Cases whose names begin alike."""

    name: str
    count: Counter[str] = field(factory=Counter)

    def add(self, case: Case) -> None:
        """Count a case and its calls."""
        self.count["cases"] += case.judged
        self.count["cases agreed"] += case.judged and case.agrees
        self.count["calls"] += case.calls
        self.count["calls agreed"] += case.agreed


def _groups(cases: Iterable[Case]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for case in cases:
        name = case.group
        groups.setdefault(name, _Group(name)).add(case)
    return list(groups.values())


def _print(out: Console, cases: Sequence[Case], summaries: Sequence[Summary]) -> None:
    groups = _groups(cases)
    total = _Group("all")
    for case in cases:
        total.add(case)
    print_table(out, _table([*groups, total]))
    untold = [case.name for case in cases if case.judged and not case.calls]
    if untold:
        out.print(f"\n{len(untold)} of the cases show no call that could be made anew: {', '.join(untold)}")
    unjudged = [f"{case.name} ({case.unjudged})" for case in cases if case.unjudged]
    if unjudged:
        count = sum(case.unjudged for case in cases)
        out.print(f"\n{count} calls are not judged, no capture tells what to expect of them: {', '.join(unjudged)}")
    for case in cases:
        for text in case.assumed:
            out.print(f"\n{case.name}: agrees if {text}, which no record shows")
        if case.first is not None:
            out.print(f"\n{case.name}", style="bold red")
            for line in told_difference(case.first):
                out.print(f"  {line}")
    for summary in summaries:
        out.print(f"\n{summary}")


def _table(groups: Sequence[_Group]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("group", no_wrap=True)
    columns = ("cases", "cases agreed", "calls", "calls agreed")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        agrees = group.count["calls"] == group.count["calls agreed"]
        table.add_row(group.name, *(str(group.count[name]) for name in columns), style=None if agrees else "red")
    return table
