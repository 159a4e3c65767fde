"""What is generated from the uAPI's tables is what is shipped, and is true."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.c_header import asserted
from tools.generate import GENERATED, main
from viommu import get_include
from viommu.iommufd.errnos import ERRNOS, EVERY
from viommu.iommufd.handlers import ROWS
from viommu.iommufd.handlers.ahead import NEW
from viommu.oracle.recording import read_records, recordings_in

if TYPE_CHECKING:
    from collections.abc import Callable

ORACLE = Path(__file__).parents[1] / "data" / "oracle"


@pytest.mark.parametrize(("path", "make"), GENERATED.items(), ids=lambda value: getattr(value, "name", ""))
def test_generated_files_are_what_their_source_says(path: Path, make: Callable[[], str]) -> None:
    assert path.read_text() == make(), f"run {Path(sys.executable).name} tools/generate.py"
    assert main(["--check"]) == 0


@pytest.mark.parametrize("compiler", ["gcc -std=c11", "g++ -std=c++17"])
def test_the_header_has_sizes_and_offsets_of_the_structures(compiler: str, tmp_path: Path) -> None:
    program, *options = compiler.split()
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    source = tmp_path / ("program.c" if program == "gcc" else "program.cpp")
    source.write_text(asserted())
    subprocess.run(
        [program, *options, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{get_include()}", source], check=True
    )


def test_a_wrong_offset_does_not_compile(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc here")
    source = tmp_path / "program.c"
    source.write_text(asserted().replace("hwpt_id) == 12", "hwpt_id) == 8"))
    done = subprocess.run([compiler, "-fsyntax-only", f"-I{get_include()}", source], capture_output=True, check=False)
    assert b"hwpt_id" in done.stderr


def test_every_ioctl_has_its_errnos() -> None:
    assert list(ERRNOS.keys() - {row.name for row in (*ROWS, *NEW)}) == []
    assert {row.name for row in (*ROWS, *NEW)} == ERRNOS.keys()


def test_every_errno_that_a_kernel_was_recorded_to_give_is_told() -> None:
    given: dict[str, set[str]] = defaultdict(set)
    for path in recordings_in([ORACLE / "probes.jsonl", ORACLE / "selftests"]):
        for record in read_records(path):
            name = record.fields.get("name")
            if record.call == "ioctl" and isinstance(name, str) and name in ERRNOS:
                given[name].add(record.answer.errno)
    told = {name: {code for code, _ in (*EVERY, *rows)} | {"0"} for name, rows in ERRNOS.items()}
    assert len(given) == len(ROWS)
    assert {name: codes - told[name] for name, codes in given.items() if codes - told[name]} == {}


def test_numbers_of_ioctls_follow_one_another() -> None:
    assert [row.number for row in ROWS] == list(range(0x3B80, 0x3B80 + len(ROWS)))
