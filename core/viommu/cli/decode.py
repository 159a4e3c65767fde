"""``viommu decode``."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem
from rich.table import Table
from rich.text import Text

from viommu.cli.output import STYLES, console, print_table, write_json
from viommu.decoding.decode import decode_log, decode_text, kind_of, kinds_to_json
from viommu.decoding.log_lines import TEXT_LIMIT
from viommu.decoding.naming import meant
from viommu.drivers import bind, discover
from viommu.errors import BadPaste, UnknownDriver
from viommu.explain_text import BAD, FAINT, HEADING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from viommu.decoding.decode import Explained
    from viommu.drivers import BoundDriver

STDIN = "-"
MOST_LINES_SHOWN = 8

NAME = re.compile(r"(?=.*[g-zG-Z_])[A-Za-z]\w{1,40}", re.ASCII)
"""What a driver could be called, and no digits could be."""


class _Given(click.ParamType[str]):
    """What stands after the command: a driver, one of its kinds, and text."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer drivers, then kinds."""
        before: Sequence[str] = ctx.params.get("given") or ()
        if not before:
            return _offered(((driver.info.name, driver.info.title) for driver in discover().working), incomplete)
        if len(before) == 1:
            named = [driver for driver in discover().working if driver.info.name == before[0]]
            return _offered(((kind, "") for driver in named for kind in driver.kinds()), incomplete)
        return []


def _offered(names: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=about) for name, about in names if name.startswith(incomplete)]


@click.command(short_help="Explain pasted bytes or kernel log lines.")
@click.argument("given", nargs=-1, type=_Given(), metavar="[DRIVER KIND] HEX...")
@click.option("--msb-first", is_flag=True, help="The most significant word (or byte) comes first.")
@click.option("--list", "listing", is_flag=True, help="Name all kinds, of all drivers or of DRIVER, with their sizes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def decode(given: tuple[str, ...], msb_first: bool, listing: bool, as_json: bool) -> None:
    """Explain bytes: named fields, what they mean, what is wrong with them and, for faults, the likely causes.

    HEX is what you have: words of 32 or 64 bits (the lowest first), bytes, a run of digits in memory order, lines of
    hexdump -C or xxd, key=value pairs, or - for stdin. A kernel log line names its own driver and kind: paste it
    as it is, or pipe the log into `viommu decode -`.
    """
    if listing:
        _list(given, as_json)
        return
    explained = _explained(given, msb_first)
    if as_json:
        write_json({"decoded": [one.to_json() for one in explained]})
        return
    out = console()
    for number, one in enumerate(explained):
        if number:
            out.print()
        _print(out, one)


def _explained(given: tuple[str, ...], msb_first: bool) -> tuple[Explained, ...]:
    installed = discover()
    if given and given[0] in {error.name for error in installed.broken}:
        bind(given[0])  # says what is wrong with it
    driver = next((driver for driver in installed.working if given and driver.info.name == given[0]), None)
    if driver is None:
        return _logged(installed.working, given)
    rest = given[1:]
    if rest and (meant(rest[0], driver.kinds()) is not None or not _is_log(rest[0])):
        kind = kind_of(driver, rest[0])
        return decode_text(driver, kind, _text(rest[1:]), msb_first=msb_first)
    return _logged([driver], rest)


def _is_log(argument: str) -> bool:
    """Whether what follows a driver is a log rather than a kind: stdin, or a line with gaps in it."""
    return argument == STDIN or len(argument.split()) > 1


def _logged(drivers: Sequence[BoundDriver], given: Sequence[str]) -> tuple[Explained, ...]:
    """Explain log lines. Raises BadPaste, or UnknownDriver where a driver seems to be named first."""
    text = _text(given)
    found = decode_log(drivers, text)
    if found:
        return found
    names = tuple(driver.info.name for driver in drivers)
    if len(given) > 1 and NAME.fullmatch(given[0]):
        raise UnknownDriver(given[0], names)
    known = ", ".join(names) or "none is installed"
    raise BadPaste(text, f"no driver's log line is in it ({known}); bytes need DRIVER and KIND: `viommu decode --list`")


def _text(given: Sequence[str]) -> str:
    """Put arguments together, or read stdin. Raises BadPaste where there is nothing, or far too much."""
    if list(given) != [STDIN]:
        text = " ".join(given)
        if not text.strip():
            raise BadPaste(text, "nothing to decode: give hexadecimal, key=value pairs, a log line, or - for stdin")
        return text
    raw = sys.stdin.buffer.read(TEXT_LIMIT + 1)
    text = raw.decode("utf-8", errors="replace")
    if len(raw) > TEXT_LIMIT:
        raise BadPaste(text, f"stdin gave more than {TEXT_LIMIT:#x} bytes")
    if not text.strip():
        raise BadPaste(text, "stdin gave nothing to decode")
    return text


def _list(given: Sequence[str], as_json: bool) -> None:
    drivers = [bind(name) for name in dict.fromkeys(given)] if given else list(discover().working)
    if as_json:
        write_json(kinds_to_json(drivers))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("driver", "kind", "bytes"):
        table.add_column(name, no_wrap=True)
    for driver in drivers:
        for kind, sizes in driver.kinds().items():
            table.add_row(driver.info.name, kind, " or ".join(map(str, sizes)))
    print_table(console(), table)


def _print(out: Console, one: Explained) -> None:
    decoded = one.decoded
    for line in one.lines[:MOST_LINES_SHOWN]:
        out.print(Text(f"> {_printable(line)}", STYLES[FAINT]))
    if one.count > 1:
        out.print(Text(f"> told {one.count} times", STYLES[FAINT]))
    out.print(Text(f"{decoded.name}  {decoded.kind} of {one.driver}, {len(one.raw)} bytes", STYLES[HEADING]))
    out.print(Text(f"  {decoded.meaning}"))
    for line in decoded.descriptor.pretty().splitlines()[1:]:
        out.print(Text(f"  {line}"))
    for start in range(0, len(one.words), 4):
        out.print(
            Text(f"  {'words ' if start == 0 else '      '} {' '.join(one.words[start : start + 4])}", STYLES[FAINT])
        )
    for complaint in decoded.complaints:
        out.print(Text(f"  wrong: {complaint}", STYLES[BAD]))
    if decoded.causes:
        out.print(Text("  likely causes, the likeliest first"))
    for number, cause in enumerate(decoded.causes, 1):
        out.print(Text(f"    {number}. {cause}"))


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line)
