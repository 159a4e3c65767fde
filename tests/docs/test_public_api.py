"""Every public name has a docstring, types and units, and is what the policy says."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import viommu
from tools.docs import checks, source

ROOT = Path(__file__).parents[2]
MODULES = source.public_modules()


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name: str) -> None:
    assert list(checks.complaints(source.module(name))) == []


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_there(name: str) -> None:
    module = importlib.import_module(name)

    for each in module.__all__:
        assert hasattr(module, each)


def test_the_page_lists_modules_once() -> None:
    assert len(set(MODULES)) == len(MODULES) > 40


def test_the_hooks_version_is_the_one_of_the_page() -> None:
    (told,) = re.findall(r"version \*\*(\d+)\*\*", source.POLICY.read_text())

    assert int(told) == viommu.HOOKSPEC_VERSION


def used_of(folder: Path) -> set[tuple[str, str]]:
    """Give the names of viommu that Python files import, each with the module that they take it from."""
    return {
        (str(node.module), alias.name)
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "viommu"
        for alias in node.names
    }


def is_public(module: str, name: str) -> bool:
    return f"{module}.{name}" in MODULES or (module in MODULES and name in importlib.import_module(module).__all__)


@pytest.mark.parametrize(
    "folder", ["plugins/amd_viommu/src", "plugins/smmuv3_cmdqv/src", "plugins/vtd/src", "examples", "docs/tutorial"]
)
def test_what_strangers_learn_from_uses_public_names_alone(folder: str) -> None:
    assert [names for names in sorted(used_of(ROOT / folder)) if not is_public(*names)] == []


SAMPLE = '''
"""A module."""

__all__ = ["good", "told", "no_unit", "no_type", "no_result", "silent", "Sized", "SIZE"]

def good(address: Iova, page_lg2: int) -> int:
    """Give something."""

def told(length: int) -> int:
    """Take ``length`` bytes."""

def no_unit(length: int) -> int:
    """Take it all."""

def no_type(thing) -> int:
    """Take it all."""

def no_result(thing: int):
    """Take it all."""

def silent() -> None: ...

@frozen
class Sized:
    """A thing."""

    size: int

    @property
    def name(self) -> str: ...

SIZE = 3
'''
LACKING = {
    "sample.no_unit(length): no unit",
    "sample.no_type(thing): no type",
    "sample.no_result: no type of what it returns",
    "sample.silent: no docstring",
    "sample.Sized(size): no unit",
    "sample.Sized.name: no docstring",
    "sample.SIZE: no docstring after it",
}


def test_what_is_lacking_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_tree", lambda _: ast.parse(SAMPLE))

    assert set(checks.complaints(source.module("sample"))) == LACKING
