"""The stranger's driver: its own tests pass, it knows viommu by public names alone, and pip is all that installs it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "viommu_riscv"
SOURCES = sorted((FOLDER / "src").rglob("*.py"))
CAPTURE = ROOT / "tests" / "data" / "captures-riscv" / "riscv-msi-flat-mrif"


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


def test_its_silicon_and_its_host_know_nothing_of_one_another() -> None:
    for part, other in (("host", "viommu_riscv.hardware"), ("hardware", "viommu_riscv.host")):
        for path in (FOLDER / "src" / "viommu_riscv" / part).glob("*.py"):
            assert other not in path.read_text(), path


def test_its_own_tests_pass() -> None:
    """In a process of its own, by its own settings."""
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:viommu", "-c", "pyproject.toml", "tests"], FOLDER)

    assert done.returncode == 0, done.stdout + done.stderr


def test_pip_installs_it_beside_viommu(tmp_path: Path) -> None:
    python = beside_this_one(tmp_path)
    package = shutil.copytree(FOLDER, tmp_path / "package")  # building writes into it
    install = ["-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--prefix", str(tmp_path / "venv")]
    assert run([str(python), *install, str(package)], tmp_path).returncode == 0

    agrees(python, tmp_path)
    asked = run([str(python), "-m", "viommu", "conform", "riscv", "--rule", "DRV-001", "--json"], tmp_path)
    assert asked.returncode == 0, asked.stdout + asked.stderr


@pytest.mark.long
def test_pip_installs_it_next_to_a_wheel_of_viommu_in_an_empty_environment(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    for source in (ROOT, FOLDER):
        made = run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), str(source)], tmp_path)
        assert made.returncode == 0, made.stderr
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    done = run([str(python), "-m", "pip", "install", "-q", *map(str, wheels.iterdir())], tmp_path)
    assert done.returncode == 0, done.stderr

    agrees(python, tmp_path)
    asked = run([str(python), "-m", "viommu", "conform", "riscv"], tmp_path)
    assert asked.returncode == 0, asked.stdout + asked.stderr


def run(command: list[str], where: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    environment["VIOMMU_CONFORM_EFFORT"] = "0.1"
    return subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )


def beside_this_one(folder: Path) -> Path:
    """Make an environment that sees what this one has, so that nothing need be compiled again."""
    venv.create(folder / "venv")
    site = folder / "venv" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "base.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return folder / "venv" / "bin" / "python"


def agrees(python: Path, where: Path) -> None:
    """Have the installed driver found, and hold it against a recording."""
    found = run([str(python), "-m", "viommu", "drivers", "--json"], where)
    assert "riscv" in {driver["name"] for driver in json.loads(found.stdout)["drivers"]}, found.stdout
    done = run([str(python), "-m", "viommu", "replay", "--json", str(CAPTURE)], where)
    assert json.loads(done.stdout)["agreed"], done.stdout
