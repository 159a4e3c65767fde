"""What `viommu run` needs of a machine, tried."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from viommu import drivers
from viommu.errors import ViommuError, told
from viommu.machine import Machine
from viommu.own_memory import mapping_at
from viommu.service.run import run, served, shim_path
from viommu.vfio.catalogue import models

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 30
DESCRIPTORS_LEAST = 1024
DIRECT = {
    "none": "memory of programs is read directly",
    "0": "memory of programs is read directly",
    "1": "memory of programs that `viommu run` starts is read directly, that of others through them",
}
"""What Yama's setting lets a service do."""


@frozen
class Finding:
    """One thing that was tried. ``needed``: without it programs cannot be run."""

    name: str
    well: bool
    found: str
    needed: bool = False


def examine() -> list[Finding]:
    """Try everything."""
    return [
        _tried("shim", _shim, needed=True),
        _tried("memfd", _memfd, needed=True),
        _tried("mapped BARs", _stepping),
        _tried("mappings by address", _map_query),
        _tried("ptrace scope", _ptrace_scope),
        _tried("huge pages", _huge_pages),
        _tried("open files", _open_files),
        _tried("drivers", _drivers, needed=True),
        _tried("device models", _models),
    ]


def _tried(name: str, examination: Callable[[], tuple[bool, str]], *, needed: bool = False) -> Finding:
    try:
        well, found = examination()
    except (OSError, ViommuError, subprocess.SubprocessError) as error:
        well, found = False, told(error)
    return Finding(name, well, found, needed)


def _shim() -> tuple[bool, str]:
    """A program of another interpreter opens /dev/iommu."""
    asked = "import os; os.close(os.open('/dev/iommu', os.O_RDWR))"
    with Machine("selftest") as machine, served(machine) as environment:
        status = run((sys.executable, "-c", asked), environment)
    return (
        status == 0,
        f"{shim_path()} loads, and programs are answered" if status == 0 else "programs are not answered",
    )


def _memfd() -> tuple[bool, str]:
    os.close(os.memfd_create("doctor"))
    return True, "shared memory is mapped by both sides"


def _stepping() -> tuple[bool, str]:
    machine = platform.machine()
    well = machine in {"x86_64", "AMD64"}
    return (
        well,
        "programs may map registers" if well else f"not on {machine}: programs read and write registers by calls",
    )


def _map_query() -> tuple[bool, str]:
    well = mapping_at(id(_map_query)) is not None
    return well, f"found, Linux {platform.release()}"


def _ptrace_scope() -> tuple[bool, str]:
    path = Path("/proc/sys/kernel/yama/ptrace_scope")
    scope = path.read_text(encoding="ascii").strip() if path.exists() else "none"
    return scope in DIRECT, f"{scope}: {DIRECT.get(scope, 'memory of programs is read through them, which is slower')}"


def _huge_pages() -> tuple[bool, str]:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    mode = path.read_text(encoding="ascii").strip() if path.exists() else "none"
    pool = Path("/proc/sys/vm/nr_hugepages")
    reserved = pool.read_text(encoding="ascii").strip() if pool.exists() else "0"
    return (
        "[never]" not in mode,
        f"transparent: {mode}; reserved: {reserved} (ordinary pages stand in for what is missing)",
    )


def _open_files() -> tuple[bool, str]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        soft >= DESCRIPTORS_LEAST,
        f"{soft} (at most {hard}); the shim's own lie beyond what programs may use, as far as there is room",
    )


def _drivers() -> tuple[bool, str]:
    found = drivers.discover()
    working = ", ".join(f"{driver.info.name} {driver.origin.version}" for driver in found.working)
    broken = "".join(f"; BROKEN: {error.name}: {error.reason}" for error in found.broken)
    return not found.broken, f"viommu {version('viommu')}: {working}{broken}"


def _models() -> tuple[bool, str]:
    return True, ", ".join(models())
