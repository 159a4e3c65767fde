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
    """What an unmap took out of a table."""

    @property
    def tables(self) -> int:
        """How many tables went, besides leaves."""

    def free(self) -> None:
        """Give the memory of those tables back, now that no walk can be in them."""


class Table(Protocol):
    """A page table."""

    @property
    def root(self) -> int:
        """Its physical address."""

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None, extra: int) -> None:
        """Map a range; ``extra``: bits that its leaves have besides. Raises NoMemory; then nothing of it is mapped."""

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
