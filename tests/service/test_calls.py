"""Every call that the shim stands in front of answers as the kernel's would."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from viommu import Machine
from viommu.service.run import served, shim_path
from viommu.vfio.devices import Devices, Plug

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_HERE = 77
CLIENTS = Path(__file__).parents[1] / "clients"
CASES = {
    name: re.findall(r"^CASE\((\w+)\)", (CLIENTS / f"{name}.c").read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("calls", "memory", "processes", "signals", "uring", "variants")
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_calls_are_answered_as_by_a_kernel(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path], name: str, case: str
) -> None:
    done = run(client(name), case)
    if done.returncode == NOT_HERE:
        pytest.skip("this kernel has no io_uring for us")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_cases_is_whole(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path], name: str
) -> None:
    assert run(client(name)).stdout.split() == CASES[name]


@pytest.mark.parametrize("name", ["folders", "regions"])
def test_programs_find_a_device_and_use_its_registers(client: Callable[[str], Path], name: str) -> None:
    with Machine("vtd") as machine:
        devices = Devices(machine)
        devices.add(Plug.parse("edu@00:10.0"))
        with served(machine, devices) as found:
            words = [str(client(name)), "0000:00:10.0"]
            done = subprocess.run(
                words, env={**os.environ, **found}, text=True, capture_output=True, timeout=60, check=False
            )
    assert (done.returncode, done.stderr) == (0, "")


def symbols(path: Path, *options: str) -> set[str]:
    words = [which("nm") or "nm", "-D", *options, str(path)]
    lines = subprocess.run(words, text=True, capture_output=True, check=True).stdout.splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}


def test_each_call_that_the_shim_stands_in_front_of_is_made_by_a_client(client: Callable[[str], Path]) -> None:
    stands_for = symbols(shim_path(), "--defined-only")
    made = {name for one in (*CASES, "folders", "starts") for name in symbols(client(one), "--undefined-only")}
    assert {"open", "ioctl", "syscall"} <= stands_for
    assert stands_for <= made


def test_a_program_that_is_killed_leaves_nothing_open(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path], machine: Machine
) -> None:
    before = machine.activity.ioctls.total()
    done = run("sh", "-c", f"{client('calls')} threads & sleep 0.02; kill -9 $!; wait $!; {client('calls')} ioctl")
    assert done.returncode == 0
    assert machine.activity.ioctls.total() > before
