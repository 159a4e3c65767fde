"""Captures in the format ``viommu-capture/1``: registers, tables and accesses of a machine that was stopped.

Files are hostile: whatever is wrong with one is a CaptureError that names file, field, value and bound.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from attrs import field, frozen

from viommu.addresses import PASID_BITS
from viommu.captures import rows as capture_rows
from viommu.captures.files import Table, checked_file, parsed_number, unreadable
from viommu.captures.pages import read_pages
from viommu.errors import CaptureError
from viommu.hookspecs import Registers
from viommu.machine import Machine
from viommu.memory import PhysicalMemory
from viommu.requests import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from viommu.captures.files import Row
    from viommu.captures.rows import DescribedRow, DisputedRow, FaultRow, MutatedRow, RecordedRow
    from viommu.drivers import BoundDriver

__all__ = [
    "Capture",
    "find",
    "load",
]

FORMAT = "viommu-capture/1"
MANIFEST = "manifest.json"
MEMORY = "memory.npz"
TRANSLATIONS = "translations.csv"
DISPUTED = "disputed.csv"
COMMANDS = "commands.csv"
FAULTS = "faults.csv"
MUTATIONS = "mutations.csv"

MANIFEST_LIMIT = 1 << 24
REGISTER_LAST = (1 << 64) - 1

ANY_HARDWARE = Bounds("any driver", (1 << 32) - 1, (1 << PASID_BITS) - 1)

log = structlog.get_logger("viommu.captures.capture")

T = TypeVar("T")


@frozen(eq=False)
class Capture:
    """One capture; pages and rows are read as they are asked for."""

    path: Path
    name: str
    driver: str
    """The entry-point name of the driver whose hardware it is."""
    registers: Registers
    memory_file: str = MEMORY
    counts: Mapping[str, int] = field(factory=dict, repr=False)
    """How many rows each table should have, where the manifest says."""

    def memory(self) -> PhysicalMemory:
        """Read the pages into physical memory that nobody else has. Raises CaptureError."""
        memory = PhysicalMemory()
        for pa, data in read_pages(self.path / self.memory_file).runs():
            memory.place(pa, data)
        return memory

    def machine(self, driver: BoundDriver | None = None) -> Machine:
        """Make the captured machine. Raises CaptureError, UnknownDriver, BrokenDriver, BadRegister, DriverBug."""
        return Machine(driver or self.driver, self.memory(), self.registers)

    def has(self, table: str) -> bool:
        """Whether the capture comes with a table of that name."""
        return (self.path / table).exists()

    def translations(self, bounds: Bounds = ANY_HARDWARE) -> Iterator[RecordedRow]:
        """Read translations.csv row by row. Raises CaptureError."""
        return self._rows(TRANSLATIONS, capture_rows.TRANSLATION_COLUMNS, capture_rows.recorded_row, bounds)

    def disputed(self, bounds: Bounds = ANY_HARDWARE) -> Iterator[DisputedRow]:
        """Read disputed.csv row by row, nothing where there is none. Raises CaptureError."""
        return self._rows(DISPUTED, capture_rows.TRANSLATION_COLUMNS, capture_rows.disputed_row, bounds)

    def commands(self, bounds: Bounds = ANY_HARDWARE) -> Iterator[DescribedRow]:
        """Read commands.csv row by row, nothing where there is none. Raises CaptureError."""
        return self._rows(COMMANDS, capture_rows.COMMAND_COLUMNS, capture_rows.command_row, bounds)

    def faults(self, bounds: Bounds = ANY_HARDWARE) -> Iterator[FaultRow]:
        """Read faults.csv row by row, nothing where there is none. Raises CaptureError."""
        return self._rows(FAULTS, capture_rows.FAULT_COLUMNS, capture_rows.fault_row, bounds)

    def mutations(self, bounds: Bounds = ANY_HARDWARE) -> Iterator[MutatedRow]:
        """Read mutations.csv row by row, nothing where there is none. Raises CaptureError."""
        return self._rows(MUTATIONS, capture_rows.MUTATION_COLUMNS, capture_rows.mutated_row, bounds)

    def _rows(self, name: str, columns: Sequence[str], read: Callable[[Row, Bounds], T], bounds: Bounds) -> Iterator[T]:
        if name != TRANSLATIONS and not self.has(name):
            return
        expected = self.counts.get(Path(name).stem)
        table = Table(self.path / name, columns, expected)
        for row in table:
            yield read(row, bounds)
        if expected is not None and table.rows_read < expected:
            bound = f"the manifest says {expected}: the file is cut short; copy the capture anew"
            raise CaptureError(str(table.path), "", "rows", table.rows_read, bound)
        if expected is not None and table.rows_read != expected:
            log.warning("capture.rows", file=str(table.path), rows=table.rows_read, manifest_says=expected)


def find(path: Path) -> list[Path]:
    """Give the captures at ``path``: itself, or the folders in it that hold one. Raises CaptureError where none is."""
    if _looks_like_one(path):
        return [path]
    try:
        inside = sorted(entry for entry in path.iterdir() if _looks_like_one(entry))
    except OSError as error:
        raise unreadable(path, error) from error
    if not inside:
        raise CaptureError(str(path), "", MANIFEST, None, "it is missing here, and no folder in here is a capture")
    return inside


def _looks_like_one(path: Path) -> bool:
    return any((path / name).exists() for name in (MANIFEST, MEMORY, TRANSLATIONS))


def load(path: Path) -> Capture:
    """Read the manifest of a capture directory. Raises CaptureError."""
    manifest = _Manifest(path / MANIFEST)
    return Capture(
        path=path,
        name=manifest.text("name", default=path.name),
        driver=manifest.text("driver"),
        registers=Registers(manifest.registers()),
        memory_file=manifest.memory_file(),
        counts=manifest.counts(),
    )


class _Manifest:
    """The manifest's JSON, each field checked as it is taken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            parsed: object = json.loads(checked_file(path, MANIFEST_LIMIT).read_text(encoding="utf-8"))
        except OSError as error:
            raise unreadable(path, error) from error
        except (ValueError, RecursionError) as error:
            raise self._wrong("text", None, f"it is not JSON ({' '.join(str(error).split())[:100]})") from error
        self._fields = self._object("manifest", parsed)
        if self._fields.get("format") != FORMAT:
            raise self._wrong("format", self._fields.get("format"), f"it is not {FORMAT!r}")

    def text(self, name: str, default: str | None = None) -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str) or not value.isprintable() or not value:
            raise self._wrong(name, value, "text is needed")
        return value

    def memory_file(self) -> str:
        value = self._object("memory", self._fields.get("memory", {})).get("file", MEMORY)
        if not isinstance(value, str) or value != Path(value).name or not value.isprintable():
            raise self._wrong("memory.file", value, "the name of a file in the same folder is needed")
        return value

    def registers(self) -> dict[str, int]:
        listed = self._object("registers", self._fields.get("registers"))
        if not listed:
            raise self._wrong("registers", None, "no register is given, so no IOMMU is described")
        return {name: self._register(name, entry) for name, entry in listed.items()}

    def counts(self) -> dict[str, int]:
        listed = self._object("counts", self._fields.get("counts", {}))
        return {name: value for name, value in listed.items() if isinstance(value, int) and not isinstance(value, bool)}

    def _register(self, name: str, entry: object) -> int:
        where = f"registers.{name}.value"
        value = self._object(f"registers.{name}", entry).get("value")
        number = parsed_number(value) if isinstance(value, str) else value
        if not isinstance(number, int) or isinstance(number, bool):
            raise self._wrong(where, value, "a number is needed")
        if not 0 <= number <= REGISTER_LAST:
            raise self._wrong(where, number, f"0 to {REGISTER_LAST:#x} is allowed")
        return number

    def _object(self, name: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(name, value, "a JSON object is needed")
        return value

    def _wrong(self, name: str, value: object, bound: str) -> CaptureError:
        return CaptureError(str(self._path), "", name, value, bound)
