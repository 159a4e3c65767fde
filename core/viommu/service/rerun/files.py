"""Files that devices are given: a rerun has copies of its own, as they were when the recording began."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from viommu.errors import BadValue, OutOfRange
from viommu.service.recording.contents import digest_of, is_file, is_there

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu.service.config import MachineConfig
    from viommu.vfio.devices import Plug

MOST_COPIED = 1 << 30
"""Bytes of one file."""


@define(eq=False)
class Content:
    """What a recording tells of one file: ``pieces`` by where they begin, of what is not zero (bytes)."""

    size: int
    sha256: str
    pieces: dict[int, bytes] = field(factory=dict)
    is_cut: bool = False

    def write(self, path: Path) -> None:
        """Make the file as it was. Raises OSError."""
        with path.open("wb") as file:
            file.truncate(self.size)
            for at, data in self.pieces.items():
                file.seek(at)
                file.write(data)


@contextmanager
def with_copies(config: MachineConfig, contents: Mapping[str, Content]) -> Iterator[MachineConfig]:
    """Have devices use copies of the files that their options name.

    Raises BadValue (a file of which the recording keeps only the digest is another now), OutOfRange, OSError.
    """
    with TemporaryDirectory(prefix="viommu-rerun-") as folder:
        plugs = [_with_copies(plug, Path(folder) / str(number), contents) for number, plug in enumerate(config.devices)]
        yield evolve(config, devices=tuple(plugs))


def _with_copies(plug: Plug, folder: Path, contents: Mapping[str, Content]) -> Plug:
    options = {name: _copied(name, value, folder, contents.get(value)) for name, value in plug.options.items()}
    return evolve(plug, options=options)


def _copied(name: str, value: str, folder: Path, content: Content | None) -> str:
    """Copy what an option names, if that is a file."""
    copy = folder / name.replace("/", "_")
    if content is not None and not content.is_cut:
        folder.mkdir(exist_ok=True)
        content.write(copy)
        return str(copy)
    path = Path(value)
    if not is_file(path):
        if is_there(path):
            raise BadValue(f"option {name} of a recorded device", value, "a regular file, where it names what is there")
        return value
    size = path.stat().st_size
    if size > MOST_COPIED:
        raise OutOfRange(f"size of the file of option {name}", size, MOST_COPIED)
    if content is not None and (size, digest_of(path)) != (content.size, content.sha256):
        raise BadValue(f"file of option {name}", value, f"as it was: {content.size} bytes, SHA-256 {content.sha256}")
    folder.mkdir(exist_ok=True)
    return str(shutil.copyfile(path, copy))
