"""The IOMMU's own address space, in which hardware keeps the maps of guests' ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu import table_shapes
from viommu.io_page_table import IoPageTable
from viommu.ops import Prot
from viommu_amd_viommu.host import entries, tags
from viommu_amd_viommu.host.entries import HostStage
from viommu_amd_viommu.host.ranges import PAGE, Pages
from viommu_amd_viommu.host.tags import HostTag
from viommu_amd_viommu.spec.inferred import OWN_DEVICE_ID

if TYPE_CHECKING:
    from viommu_amd_viommu.host.unit import Unit

LEVELS = 4
READ_WRITE = Prot.READ | Prot.WRITE


@define(eq=False, repr=False)
class PrivateSpace:
    """Host tables under the IOMMU's own DeviceID, which no other device may have."""

    unit: Unit
    table: IoPageTable = field(init=False)
    domain: int = field(init=False)
    _regions: dict[int, tuple[int, int]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Make an empty one, and let hardware use it. Raises NoMemory, NoSpace."""
        unit = self.unit
        self.table = IoPageTable(unit.frames, table_shapes.amd_v1(LEVELS))
        self.domain = unit.ids.take(unit.name)
        stage = HostStage(self.table.root, LEVELS)
        unit.table.replace(OWN_DEVICE_ID, entries.host_translated(self.domain, stage, ats=False))

    def add(self, address: int, length: int) -> None:
        """Put zeroed memory at a private address. Raises NoMemory."""
        pages = length // PAGE
        pa = self.unit.frames.allocate(pages)
        try:
            self.table.map(address, pa, length, READ_WRITE)
        except BaseException:
            self.unit.frames.free(pa, pages)
            raise
        self._regions[address] = (pa, pages)

    def remove(self, address: int) -> None:
        """Take memory away again."""
        pa, pages = self._regions.pop(address)
        gone = self.table.unmap(address, pages * PAGE)
        tags.drop([HostTag(self.unit, self.domain)], Pages.around(address, address + pages * PAGE - 1))
        gone.free()
        self.unit.frames.free(pa, pages)
