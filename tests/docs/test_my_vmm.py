"""The tests that a page shows to those who write VMMs pass, with a VMM that is as small as one can be."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.docs.test_pages import DOCS, programs

if TYPE_CHECKING:
    from pathlib import Path

MY_VMM = f"""#!{sys.executable}
import ctypes, fcntl, mmap, os, struct

memory = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
iommu = os.open("/dev/iommu", os.O_RDWR)
ioas = bytearray(struct.pack("<III", 12, 0, 0))
fcntl.ioctl(iommu, 0x3B81, ioas)
number = struct.unpack("<III", ioas)[2]
fcntl.ioctl(iommu, 0x3B85, bytearray(struct.pack("<IIIIQQQ", 40, 7, number, 0, address, 1 << 16, 0x10000)))
"""


def test_its_tests_pass(tmp_path: Path) -> None:
    program = tmp_path / "my-vmm"
    program.write_text(MY_VMM)
    program.chmod(0o755)
    shown = [text for text, _ in programs(DOCS / "how-to" / "test-my-vmm.md")]
    (tmp_path / "test_vmm.py").write_text("\n\n".join(shown))

    options = ("-q", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
