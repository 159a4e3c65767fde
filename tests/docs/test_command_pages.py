"""The pages about commands show what the commands print."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from viommu.cli import main

ROOT = Path(__file__).parents[2]
PAGES = ("decode.md", "replay.md")
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
RATE = re.compile(r"\s+([\d,]+|rows/s)$")
"""Rows in a second, and their title, which is as wide: no two runs share them."""

LEFT_OUT = "[...]"


def shown(page: str) -> list[tuple[str, list[str]]]:
    """Read every command of a page, with the output that is shown for it."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall((ROOT / "docs" / page).read_text()):
        for line in block.splitlines():
            if line.startswith("$ viommu "):
                found.append((line.removeprefix("$ viommu "), []))
            else:
                found[-1][1].append(line)
    return found


def without_rates(lines: list[str], command: str) -> list[str]:
    return [RATE.sub("", line).rstrip() for line in lines] if command.startswith("replay") else lines


def is_as_shown(expected: list[str], printed: list[str]) -> bool:
    """Compare line by line; what was left out of the page may be anything."""
    pattern = "\n".join(".*?" if line.strip() == LEFT_OUT else re.escape(line) for line in expected)
    return re.fullmatch(pattern, "\n".join(printed), re.DOTALL) is not None


@pytest.mark.parametrize(
    ("command", "expected"),
    [pytest.param(*pair, id=f"{page}: {pair[0][:50]}") for page in PAGES for pair in shown(page)],
)
def test_a_page_shows_what_is_printed(
    command: str, expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command, _, source = command.partition(" < ")
    data = (ROOT / source).read_bytes() if source else b""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    main(shlex.split(command))

    out, err = capsys.readouterr()
    printed = (out + err).rstrip("\n").splitlines()
    assert is_as_shown(without_rates(expected, command), without_rates(printed, command)), out + err
