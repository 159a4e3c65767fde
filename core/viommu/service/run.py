"""Runs a program against a service of its own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from viommu import _engine
from viommu.errors import BadValue
from viommu.service.janitor import swept
from viommu.service.service import Service
from viommu.service.shadow import make_shadow
from viommu.service.signals import forwarding
from viommu.vfio.devices import Devices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from viommu.machine import Machine
    from viommu.service.course import Course

SOCKET_VARIABLE = "VIOMMU_SOCKET"
SHADOW_VARIABLE = "VIOMMU_SHADOW"
PRELOAD_VARIABLE = "LD_PRELOAD"
SHIM_VARIABLE = "VIOMMU_SHIM"
SIGNALLED = 128
"""As the shell says of a program that a signal ended: this and the signal's number."""


def shim_path() -> Path:
    """Where the library is that programs are started with: beside the engine, or another build's. Raises BadValue."""
    path = Path(os.environ.get(SHIM_VARIABLE) or Path(_engine.__file__).with_name("libviommu_shim.so"))
    if not path.is_file():
        raise BadValue("shim", str(path), "there: this installation of viommu has none, install it anew")
    return path


@contextmanager
def served(machine: Machine, devices: Devices | None = None, course: Course | None = None) -> Iterator[dict[str, str]]:
    """Serve a machine's /dev/iommu, and its devices: gives the environment that programs need to find them.

    ``course`` is told of all that happens.

    Raises OSError, BadValue.
    """
    with (
        tempfile.TemporaryDirectory(prefix="viommu-", dir=os.environ.get("XDG_RUNTIME_DIR")) as folder,
        swept(Path(folder)),
        _served_at(Path(folder) / "socket", machine, devices, course) as environment,
    ):
        yield environment


@contextmanager
def served_at(
    path: Path, machine: Machine, devices: Devices | None = None, course: Course | None = None
) -> Iterator[dict[str, str]]:
    """The same at a path, where programs that are started elsewhere may connect. Raises OSError, BadValue.

    Nothing may be there, nor at the same path with `.files` behind it: both are removed at the end.
    """
    for taken in (path, _shadow_of(path)):
        if os.path.lexists(taken):
            raise BadValue("socket", str(taken), "a path where nothing is yet")
    with swept(path, _shadow_of(path)), _served_at(path, machine, devices, course) as environment:
        yield environment


@contextmanager
def _served_at(
    path: Path, machine: Machine, devices: Devices | None, course: Course | None
) -> Iterator[dict[str, str]]:
    environment = environment_of(path)
    plugged = Devices(machine) if devices is None else devices
    _shadow_of(path).mkdir(mode=stat.S_IRWXU)  # anew, so that nobody has put anything into it
    service = Service(path, machine, plugged, course)
    try:
        make_shadow(_shadow_of(path), plugged)
        yield environment
    finally:
        service.close()
        path.unlink(missing_ok=True)
        shutil.rmtree(_shadow_of(path), ignore_errors=True)


def environment_of(path: Path) -> dict[str, str]:
    """Say what a program needs to find the service at a path. Raises BadValue (the shim is not there)."""
    whole = path.absolute()
    return {
        SOCKET_VARIABLE: str(whole),
        SHADOW_VARIABLE: str(_shadow_of(whole)),
        PRELOAD_VARIABLE: str(shim_path()),
    }


def _shadow_of(path: Path) -> Path:
    return path.with_name(path.name + ".files")


def run(program: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program, with what `served` gives on top of our environment; its exit status as a shell tells it.

    Signals that ask this process to end, or tell it something, are the program's.
    """
    whole = {**os.environ, **environment}
    before = os.environ.get(PRELOAD_VARIABLE)
    if before:
        whole[PRELOAD_VARIABLE] = f"{environment[PRELOAD_VARIABLE]}:{before}"
    with forwarding() as forwards, subprocess.Popen(program, env=whole) as running:  # noqa: S603 - what the user asked for
        forwards.to(running)
        code = running.wait()
    return SIGNALLED - code if code < 0 else code
