"""The recorder compiles, leaves a program alone, and writes what `viommu oracle` reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from viommu.oracle.recording import read_records

SOURCE = Path(__file__).parents[2] / "examples" / "recorder" / "recorder.c"

PROGRAM = """
import os
try:
    fd = os.open("/dev/iommu", os.O_RDWR)
except OSError as error:
    print(error.errno)
else:
    os.close(fd)
    print(0)
print(len(os.listdir("/")) > 0)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_program_is_recorded_and_left_alone(tmp_path: Path) -> None:
    library, recording = tmp_path / "recorder.so", tmp_path / "recorded.jsonl"
    compiler = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(compiler, check=True, timeout=60)
    environment = os.environ | {"LD_PRELOAD": str(library), "IOMMUFD_RECORDING": str(recording)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    number, listed = done.stdout.split()
    assert listed == "True"
    first = next(read_records(recording))
    assert (first.call, first.text("path")) == ("open", "/dev/iommu")
    told = os.strerror(int(number)) if int(number) else "0"
    assert (first.answer.errno == "0") == (told == "0")
