"""What the commands share: consoles, JSON, numbers, and a progress bar where somebody is looking."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from viommu.captures.files import parsed_number
from viommu.explain_text import BAD, FAINT, GOOD, HEADING, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Never

    from rich.table import Table

    from viommu.explain import Explanation

FILE_WIDTH = 1000
"""Columns where the output is no terminal: nothing is cut or wrapped, and nothing is padded either."""

STYLES = {HEADING: "bold", GOOD: "green", BAD: "red", FAINT: "dim"}


class _Console(Console):
    def on_broken_pipe(self) -> Never:
        """Leave it to `viommu.cli.entry`, which ends as other programs do."""
        raise BrokenPipeError


def number(text: str) -> int:
    """Read an argument that is a number in hexadecimal (0x1f) or decimal; what bounds it has is the driver's to say."""
    value = parsed_number(text)
    if value is None:
        raise click.BadParameter(f"{text[:40]!r} is no number (0x1f or 31)")
    return value


def console() -> Console:
    """Make the console for results; text that is no markup stays as it is."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return _Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def log_as_json() -> None:
    """Log everything to standard error, each entry a line of JSON: ``event``, ``level``, ``timestamp``, facts."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def write_json(value: dict[str, Any]) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2))


def print_table(to: Console, table: Table) -> None:
    """Print a table without the blanks that fill its last column."""
    with to.capture() as captured:
        to.print(table)
    for line in captured.get().splitlines():
        to.file.write(f"{line.rstrip()}\n")


def print_explanation(to: Console, explanation: Explanation, indent: int = 0) -> None:
    """Print an explained walk, coloured where there are colours."""
    for line in lines_of(explanation):
        to.print(Text("  " * indent + str(line), STYLES.get(line.style, "")), soft_wrap=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's stderr while the caller tells how many rows are done; else nothing."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)
