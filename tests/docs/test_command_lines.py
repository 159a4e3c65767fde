"""Commands that pages show exist, with the options that are given to them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from viommu.cli.app import app

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?:console|yaml|bash)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINE = re.compile(r"^(?:\$ | *- run: )viommu (.*)$", re.MULTILINE)
INLINE = re.compile(r"`viommu ([a-z-]+ [^`]*--[^`]*)`")


def command_lines() -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "plugins").glob("*/*.md"))]
    texts = [re.sub(r"\\\n\s*", "", page.read_text()) for page in pages]  # lines that go on
    lines = [line for text in texts for fence in FENCE.findall(text) for line in LINE.findall(fence)]
    return sorted({*lines, *(line for text in texts for line in INLINE.findall(text))})


@pytest.mark.parametrize("line", command_lines())
def test_a_command_and_its_options_exist(line: str) -> None:
    name, *words = shlex.split(re.split(r" [<|>] ?", line)[0].replace("[...]", ""), comments=True)
    command = app.commands[name]
    with click.Context(command) as context:
        command.make_parser(context).parse_args([word.strip("[]") for word in words])


def test_pages_show_commands() -> None:
    assert len(command_lines()) > 25
