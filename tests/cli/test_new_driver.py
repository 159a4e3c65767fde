"""`viommu new-driver`: what it makes installs, and passes its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from viommu.cli import main
from viommu.cli.new_driver import TEMPLATE

if TYPE_CHECKING:
    from pathlib import Path

PIP = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("made")
    assert main(["new-driver", "acme_v2", "--title", "Acme's second", "--into", str(into)]) == 0
    return into / "acme_v2"


@pytest.fixture(scope="module")
def installed(made: Path) -> dict[str, str]:
    """Give an environment in which the package is installed."""
    where = made.parent / "site-packages"
    subprocess.run([*PIP, "--target", where, made], check=True)
    return {**os.environ, "PYTHONPATH": str(where), "COLUMNS": "100"}


def run(*arguments: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_passes_its_own_tests(made: Path, installed: dict[str, str]) -> None:
    assert " passed" in run("pytest", "-q", "-p", "no:cacheprovider", env=installed, cwd=made)


def test_viommu_finds_it(made: Path, installed: dict[str, str]) -> None:
    shown = run("viommu", "drivers", env=installed, cwd=made)

    assert "acme_v2  Acme's second" in shown
    assert "viommu-acme-v2 0.1.0" in shown


def test_it_is_clean(made: Path) -> None:
    for check in (("ruff", "check"), ("ruff", "format", "--check"), ("mypy", "--no-incremental")):
        run(*check, env={**os.environ, "MYPYPATH": "src"}, cwd=made)


def test_the_template_is_filled_in_everywhere(tmp_path: Path) -> None:
    assert main(["new-driver", "acme", "--into", str(tmp_path)]) == 0

    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == len(list((TEMPLATE / "project").rglob("*.jinja")))
    for file in files:
        text = file.read_text().replace("${{ matrix.python }}", "")
        assert "{{" not in text, file
        assert "{%" not in text, file


@pytest.mark.parametrize(
    "name", ["", "Acme", "1acme", "acme-v2", "acme__v2", "acme_", "../acme", "a/b", "acme\n", "x" * 41, "ä"]
)
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-driver", "--into", str(tmp_path), "--", name]) == 2

    assert "lower-case letters, digits and single underscores" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_driver_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-driver", "vtd", "--into", str(tmp_path)]) == 2

    assert "viommu-vtd has installed a driver of that name" in capsys.readouterr().err


@pytest.mark.parametrize("title", ['a "quoted" one', "back\\slash", "{{ 1 }}", "two\nlines", " ", "x" * 61])
def test_a_title_that_would_break_code_is_refused(title: str, tmp_path: Path) -> None:
    assert main(["new-driver", "acme", "--title", title, "--into", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())


def test_the_longest_name_makes_a_driver(tmp_path: Path) -> None:
    assert main(["new-driver", "x" * 40, "--into", str(tmp_path / "new" / "folder")]) == 0
    assert (tmp_path / "new" / "folder" / ("x" * 40) / "src" / f"viommu_{'x' * 40}").is_dir()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "acme").mkdir()

    assert main(["new-driver", "acme", "--into", str(tmp_path)]) == 2

    assert "exists already" in capsys.readouterr().err
    assert not list((tmp_path / "acme").iterdir())
