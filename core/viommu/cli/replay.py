"""``viommu replay``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from viommu.as_json import letters
from viommu.captures.capture import Capture, find, load
from viommu.cli.output import console, print_explanation, print_table, progress, write_json
from viommu.drivers import bind
from viommu.replay.described import Misread
from viommu.replay.run import MISMATCHES, SECTIONS
from viommu.replay.run import replay as replayed
from viommu.replay.verdicts import verdict_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from viommu.captures.rows import RecordedRow, Verdict
    from viommu.drivers import BoundDriver
    from viommu.replay.comparison import Mismatch, Replay, Section


@click.command(short_help="Compare captures with what our models make of them.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--limit-mismatches",
    type=click.IntRange(min=0),
    default=MISMATCHES,
    show_default=True,
    metavar="N",
    help="Show at most N rows of each capture that disagree.",
)
@click.option(
    "--section",
    "sections",
    type=click.Choice(SECTIONS),
    multiple=True,
    default=SECTIONS,
    help="Replay this table of a capture alone; can be given several times.",
)
def replay(paths: Sequence[Path], as_json: bool, limit_mismatches: int, sections: Sequence[str]) -> int:
    """Compare every row of captures with what our models make of it: exit 0 if all agree, 1 if not.

    PATH is a capture directory or a folder of them. Each access is translated; each command and each fault record is
    decoded and encoded again, and written by our model where the capture has the access that provoked it; each
    mutation is made, and its access translated. Rows in which a recording contradicts the architecture are counted
    as departures, and mutations that lead to memory that was not captured as unjudged.
    """
    captures = [load(path) for given in paths for path in find(given)]
    results = list(_replays(captures, tuple(dict.fromkeys(sections)), limit_mismatches))
    agreed = all(result.agreed for result in results)
    if as_json:
        write_json({"captures": [result.to_json() for result in results], "agreed": agreed})
    else:
        _print(console(), results)
    return 0 if agreed else 1


def _replays(captures: Sequence[Capture], sections: Sequence[str], limit: int) -> Iterator[Replay]:
    """Bind every driver before the first row, so that an unknown one is told at once."""
    bound = cache(bind)
    drivers: list[BoundDriver] = [bound(capture.driver) for capture in captures]
    total = sum(capture.counts.get(section, 0) for capture in captures for section in sections)
    with progress("rows", total) as advance:
        for capture, driver in zip(captures, drivers, strict=True):
            yield replayed(capture, capture.machine(driver), sections, limit=limit, progress=advance)


def _print(out: Console, results: Sequence[Replay]) -> None:
    print_table(out, _table(results))
    for result in results:
        _print_mismatches(out, result)
        _print_disputed(out, result)
        for note in result.notes:
            out.print(f"\n{result.name}: {note}", style="bold yellow")
    out.print(f"\n{_summary(results)}")


def _table(results: Sequence[Replay]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("capture", "driver", "section"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "agreed", "departures", "unjudged", "disagreed", "rows/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        for section in _shown(result):
            style = "red" if section.disagreed else None
            table.add_row(result.name, result.driver, section.name, *_numbers(section), style=style)
    return table


def _shown(result: Replay) -> Sequence[Section]:
    """Leave out what a capture has no rows of, but not the whole capture."""
    sections = list(result.sections.values())
    return [section for section in sections if section.rows] or sections[:1]


def _numbers(section: Section) -> Iterator[str]:
    yield from map(str, (section.rows, section.agreed, section.departures, section.unjudged, section.disagreed))
    yield f"{section.rows / section.seconds:,.0f}" if section.seconds else ""


def _summary(results: Sequence[Replay]) -> str:
    sections = [section for result in results for section in result.sections.values()]
    rows, disagreed = sum(section.rows for section in sections), sum(section.disagreed for section in sections)
    told = f"{rows} rows of {len(results)} capture{'s' * (len(results) != 1)}: "
    told += f"{disagreed} disagree" if disagreed else "all agree"
    for what, number in (
        ("departures of the recording from the architecture", sum(section.departures for section in sections)),
        ("unjudged, because they lead to memory that was not captured", sum(section.unjudged for section in sections)),
    ):
        told += f"\n{number} of them are {what}" if number else ""
    return told


def _print_mismatches(out: Console, result: Replay) -> None:
    for mismatch in result.mismatches:
        row = mismatch.row.number
        out.print(
            f"\n{result.name}: {mismatch.section}, row {row} disagrees in {', '.join(mismatch.differs)}",
            style="bold red",
        )
        if isinstance(mismatch, Misread):
            _print_misread(out, mismatch)
        else:
            _print_mismatch(out, mismatch)
    hidden = sum(section.disagreed for section in result.sections.values()) - len(result.mismatches)
    if hidden:
        out.print(f"\n{result.name}: {hidden} more disagree (--limit-mismatches)")


def _print_mismatch(out: Console, mismatch: Mismatch) -> None:
    out.print(f"  recorded  {_verdict(mismatch.row.recorded)}")
    out.print(f"  ours      {_verdict(mismatch.ours)}")
    if mismatch.explanation is not None:
        print_explanation(out, mismatch.explanation, indent=1)


def _print_misread(out: Console, misread: Misread) -> None:
    row, ours = misread.row, misread.ours
    fields = "".join(f" {name}={value if isinstance(value, str) else hex(value)}" for name, value in row.fields.items())
    out.print(f"  recorded  {row.raw.hex()}  {row.name}{fields}")
    out.print(
        f"  ours      {len(row.raw)} bytes are none of its sizes"
        if ours is None
        else f"  ours      {ours.descriptor.encode().hex()}  {ours.name} {ours.descriptor!r}"
    )


def _print_disputed(out: Console, result: Replay) -> None:
    if not result.disputed:
        return
    out.print(f"\n{result.name}: disputed rows, which count for nothing: {len(result.disputed)}", style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("row", "access", "recorded", "second walker", "ours", "note"):
        table.add_column(name)
    for disputed in result.disputed:
        row = disputed.row
        table.add_row(
            str(row.number), _access(row), _short(row.recorded), row.second_walker, _short(disputed.ours), row.note
        )
    print_table(out, table)


def _access(row: RecordedRow) -> str:
    asked = row.asked
    pasid = "" if asked.pasid is None else f".{asked.pasid:#x}"
    return f"{letters(asked.access)} {asked.iova:#x} by {asked.requester:#x}{pasid}"


def _verdict(verdict: Verdict) -> str:
    return "  ".join(f"{name} {value}" for name, value in verdict_to_json(verdict).items())


def _short(verdict: Verdict) -> str:
    what = verdict.fault or ("" if verdict.pa is None else hex(verdict.pa))
    return f"{verdict.outcome} {what}".strip()
