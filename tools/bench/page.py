"""Put a run's table into a page: ``python -m tools.bench.page JSON PAGE``; it stands between two comments there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path as File
from typing import Any

BEGIN, END = "<!-- a run of make bench -->", "<!-- end of the run -->"
HEAD = (
    "| goal | path | ns: median (min - max) | beside | must | aim | met |",
    "|---|---|---|---|---|---|---|",
)
WORDS = {True: "yes", False: "**no**", None: "not measured"}


def page_with(text: str, rows: list[dict[str, Any]]) -> str:
    """Give the page with another table. Raises ValueError where the comments are missing."""
    table = "\n".join([BEGIN, *HEAD, *(_line(row) for row in rows), END])
    replaced, count = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page has {count} places for a table, between {BEGIN} and {END}")
    return replaced


def _line(row: dict[str, Any]) -> str:
    ns, limits = row["ns"], row["limits"]
    time = "" if ns["median"] is None else f"{ns['median']:,.1f} ({ns['min']:,.1f} - {ns['max']:,.1f})"
    cells = [
        row["goal"],
        row["path"],
        time,
        "<br>".join(_beside(limit, row["ratios"][limit["of"]]) for limit in limits),
        "<br>".join(_bound(limit, "must") for limit in limits),
        "<br>".join(_bound(limit, "aim") for limit in limits),
        WORDS[row["met"]],
    ]
    return f"| {' | '.join(cells)} |"


def _beside(limit: dict[str, Any], value: float | None) -> str:
    name = limit["of"]
    if value is None:
        return f"{name}: not measured"
    if limit["figure"]:
        return f"{value:,.1f} {name}"
    return f"{name} is {value:,.2f} x this" if limit["least"] else f"{value:,.2f} x {name}"


def _bound(limit: dict[str, Any], which: str) -> str:
    bound = limit[which]
    return "" if bound is None else f"{'>=' if limit['least'] else '<='} {bound:,.10g}"


def main(report: str, page: str) -> None:
    """Rewrite the page."""
    file = File(page)
    file.write_text(page_with(file.read_text(), json.loads(File(report).read_text())["rows"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
