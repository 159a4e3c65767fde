"""The stranger's driver: its own tests pass, and it knows viommu by public names alone."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "examples" / "viommu_riscv"
SOURCES = sorted((FOLDER / "src").rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Give (module, name) of each import of viommu's."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "viommu")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "viommu":
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(FOLDER / "src")))
def test_it_knows_public_names_alone(path: Path) -> None:
    for module, name in imported(path):
        assert name, f"import {module}: names are public, modules are where they live"
        assert name in importlib.import_module(module).__all__, f"{module}.{name} is not public"


def test_its_own_tests_pass() -> None:
    """In a process of its own, by its own settings."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:viommu", "-c", "pyproject.toml", "tests"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}

    done = subprocess.run(
        command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
