"""Write docs/conformance.md (the catalogue of rules, and which known bugs they find) and the score table of the README.

``python tools/conformance_pages.py`` writes both; the table needs a run of the kit on the three drivers, two minutes.
``--catalogue`` writes the page alone. Bugs are run by tools/kill_mutants.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.kill_mutants import FOUND, listed
from viommu.testing import Options, Subject, conform
from viommu.testing.catalogue import AREAS, rules
from viommu.testing.report import counted
from viommu.testing.runner import Outcome

if TYPE_CHECKING:
    from viommu.testing.rule import Rule

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "conformance.md"
README = ROOT / "README.md"
DRIVERS = ("smmuv3_cmdqv", "amd_viommu", "vtd")
BEGIN, END = "<!-- scores: written by tools/conformance_pages.py -->", "<!-- end of scores -->"

INTRODUCTION = Path(__file__).parent / "conformance_intro.md"


def catalogue() -> str:
    """Write the page."""
    lines = [INTRODUCTION.read_text(), "## Rules\n"]
    for area, title in AREAS.items():
        lines += [f"### {area}: {title}\n", "| rule | level | what it asks | source | needs |", "|---|---|---|---|---|"]
        lines += [_row(rule) for rule in rules([area])]
        lines.append("")
    return "\n".join([*lines, *_waived(), *_mutants()])


def _row(rule: Rule) -> str:
    needs = "; ".join(need.value for need in rule.needs)
    cells = (rule.id, rule.level.value, *map(_cell, (rule.text, rule.source, needs)))
    return f"| {' | '.join(cells)} |"


def _waived() -> list[str]:
    lines = ["## What the built-in drivers waive\n", "| driver | rule | reason |", "|---|---|---|"]
    for name in DRIVERS:
        kit = Subject.of(name).kit
        lines += [f"| {name} | {rule} | {_cell(reason)} |" for rule, reason in sorted(kit.waived.items())]
    return [*lines, ""]


def _mutants() -> list[str]:
    found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    caught = sum(bool(row["rule"]) for row in found.values())
    lines = [
        "## Bugs that it finds\n",
        "Thirty bugs (`tests/testing/mutants.toml`), written down before it was looked at which rules find them, are",
        "put one at a time into copies of the built-in drivers by `tools/kill_mutants.py`.",
        f"The kit finds {caught} of {len(found)}.\n",
        "| bug | driver | area | what is wrong | found by |",
        "|---|---|---|---|---|",
    ]
    for mutant in listed():
        by = found.get(mutant.id, {}).get("rule") or "**not found**"
        lines.append(f"| {mutant.id} | {mutant.driver} | {mutant.area} | {_cell(mutant.meaning)} | {by} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def scores(effort: float = 1.0) -> str:
    """Ask the three drivers, and write the table."""
    lines = [
        BEGIN,
        "| driver | rules kept | do not apply, with a reason | warnings | broken |",
        "|---|---|---|---|---|",
    ]
    for name in DRIVERS:
        sums = counted(list(conform(Subject.of(name), Options(effort=effort, shrink=False))))
        counts = [sums[outcome.value] for outcome in (Outcome.PASSED, Outcome.SKIPPED, Outcome.WARNED, Outcome.FAILED)]
        lines.append(f"| `{name}` | {' | '.join(map(str, counts))} |")
    return "\n".join([*lines, END])


def in_readme() -> str:
    """Give the table as the README has it. Raises ValueError where it has none."""
    text = README.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def main(arguments: list[str]) -> int:
    """Write what differs."""
    PAGE.write_text(catalogue())
    if "--catalogue" not in arguments:
        README.write_text(README.read_text().replace(in_readme(), scores()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
