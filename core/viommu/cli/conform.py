"""``viommu conform``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from viommu.cli.output import console, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from viommu.testing.runner import Verdict

STYLES = {"passed": "green", "skipped": "dim", "warned": "yellow", "failed": "red"}


@click.command(short_help="Ask a driver everything that it owes.")
@click.argument("driver")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit's XML to a file, too.")
@click.option(
    "--effort",
    type=click.FloatRange(0.01, 1000),
    default=1.0,
    show_default=True,
    help="How many examples are tried, as a multiple of the usual.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which examples are drawn.")
@click.option("--rule", "wanted", multiple=True, metavar="ID", help="Ask this rule or area (INV-001, INV) alone.")
def conform(driver: str, as_json: bool, junit: Path | None, effort: float, seed: int, wanted: tuple[str, ...]) -> int:
    """Ask DRIVER, an installed one, every rule of the conformance kit.

    A rule that does not apply is skipped, with the reason. Exit status: 1 where a rule that must hold is broken.
    """
    # The kit imports Hypothesis, which no other command needs.
    from viommu.testing import Options, Subject, conform  # noqa: PLC0415
    from viommu.testing import report as reports  # noqa: PLC0415

    asked = conform(Subject.of(driver), Options(effort=effort, seed=seed), wanted)
    out = None if as_json else console()
    verdicts = list(asked) if out is None else _shown(out, driver, asked)
    if as_json:
        write_json(reports.as_json(driver, verdicts))
    if junit is not None:
        junit.write_text(reports.as_junit(driver, verdicts))
    return int(any(verdict.outcome.value == "failed" for verdict in verdicts))


def _shown(out: Console, driver: str, asked: Iterable[Verdict]) -> list[Verdict]:
    """Print verdicts as they come, then what is broken, then the sums."""
    from viommu.testing.report import counted, story  # noqa: PLC0415

    verdicts: list[Verdict] = []
    for verdict in asked:
        verdicts.append(verdict)
        outcome = verdict.outcome.value
        told = verdict.note or (verdict.reason if outcome == "skipped" else "")
        out.print(f"{verdict.rule.id}  {outcome:7}", style=STYLES[outcome], end="", highlight=False, markup=False)
        out.print(f"  {verdict.rule.text}{f' [{told}]' if told else ''}", highlight=False, markup=False)
    for verdict in verdicts:
        if verdict.outcome.value in {"failed", "warned"}:
            out.print(f"\n{story(verdict)}", highlight=False, markup=False, soft_wrap=True)
    sums = ", ".join(f"{count} {name}" for name, count in counted(verdicts).items() if count)
    out.print(f"\n{driver}: {sums}", style="bold", highlight=False, markup=False)
    return verdicts
