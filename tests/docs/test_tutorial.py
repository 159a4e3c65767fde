"""The tutorial: at every step the package passes its tests, and the page shows what is in it and what it does."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from shutil import which
from typing import TYPE_CHECKING

import pytest
from attrs import frozen

from tests.docs.test_pages import BLOCK, DOCS, is_as_shown, programs
from viommu.cli import main

if TYPE_CHECKING:
    from pathlib import Path

TUTORIAL = DOCS / "tutorial"
PAGES = sorted(TUTORIAL.glob("[1-9]-*.md"))
STEPS = range(1, len(PAGES) + 1)
NOT_HERE = ("viommu new-driver", "viommu run", "viommu conform", "pip ")
"""Commands of the pages that other tests try."""
EFFORT = "0.1"
"""Of the conformance kit, which has tests of its own."""


@frozen
class Step:
    """The package as it is at one step, and an environment in which it counts as installed."""

    page: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """Make the package of each step from that of the last, by copying the step's files over it."""
    into = tmp_path_factory.mktemp("tutorial")
    assert main(["new-driver", "acme", "--into", str(into)]) == 0
    about = into / "viommu_acme-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: viommu-acme\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text("[viommu]\nacme = viommu_acme.driver\n")
    steps: list[Step] = []
    before = into / "acme"
    for number, page in zip(STEPS, PAGES, strict=True):
        folder = into / f"step {number}"
        shutil.copytree(before, folder)
        if number > 1:
            shutil.copytree(TUTORIAL / "steps" / str(number), folder, dirs_exist_ok=True)
        paths = f"{folder / 'src'}{os.pathsep}{into}"
        steps.append(Step(page, folder, {**os.environ, "PYTHONPATH": paths, "MYPYPATH": "src", "COLUMNS": "100"}))
        before = folder
    return steps


@pytest.fixture(params=STEPS, ids=lambda number: PAGES[number - 1].stem)
def step(request: pytest.FixtureRequest, made: list[Step]) -> Step:
    chosen: int = request.param
    return made[chosen - 1]


def test_the_package_passes_its_tests(step: Step) -> None:
    options = ("-q", "-p", "no:cacheprovider", "--ignore", "tests/test_contract.py")
    assert " passed" in step.run("-m", "pytest", *options)


def test_the_driver_conforms_at_last(made: list[Step]) -> None:
    sums = made[-1].run("-m", "viommu", "conform", "acme", "--effort", EFFORT).splitlines()[-1]

    assert re.fullmatch(r"acme: \d+ passed, \d+ skipped", sums)


def test_a_compiled_program_runs_on_it(made: list[Step], tmp_path: Path) -> None:
    program, clients = tmp_path / "program", DOCS.parent / "tests" / "clients"
    subprocess.run([which("gcc") or "gcc", "-std=gnu11", "-pthread", "-o", program, clients / "edu.c"], check=True)
    words = ("--driver", "acme", "--device", "edu@00:10.0", "--", str(program), "0000:00:10.0")

    for step in made[3:]:
        step.run("-m", "viommu", "run", *words)


def test_the_package_is_clean_at_last(made: list[Step]) -> None:
    made[-1].run("-m", "ruff", "check", "--no-cache")
    made[-1].run("-m", "ruff", "format", "--check", "--no-cache")
    made[-1].run("-m", "mypy", "--no-incremental")


def test_what_a_page_shows_of_the_package_is_in_it(step: Step) -> None:
    package = [file.read_text() for file in step.folder.rglob("*.py")]

    excerpts = [text for text, shown in programs(step.page) if shown is None]
    assert excerpts
    for excerpt in excerpts:
        assert any(excerpt in text for text in package), excerpt


def test_programs_print_what_the_page_shows(step: Step) -> None:
    for program, shown in programs(step.page):
        if shown is not None:
            printed = step.run("-c", program)
            assert is_as_shown(shown, printed), printed


def test_commands_print_what_the_page_shows(step: Step) -> None:
    for language, text in BLOCK.findall(step.page.read_text()):
        if language != "console":
            continue
        commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        for command, shown in (each.split("\n", 1) for each in commands):
            if not command.startswith(NOT_HERE):
                printed = step.run("-m", *shlex.split(command))
                assert is_as_shown(shown, printed), printed


def test_a_forgotten_invalidation_is_found(made: list[Step], tmp_path: Path) -> None:
    """Step 4 says so of its tests."""
    step = made[3]
    folder = tmp_path / "forgetful"
    shutil.copytree(step.folder, folder)
    domains = folder / "src" / "viommu_acme" / "domains.py"
    line = "        self.unit.forget_pages(self.number, gone.iova, gone.last)\n"
    assert line in domains.read_text()
    domains.write_text(domains.read_text().replace(line, ""))
    paths = step.environment["PYTHONPATH"].replace(str(step.folder), str(folder))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_host.py"],
        cwd=folder,
        env={**step.environment, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "FORGET_PAGES" in done.stdout
