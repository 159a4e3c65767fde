"""The site is whole: every page is in a table of contents, links lead somewhere, public modules have their pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.docs import hooks, layouts, reference, source

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page for kind in ("*.md", "*.rst") for page in DOCS.rglob(kind))
TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)
LINK = re.compile(r"(?<!!)\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
API = re.compile(r"^\.\. viommu-api:: (\S+)$", re.MULTILINE)
TEXTS = {name: reference.page(name, hooks=True) for name in source.public_modules()}
FENCE = re.compile(r"```.*?```", re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


def children(page: Path) -> list[str]:
    """Read a page's tables of contents."""
    lines = [line.strip() for block in TOCTREE.findall(page.read_text()) for line in block.splitlines()]
    entries = [line for line in lines if line and not line.startswith(":")]
    return [(page.parent / entry).resolve().relative_to(DOCS.resolve()).as_posix() for entry in entries]


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as the site and code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_one_table_of_contents() -> None:
    listed = [child for page in PAGES for child in children(page)]

    assert sorted(listed) == sorted(name_of(page) for page in PAGES if page != DOCS / "index.md")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in [a or b for a, b in LINK.findall(FENCE.sub("", page.read_text()))]:
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        target = target if target.exists() else target.with_suffix(".md")
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_one_title(page: Path) -> None:
    text = FENCE.sub("", page.read_text()) if "{include}" not in page.read_text() else "# included"

    assert page.suffix == ".rst" or len(re.findall(r"^# ", text, re.MULTILINE)) == 1


def test_every_public_module_is_on_one_page() -> None:
    shown = [name for page in DOCS.rglob("*.rst") for name in API.findall(page.read_text())]

    assert sorted(shown) == sorted(source.public_modules())


@pytest.mark.parametrize("name", source.public_modules())
def test_the_reference_describes_everything(name: str) -> None:
    for item in source.module(name).items:
        head = rf"^\.\. py:(class|function|data):: {item.name}\b"
        assert re.search(head, TEXTS[reference.home_of(item)], re.MULTILINE), item.name


def test_the_page_of_hooks_has_every_promise() -> None:
    text = hooks.page("viommu.hookspecs")

    assert text.count(":When:") == text.count(":Owes:") == text.count(":Raises:") == text.count(".. py:function::") > 30


@pytest.mark.parametrize("driver", ["amd_viommu", "smmuv3_cmdqv", "vtd"])
def test_layouts_are_tables(driver: str) -> None:
    assert layouts.page(driver).count(".. list-table::") > 30
