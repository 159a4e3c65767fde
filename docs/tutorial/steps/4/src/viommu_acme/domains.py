"""Page tables of the host, which an IOAS fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from viommu.io_page_table import IoPageTable

from viommu_acme.spec import DTE, Mode
from viommu_acme.translate import SHAPE

if TYPE_CHECKING:
    from typing import Self

    from viommu.ops import Prot

    from viommu_acme.unit import Unit


@define(eq=False)
class Domain:
    """A page table with a DomainID (a `viommu.ops.PagingDomain`)."""

    unit: Unit
    table: IoPageTable
    number: int
    page_sizes: int = SHAPE.page_sizes
    aperture: tuple[int, int] = (0, (1 << 39) - 1)
    dirty_tracking: bool = False

    @classmethod
    def make(cls, unit: Unit) -> Self:
        """Make an empty one. Raises NoMemory, NoSpace (DomainIDs)."""
        number = unit.domains.take(unit.name)
        try:
            return cls(unit, IoPageTable(unit.port.frames, SHAPE), number)
        except BaseException:
            unit.domains.give_back(number)
            raise

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map. What is not there is never cached, so nobody has to forget anything. Raises NoMemory."""
        self.table.map(iova, pa, length, prot, largest)

    def unmap(self, iova: int, length: int) -> None:
        """Unmap; the tables that are empty now may be used again once hardware has forgotten them."""
        gone = self.table.unmap(iova, length)
        self.unit.forget_pages(self.number, gone.iova, gone.last)
        gone.free()

    def physical(self, iova: int) -> int | None:
        """Translate one IOVA."""
        return self.table.physical(iova)

    def enforce_coherency(self) -> bool:
        """All DMA of this machine is coherent."""
        return True

    def free(self) -> None:
        """Give the DomainID and the table back."""
        self.unit.forget_domain(self.number)
        self.unit.domains.give_back(self.number)
        self.table.free()

    @property
    def entry(self) -> DTE:
        """What lets it govern a device."""
        return DTE(V=1, Mode=Mode.TRANSLATE, TablePtr=self.table.root, DomainID=self.number)
