"""What a paging domain needs of a page table in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from viommu.ops import Prot


@frozen
class TableKind:
    """Which table is wanted: ``first_stage`` or second, its levels, and the sizes of leaves as a bitmap."""

    first_stage: bool
    levels: int
    page_sizes: int


class Unmapped(Protocol):
    """What an unmap took out of a table. ``tables``: tables went too, not leaves alone."""

    tables: bool

    def free(self) -> None:
        """Give the memory of those tables back, now that no walk can be in them."""


class Table(Protocol):
    """A page table; ``root`` is its physical address."""

    root: int

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map a range. Raises NoMemory, and then nothing of it is mapped."""

    def unmap(self, iova: int, length: int) -> Unmapped:
        """Unmap a range."""

    def physical(self, iova: int) -> int | None:
        """Translate one IOVA."""

    def free(self) -> None:
        """Give its memory back."""


class TableMaker(Protocol):
    """Makes empty tables in a machine's memory."""

    def __call__(self, kind: TableKind) -> Table:
        """Make one. Raises NoMemory."""
