"""Installs drivers for one test, as pip would."""

from __future__ import annotations

from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from os import PathLike


class Installed(Distribution):
    """What pip would have left behind."""

    def __init__(self, name: str, version: str) -> None:
        self._about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        return self._about if filename == "METADATA" else None

    def locate_file(self, path: str | PathLike[str]) -> Path:
        return Path(path)


class Entry(EntryPoint):
    """An entry point that gives an object, or raises one."""

    def load(self) -> object:
        found = vars(self)["plugin"]
        if isinstance(found, BaseException):
            raise found
        return found


@define
class Shelf:
    """Stands in for `importlib.metadata.entry_points`: it has what was installed here and nothing else."""

    entries: list[EntryPoint] = field(factory=list)

    def __call__(self, *, group: str) -> list[EntryPoint]:
        return self.entries if group == "viommu" else []

    def install(self, name: str, plugin: object, distribution: str = "toy-dist") -> None:
        entry = Entry(name, f"{distribution}.driver", "viommu")
        vars(entry).update(plugin=plugin, dist=Installed(distribution, "1.2"))
        self.entries.append(entry)
