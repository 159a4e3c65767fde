"""Put known bugs into copies of the built-in drivers, one at a time, and tell which the conformance kit finds.

``python tools/kill_mutants.py [ID...] [--effort N] [--write]``. The bugs are those of tests/testing/mutants.toml. With
``--write`` what came of them is kept, for the table in docs/conformance.md (tools/conformance_pages.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "testing" / "mutants.toml"
FOUND = ROOT / "tests" / "testing" / "mutants_found.json"
"""What came of each when it was last run."""
SECONDS = 600
"""After which a bug has made the kit hang, which is finding it."""

ASK = """
import json, sys
from viommu.testing import Options, Subject, conform
name, effort = sys.argv[1], float(sys.argv[2])
for share in (0.1, 1.0):
    for verdict in conform(Subject.of(name), Options(effort=effort * share, shrink=False)):
        if verdict.outcome.value == "failed":
            print(json.dumps({"rule": verdict.rule.id, "reason": verdict.reason}))
            sys.exit()
"""
"""Run in a process of its own, in which the changed copy is what is imported. Most bugs take little effort."""


@frozen
class Mutant:
    """One bug: where it is in which driver, and what it means."""

    id: str
    driver: str
    area: str
    meaning: str
    path: str
    old: str
    new: str

    @property
    def module(self) -> str:
        """The driver's package."""
        return f"viommu_{self.driver}"

    @property
    def package(self) -> Path:
        """Where that is."""
        return ROOT / "plugins" / self.driver / "src" / self.module

    def put_into(self, folder: Path) -> None:
        """Copy the driver, with the bug. Raises ValueError where the driver has changed."""
        shutil.copytree(self.package, folder / self.module, ignore=shutil.ignore_patterns("__pycache__"))
        target = folder / self.module / self.path
        text = target.read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.id}: {self.path} has its text {text.count(self.old)} times, not once: mend the list"
            )
        target.write_text(text.replace(self.old, self.new))


@frozen
class Found:
    """What came of one: the rule that finds it, or none."""

    id: str
    rule: str
    reason: str


def listed() -> list[Mutant]:
    """Read the list."""
    return [Mutant(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"]]


def ask(mutant: Mutant, effort: float) -> Found:
    """Run the kit on one."""
    with tempfile.TemporaryDirectory() as folder:
        mutant.put_into(Path(folder))
        environment = {**os.environ, "PYTHONPATH": folder}
        command = [sys.executable, "-c", ASK, mutant.driver, str(effort)]
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter
                command, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Found(mutant.id, "hangs", f"no verdict within {SECONDS} seconds")
    if done.returncode:
        return Found(mutant.id, "crashes", done.stderr.strip().splitlines()[-1][:200])
    found = json.loads(done.stdout) if done.stdout.strip() else {"rule": "", "reason": ""}
    return Found(mutant.id, found["rule"], " ".join(found["reason"].split())[:200])


def run(wanted: list[str], effort: float) -> Iterator[tuple[Mutant, Found, float]]:
    """Try the wanted ones, or all."""
    for mutant in listed():
        if not wanted or mutant.id in wanted:
            began = time.monotonic()
            yield mutant, ask(mutant, effort), time.monotonic() - began


def _keep(found: Found) -> None:
    rows = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    rows[found.id] = {"rule": found.rule, "reason": found.reason}
    FOUND.write_text(
        json.dumps({mutant.id: rows[mutant.id] for mutant in listed() if mutant.id in rows}, indent=2) + "\n"
    )


def main(arguments: list[str]) -> int:
    """Print a row for each; give 1 where more than two escape."""
    effort = float(arguments[arguments.index("--effort") + 1]) if "--effort" in arguments else 1.0
    wanted = [argument for argument in arguments if argument[0] in "VSA"]
    results: list[Found] = []
    for mutant, found, seconds in run(wanted, effort):
        print(
            f"{mutant.id}  {found.rule or 'ESCAPED':8}  {mutant.meaning}  ({seconds:.0f} s) {found.reason}", flush=True
        )
        results.append(found)
        if "--write" in arguments:
            _keep(found)
    caught = sum(bool(found.rule) for found in results)
    print(f"{caught} of {len(results)} found")
    return int(caught < len(results) - 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
