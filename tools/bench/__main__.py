"""Measure every goal: ``python -m tools.bench PROGRAMS [--native PROGRAMS] [--json FILE] [--only TEXT]``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path as File
from typing import TYPE_CHECKING, cast

from attrs import frozen
from rich.console import Console

from tools.bench import (
    command_paths,
    device_paths,
    fault_paths,
    goals,
    guest_queue_paths,
    instructions,
    iommufd_paths,
    machine_paths,
    shim_paths,
    vcmdq_paths,
)
from tools.bench.paths import Here, Measured, Path, Program, Source, groups_of, measure
from tools.bench.python_paths import groups
from tools.bench.report import Row, table_of

if TYPE_CHECKING:
    from collections.abc import Callable

NATIVE = "native: "
MORE_ROUNDS = {"listeners": 31}
"""What is looked for is smaller than what most rounds differ by."""


def programs_in(folder: File | None) -> list[File]:
    """Give the programs that were built."""
    if folder is None:
        return []
    return [file for file in sorted(folder.glob("*")) if file.is_file() and os.access(file, os.X_OK)]


def fastcall_of(folder: File) -> Callable[[int, int, int], None] | None:
    """Load the function that does nothing, if it was built."""
    for file in folder.glob("python/fastcall*.so"):
        spec = spec_from_file_location("fastcall", file)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return cast("Callable[[int, int, int], None]", module.nothing)
    return None


def figures_of(goal: goals.Goal, programs: list[File]) -> dict[str, float]:
    """Count what no clock tells."""
    if not any(limit.figure == "instructions" for limit in goal.limits):
        return {}
    for program in programs:
        counted = instructions.count(program, goal.group, goal.path)
        if counted is not None:
            return {"instructions": counted}
    return {}


@frozen
class Bench:
    """Who measures."""

    programs: dict[File, list[str]]
    native: dict[File, list[str]]
    here: dict[str, Callable[[], list[Path]]]
    rounds: int

    def group(self, name: str, peers: set[str]) -> dict[str, Measured]:
        """Measure one group wherever it has paths; the native programs where a peer is one of theirs."""
        native = self.native if any(peer.startswith(NATIVE) for peer in peers) else {}
        with ExitStack() as running:
            sources: list[Source] = [
                running.enter_context(Program(file, name, prefix))
                for programs, prefix in ((self.programs, ""), (native, NATIVE))
                for file, groups_of_it in programs.items()
                if name in groups_of_it
            ]
            if name in self.here:
                sources.append(Here(self.here[name]()))
            return measure(sources, max(self.rounds, MORE_ROUNDS.get(name, 0)))


def main(arguments: list[str]) -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="tools.bench", description=__doc__)
    parser.add_argument("programs", type=File, help="the folder of the built programs")
    parser.add_argument("--native", type=File, help="the same, built for this machine alone")
    parser.add_argument("--json", type=File, help="where to write the rows")
    parser.add_argument("--only", default="", help="goals or groups that contain this")
    parser.add_argument("--rounds", type=int, default=13, help="how often each path is measured")
    asked = parser.parse_args(arguments)

    bench = Bench(
        {file: groups_of(file) for file in programs_in(asked.programs)},
        {file: groups_of(file) for file in programs_in(asked.native)},
        groups(fastcall_of(asked.programs))
        | machine_paths.groups()
        | command_paths.groups()
        | iommufd_paths.groups()
        | device_paths.groups()
        | fault_paths.groups()
        | guest_queue_paths.groups()
        | vcmdq_paths.groups()
        | shim_paths.groups(),
        asked.rounds,
    )
    console = Console(stderr=True)
    wanted = [goal for goal in goals.load() if asked.only in goal.goal or asked.only in goal.group]
    found: dict[str, dict[str, Measured]] = {}
    for group in dict.fromkeys(goal.group for goal in wanted):
        console.print(f"measuring: {group}", style="dim")
        of_group = [goal for goal in wanted if goal.group == group]
        peers = {peer for goal in of_group for limit in goal.limits for peer in limit.peers}
        try:
            found[group] = bench.group(group, peers)
        except Exception:  # noqa: BLE001 # what cannot be measured is told, and keeps nothing else from it
            found[group] = {}
            console.print_exception()
    rows = [Row.of(goal, found[goal.group], figures_of(goal, list(bench.programs))) for goal in wanted]
    Console(width=None if sys.stdout.isatty() else 180).print(table_of(rows))
    if asked.json:
        asked.json.write_text(json.dumps({"rows": [row.as_json() for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
