"""What a unit lets its driver do, from CAP and ECAP, in the terms in which Linux decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from viommu_vtd.spec.registers import CAP, ECAP

PAGE_4K, PAGE_2M, PAGE_1G = 1 << 12, 1 << 21, 1 << 30
WIDTHS = (3, 2, 1)
"""AW values, the widest first: levels are AW + 2, address bits 9 AW + 30."""


@frozen
class Abilities:
    """One unit's. Scalable mode is used wherever there is one."""

    cap: CAP
    ecap: ECAP

    @property
    def scalable(self) -> bool:
        """Whether the unit runs in scalable mode."""
        return bool(self.ecap.SMTS)

    @property
    def first_stage(self) -> bool:
        """Whether it has first-stage tables; legacy mode has none."""
        return self.scalable and bool(self.ecap.FSTS)

    @property
    def second_stage(self) -> bool:
        """Whether it has second-stage tables; legacy mode always has."""
        return not self.scalable or bool(self.ecap.SSTS)

    @property
    def nested(self) -> bool:
        """Whether first stage can stand on second stage."""
        return self.scalable and bool(self.ecap.NEST)

    @property
    def pasids(self) -> int:
        """How many PASIDs there are; 0 without any."""
        return 1 << self.ecap.PSS + 1 if self.scalable and self.ecap.PASID else 0

    @property
    def dirty(self) -> bool:
        """Whether second stage notes accesses and writes."""
        return self.scalable and bool(self.ecap.SSADS)

    @property
    def snoop_control(self) -> bool:
        """Whether DMA can be made coherent whatever devices ask for."""
        return bool(self.ecap.SC)

    @property
    def coherent_walks(self) -> bool:
        """Whether walks of scalable-mode tables snoop caches."""
        return bool(self.ecap.SMPWCS)

    @property
    def domain_ids(self) -> range:
        """DIDs for domains. 0 is for entries that are not present; 1 Linux keeps for what passes through."""
        return range(2, 1 << 4 + 2 * self.cap.ND)

    @property
    def address_bits(self) -> int:
        """MGAW: the widest input address (bits)."""
        return self.cap.MGAW + 1

    @property
    def width(self) -> int:
        """The AW that entries without second stage carry: the widest that every stage can."""
        first = 0b1100 if self.cap.FL5LP else 0b0100
        second = self.cap.SAGAW
        if not self.first_stage:
            return _widest(second)
        return _widest(first if not self.second_stage else first & second)

    @property
    def second_stage_width(self) -> int:
        """The AW of new second-stage tables: the widest that MGAW fills and SAGAW has; 0: none fits."""
        for width, more_than in zip(WIDTHS, (48, 39, 30), strict=True):
            if self.address_bits > more_than and self.cap.SAGAW >> width & 1:
                return width
        return 0

    @property
    def second_stage_bits(self) -> int:
        """Input bits of new second-stage tables."""
        return min(9 * self.second_stage_width + 30, self.address_bits)

    @property
    def first_stage_levels(self) -> int:
        """Levels of new first-stage tables."""
        return 5 if self.cap.FL5LP else 4

    @property
    def first_stage_bits(self) -> int:
        """Input bits of new first-stage tables, the sign bit not counted: only the lower half is used."""
        return min(9 * self.first_stage_levels + 12, self.address_bits) - 1

    @property
    def first_stage_pages(self) -> int:
        """Sizes of leaves, as a bitmap."""
        return PAGE_4K | PAGE_2M | (PAGE_1G if self.cap.FL1GP else 0)

    @property
    def second_stage_pages(self) -> int:
        """Sizes of leaves, as a bitmap."""
        return PAGE_4K | (PAGE_2M if self.cap.SSLPS & 1 else 0) | (PAGE_1G if self.cap.SSLPS == 3 else 0)


def _widest(widths: int) -> int:
    return next((width for width in WIDTHS if widths >> width & 1), 0)
