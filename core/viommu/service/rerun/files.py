"""Files that devices are given: a rerun has copies of its own, which it may write to."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from attrs import evolve

from viommu.errors import BadValue, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.service.config import MachineConfig
    from viommu.vfio.devices import Plug

MOST_COPIED = 1 << 30
"""Bytes of one file."""


@contextmanager
def with_copies(config: MachineConfig) -> Iterator[MachineConfig]:
    """Have devices use copies of the files that their options name. Raises BadValue, OutOfRange, OSError."""
    with TemporaryDirectory(prefix="viommu-rerun-") as folder:
        plugs = [_with_copies(plug, Path(folder) / str(number)) for number, plug in enumerate(config.devices)]
        yield evolve(config, devices=tuple(plugs))


def _with_copies(plug: Plug, folder: Path) -> Plug:
    return evolve(plug, options={name: _copied(name, value, folder) for name, value in plug.options.items()})


def _copied(name: str, value: str, folder: Path) -> str:
    """Copy what an option names, if that is a file."""
    path = Path(value)
    try:
        is_there = path.exists()
    except (OSError, ValueError):  # no path at all
        return value
    if not is_there:
        return value
    if not path.is_file():
        raise BadValue(f"option {name} of a recorded device", value, "a regular file, where it names what is there")
    size = path.stat().st_size
    if size > MOST_COPIED:
        raise OutOfRange(f"size of the file of option {name}", size, MOST_COPIED)
    folder.mkdir(exist_ok=True)
    return str(shutil.copyfile(path, folder / name.replace("/", "_")))
