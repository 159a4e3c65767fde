"""Run the engine's benchmarks: `bench.py FOLDER [JSON]`.

A benchmark is a program that prints rows, one JSON object a line: ``{"path": what was measured, "ns": {"median": ...,
"min": ..., "max": ...}, "ratios": {path it is compared with: median of the rounds' ratios}}``, in nanoseconds for one
operation. They are printed as one table, and written to JSON as ``{"rows": [...]}``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
STATISTICS = ("median", "min", "max")


def rows_of(program: Path) -> list[Row]:
    """Run one benchmark; what it says on standard error goes to the terminal."""
    output = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 # ours
    return [json.loads(line) for line in output.splitlines()]


def table_of(rows: list[Row]) -> Table:
    """Lay the rows out for a person."""
    table = Table("path", *(f"ns, {statistic}" for statistic in STATISTICS), "ratio")
    for row in rows:
        ratios = (f"{ratio:.2f} x {path}" for path, ratio in row["ratios"].items())
        table.add_row(row["path"], *(f"{row['ns'][statistic]:.1f}" for statistic in STATISTICS), "\n".join(ratios))
    return table


def main(folder: str, report: str | None = None) -> None:
    """Run every program of a folder in the order of their names."""
    programs = (path for path in sorted(Path(folder).glob("*")) if path.is_file() and os.access(path, os.X_OK))
    rows = [row for program in programs for row in rows_of(program)]
    Console().print(table_of(rows))
    if report:
        Path(report).write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
