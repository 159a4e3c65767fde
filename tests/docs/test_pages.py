"""The programs on the site's pages run, and print what the pages show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEFT_OUT = "[...]"
YOURS = "my_module"
"""What the reader is to write: a program that imports it cannot be run."""


def programs(page: Path) -> list[tuple[str, str | None]]:
    """Give the Python programs of a page, each with the output that the page shows for it."""
    blocks = BLOCK.findall(page.read_text())
    found: list[tuple[str, str | None]] = []
    for index, (language, text) in enumerate(blocks):
        if language == "python":
            after = blocks[index + 1] if index + 1 < len(blocks) else ("none", "")
            found.append((text, after[1] if after[0] == "" else None))
    return found


PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if "```python" in page.read_text() and page.parent.name != "tutorial" and page.name != "architecture.md"
]


def is_as_shown(shown: str, printed: str) -> bool:
    """Compare; what was left out of the page may be anything."""
    pattern = ".*?".join(re.escape(part) for part in shown.split(LEFT_OUT))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_programs_print_what_the_page_shows(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DOCS.parent)
    for program, shown in programs(page):
        code = compile(program, str(page), "exec")
        if YOURS in program:
            continue
        exec(code, {"__name__": "page"})

        printed = capsys.readouterr().out
        if shown is not None:
            assert is_as_shown(shown, printed), printed


def test_no_page_is_missed() -> None:
    assert len(PAGES) >= 6
