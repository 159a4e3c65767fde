"""Every call that the shim stands in front of answers as the kernel's would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from viommu import Machine

CLIENTS = Path(__file__).parents[1] / "clients"
CASES = {
    name: re.findall(r"^CASE\((\w+)\)", (CLIENTS / f"{name}.c").read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("calls", "memory", "signals", "processes")
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_calls_are_answered_as_by_a_kernel(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path], name: str, case: str
) -> None:
    done = run(client(name), case)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_cases_is_whole(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path], name: str
) -> None:
    assert run(client(name)).stdout.split() == CASES[name]


def test_a_program_that_is_killed_leaves_nothing_open(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path], machine: Machine
) -> None:
    before = machine.activity.ioctls.total()
    done = run("sh", "-c", f"{client('calls')} threads & sleep 0.02; kill -9 $!; wait $!; {client('calls')} ioctl")
    assert done.returncode == 0
    assert machine.activity.ioctls.total() > before
