"""``viommu oracle``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import define, field
from rich.table import Table

from viommu.captures.capture import load
from viommu.cli.output import console, print_table, write_json
from viommu.oracle.program import replay_program
from viommu.oracle.recording import recordings_in
from viommu.oracle.replay import replay
from viommu.oracle.report import case_to_json, told_difference
from viommu.oracle.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from viommu.captures.capture import Capture
    from viommu.oracle.comparison import Case


@click.command(short_help="Compare our /dev/iommu with recordings of a real kernel's.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="PATH...")
@click.option(
    "--machine",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="CAPTURE",
    help="The recordings are of programs on real hardware: replay them on a machine like this capture's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def oracle(paths: Sequence[Path], machine: Path | None, as_json: bool) -> int:
    """Make every recorded call anew, and compare what it returns and writes: exit 0 if all agree, 1 if not.

    PATH is a recording (.jsonl, .jsonl.gz) or a folder of them. Each test begins with a fresh machine. Calls are made
    in the recorded order; a recorded answer is read after ours. Object ids are equal; fds and user addresses are
    those of the recorded processes.

    A recording of the selftests' kind needs nothing else. One of a program that drove real hardware (each line has a
    type) needs a capture, which tells of its hardware; then each scenario is a case, and ioctls are compared alone.
    """
    capture = None if machine is None else load(machine)
    cases = [case for path in recordings_in(paths) for case in _replayed(path, capture)]
    agreed = all(case.agrees for case in cases)
    if as_json:
        write_json({"cases": [case_to_json(case) for case in cases], "agreed": agreed})
    else:
        _print(console(), cases)
    return 0 if agreed else 1


def _replayed(path: Path, capture: Capture | None) -> Iterable[Case]:
    return replay(path, Subject) if capture is None else replay_program(path, capture)


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


def _print(out: Console, cases: Sequence[Case]) -> None:
    groups = _groups(cases)
    total = _Group("all")
    for case in cases:
        total.add(case)
    print_table(out, _table([*groups, total]))
    untold = [case.name for case in cases if case.judged and not case.calls]
    if untold:
        out.print(f"\n{len(untold)} of the cases show no call that could be made anew: {', '.join(untold)}")
    for case in cases:
        for text in case.assumed:
            out.print(f"\n{case.name}: agrees if {text}, which no record shows")
        if case.first is not None:
            out.print(f"\n{case.name}", style="bold red")
            for line in told_difference(case.first):
                out.print(f"  {line}")


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
