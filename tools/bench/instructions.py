"""Instructions of one operation, counted by callgrind, and held against a stored baseline.

``python -m tools.bench.instructions PROGRAM BASELINE [--update]``: exits with 1 where a path takes notably more
instructions than the baseline says. The baseline is of one compiler: after a change of either it is made anew.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path as File

TOLERANCE = 1.05
"""Counts hardly vary; compilers' minor releases do."""
COUNTED = (
    ("hits, 1k pages", "scalar hit, C++"),
    ("hits, 1k pages", "batch of hits, C++"),
    ("cold, 16k pages", "cold batch, C++"),
    ("nested, 16k pages", "nested cold batch, C++"),
)
COLLECTED = re.compile(r"Collected : (\d+)")


def count(program: File, group: str, path: str) -> float | None:
    """Count the instructions of one operation; None without valgrind, or where the program has no such path.

    Making the tables is much of a run: what is counted is what a longer run has more than a shorter one.
    """
    if shutil.which("valgrind") is None:
        return None
    runs = [_run(program, group, path, times) for times in (1, 3)]
    if None in runs:
        return None
    (few, few_operations), (many, many_operations) = (run for run in runs if run is not None)
    return (many - few) / (many_operations - few_operations)


def _run(program: File, group: str, path: str, times: int) -> tuple[int, int] | None:
    """Give the instructions and the operations of one run."""
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(  # noqa: S603 # ours
        [*callgrind, program, group, path, str(times)], capture_output=True, text=True, check=False
    )
    collected = COLLECTED.search(done.stderr)
    if done.returncode or collected is None:
        return None
    return int(collected[1]), int(done.stdout)


def main(arguments: list[str]) -> int:
    """Compare with the baseline, or write it."""
    parser = argparse.ArgumentParser(prog="tools.bench.instructions", description=__doc__)
    parser.add_argument("program", type=File)
    parser.add_argument("baseline", type=File)
    parser.add_argument("--update", action="store_true", help="write the baseline instead")
    asked = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("no valgrind, so no instructions are counted")
        return 0
    found = {path: count(asked.program, group, path) for group, path in COUNTED}
    if asked.update:
        asked.baseline.write_text(json.dumps({path: round(n, 1) for path, n in found.items() if n}, indent=1) + "\n")
        return 0
    return _compared(found, json.loads(asked.baseline.read_text()))


def _compared(found: dict[str, float | None], baseline: dict[str, float]) -> int:
    worse = False
    for path, before in baseline.items():
        now = found.get(path)
        if now is None:
            print(f"{path}: was not counted; the baseline has {before:.1f} instructions")
            worse = True
            continue
        grown = now > before * TOLERANCE
        worse |= grown
        print(f"{path}: {now:.1f} instructions, baseline {before:.1f}{': more than 5 % above it' if grown else ''}")
    return int(worse)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
