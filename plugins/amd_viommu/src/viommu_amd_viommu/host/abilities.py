"""What an IOMMU can do for Linux's driver: the feature registers, read as that driver reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_amd_viommu.spec.registers import HostLevels

if TYPE_CHECKING:
    from viommu_amd_viommu.spec.registers import EFR, EFR2

MOST_PASID_BITS = 16
"""Linux's driver takes no wider PASIDs."""


@frozen
class Abilities:
    """One IOMMU's features."""

    efr: EFR
    efr2: EFR2

    @property
    def host_tables(self) -> bool:
        """Host tables of any depth (HATS 3: none)."""
        return self.efr.HATS != HostLevels.NONE

    @property
    def host_levels(self) -> int:
        """The depth of the deepest host tables."""
        return 4 + int(self.efr.HATS)

    @property
    def pasids(self) -> bool:
        """PASIDs for devices of the host: guest tables and page requests."""
        return bool(self.efr.GT and self.efr.PPR)

    @property
    def guest_tables(self) -> bool:
        """Guest tables for requests without PASID too."""
        return bool(self.pasids and self.efr.GIO)

    @property
    def five_levels(self) -> bool:
        """Guest tables of five levels."""
        return bool(self.efr.GATS)

    @property
    def gcr3_levels(self) -> int:
        """The depth of the deepest GCR3 tables."""
        return min(self.efr.GLX + 1, 3)

    @property
    def most_pasids(self) -> int:
        """How many PASIDs a device may have."""
        return 1 << min(self.efr.PASmax + 1, MOST_PASID_BITS, 9 * self.gcr3_levels) if self.pasids else 0

    @property
    def nested(self) -> bool:
        """A guest's tables on host tables: its GCR3 tables lie in guest memory."""
        return bool(self.efr.GT and self.efr.GIO and self.efr2.GCR3TRPMode)

    @property
    def dirty(self) -> bool:
        """Hardware notes writes in host tables."""
        return bool(self.efr.HD and self.host_tables)

    @property
    def page_requests(self) -> bool:
        """Page requests of devices."""
        return bool(self.efr.PPR)
