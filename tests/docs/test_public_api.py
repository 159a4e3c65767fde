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


@pytest.mark.parametrize("plugin", ["amd_viommu", "smmuv3_cmdqv", "vtd"])
def test_our_plugins_use_public_names_alone(plugin: str) -> None:
    used = {
        (node.module, alias.name)
        for file in (ROOT / "plugins" / plugin / "src").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "viommu"
        for alias in node.names
    }

    private = {
        (module, name)
        for module, name in used
        if f"{module}.{name}" not in MODULES
        and (module not in MODULES or name not in importlib.import_module(str(module)).__all__)
    }
    assert private == set()


SAMPLE = '''
"""A module."""

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
    name: str = field(init=False)

    @property
    def name(self) -> str: ...

SIZE = 3
'''
LACKING = {
    "no_unit": "sample.no_unit(length): no unit",
    "no_type": "sample.no_type(thing): no type",
    "no_result": "sample.no_result: no type of what it returns",
    "silent": "sample.silent: no docstring",
    "Sized": "sample.Sized(size): no unit",
    "SIZE": "sample.SIZE: no docstring after it",
}


def test_what_is_lacking_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["good", "told", *LACKING]
    tree = ast.parse(f"__all__ = {names}\n{SAMPLE}")
    tree.body[0], tree.body[1] = tree.body[1], tree.body[0]
    monkeypatch.setattr(source, "_tree", lambda _: tree)

    found = list(checks.complaints(source.module("sample")))

    assert set(found) == {*LACKING.values(), "sample.Sized.name: no docstring"}
