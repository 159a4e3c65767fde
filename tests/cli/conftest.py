from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core.captured import write_capture
from tests.core.installed import Shelf
from tests.core.toy import ToyDriver
from viommu import drivers
from viommu.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Give what is installed: the toy, and what a test adds."""
    made = Shelf()
    made.install("toy", ToyDriver())
    monkeypatch.setattr(drivers, "entry_points", made)
    return made


@pytest.fixture
def toy(tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Give a capture of the toy by a short name, as it appears in messages."""
    monkeypatch.chdir(tmp_path)
    return write_capture(tmp_path / "toy").relative_to(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: (exit code, stdout, stderr)."""

    def ran(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return ran
