"""Programs written in C that know nothing of this project, and a machine that they find."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from viommu import Machine
from viommu.service.run import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENTS = Path(__file__).parents[1] / "clients"
SECONDS = 60


LIBRARIES = {"uring": ("liburing",)}
"""Which clients need one of ours, which stands in for a library that is not there everywhere."""


def _compile(name: str, made: Path, *options: str) -> None:
    source = CLIENTS / f"{name}.c"
    subprocess.run([which("gcc") or "gcc", "-o", str(made), str(source), *options], check=True)


def _library(name: str, folder: Path) -> str:
    """Make a library; the path, by which it is linked and found again."""
    made = folder / f"{name}.so"
    _compile(name, made, "-shared", "-fPIC")
    return str(made)


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compile a client."""
    folder = tmp_path_factory.mktemp("clients")

    def compiled(name: str) -> Path:
        program = folder / name
        if not program.exists():
            options = [
                "-std=gnu11",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-O1",
                "-D_FORTIFY_SOURCE=2",
                "-pthread",
                "-Wl,--no-as-needed",
            ]
            _compile(name, program, *options, *(_library(of, folder) for of in LIBRARIES.get(name, ())))
        return program

    return compiled


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine("selftest") as made:
        yield made


@pytest.fixture(scope="module")
def environment(machine: Machine) -> Iterator[dict[str, str]]:
    with served(machine) as found:
        yield {**os.environ, **found}


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program on the machine."""

    def ran(*program: str | Path) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in program]
        return subprocess.run(words, env=environment, text=True, capture_output=True, timeout=SECONDS, check=False)

    return ran
