"""What invalidations do to the caches, whichever way software asked for them (VT-d 6.5).

One context of the engine holds a context entry and, in scalable mode, the PASID table entry behind it: an invalidation
of either drops both, which hardware may always do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.platform import DeviceInvalidation
from viommu_vtd.hardware.live.domains import Domains
from viommu_vtd.spec.command_meanings import IGNORED_FUNCTIONS
from viommu_vtd.spec.registers import TranslationTableMode

if TYPE_CHECKING:
    from viommu.addresses import Pasid, RequesterId
    from viommu.platform import BadAnswer, Caches
    from viommu_vtd.hardware.live.state import State

PAGE_BITS = 12
ADDRESS_BITS = 64
WITHOUT_PASID = 0xFFFF_FFFF
"""How the engine names requests without PASID."""


@define(eq=False)
class Invalidator:
    """Drops what is cached."""

    state: State
    domains: Domains = field(factory=Domains)

    def all_contexts(self) -> None:
        """Every context and PASID table entry."""
        self.domains.forget()
        self._caches.invalidate_contexts()

    def contexts_of_domain(self, domain: int) -> None:
        """Context entries of a domain. Those of scalable mode have no DID, so all of them go."""
        if self.state.unit.root.TTM == TranslationTableMode.LEGACY:
            self.pasids_of_domain(domain)
        else:
            self.all_contexts()

    def contexts_of_device(self, requester: int, function_mask: int) -> None:
        """Context entries of a device and, with ``function_mask`` (FM), of other functions of it."""
        for flipped in IGNORED_FUNCTIONS[function_mask]:
            self._caches.invalidate_contexts(requester ^ flipped)

    def pasids_of_domain(self, domain: int, pasid: int | None = None) -> None:
        """PASID table entries of a domain; of one PASID in it."""
        keys = self.domains.take(domain, pasid)
        if keys is None:
            self._caches.invalidate_contexts()
            return
        for requester, own in keys:
            self._caches.invalidate_contexts(requester, WITHOUT_PASID if own is None else own)

    def everything_of_iotlb(self) -> None:
        """Every translation."""
        self._caches.invalidate_all()

    def iotlb_of_domain(self, domain: int) -> None:
        """All translations of a domain: second-stage, first-stage and nested."""
        self._caches.invalidate_stage2_tag(domain)

    def iotlb_pages(self, domain: int, address: int, mask: int, *, leaf_only: bool) -> None:
        """Second-stage translations of pages. Nested ones of the domain go whatever their address.

        What is cached of a nested translation is tagged by the address that went in, not by the one in between.
        """
        start, last = aligned_range(address, PAGE_BITS + mask)
        self._caches.invalidate_stage2_range(domain, start, last, leaf_only=leaf_only)
        if self.domains.nested.values(domain):
            self._caches.invalidate_stage2_tag(domain, stage1_only=True)

    def device_tlb(
        self, requester: RequesterId, pasid: Pasid | None, address: int, *, sized: bool, every_pasid: bool = False
    ) -> bool | BadAnswer:
        """Tell a device; false where it does not answer, or not what was asked."""
        start, last = device_range(address, sized=sized)
        return self.state.platform.invalidate_device(DeviceInvalidation(requester, pasid, start, last, every_pasid))

    @property
    def _caches(self) -> Caches:
        return self.state.platform.caches


def aligned_range(address: int, bits: int) -> tuple[int, int]:
    """The 2^``bits`` bytes around an address, first and last; everything where that is too much."""
    size = 1 << min(bits, ADDRESS_BITS)
    start = address & -size & (1 << ADDRESS_BITS) - 1
    return start, start + size - 1


def device_range(address: int, *, sized: bool) -> tuple[int, int]:
    """What a device-TLB invalidation covers: a page or, ``sized``, twice the lowest zero bit of the page's address."""
    if not sized:
        return aligned_range(address, PAGE_BITS)
    above = address >> PAGE_BITS
    lowest_zero = (~above & above + 1).bit_length() - 1
    return aligned_range(address, PAGE_BITS + lowest_zero + 1)
