"""The page of described tables explains every parameter that there is, and none that there is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import viommu

PAGE = Path(__file__).parents[2] / "docs/reference/described-tables.md"
STUB = Path(viommu.__file__).with_name("_engine.pyi")


def parameters(name: str) -> list[str]:
    """Give the keywords that the stub has for a class."""
    [found] = [
        node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef) and node.name == name
    ]
    [made] = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    return [argument.arg for argument in made.args.kwonlyargs]


@pytest.mark.parametrize("name", ["Described", "Context", "FlatTable"])
def test_each_parameter_is_explained_in_the_order_of_the_stub(name: str) -> None:
    section = PAGE.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE) == parameters(name)
