"""Descriptors that the host puts into the invalidation queue, and the ranges that they can name (VT-d 6.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_vtd.spec.commands import (
    ContextCacheGranularity,
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InvalidationType,
    IotlbGranularity,
    IotlbInvalidate,
    PageGroupResponse,
    PasidCacheGranularity,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbGranularity,
    PasidIotlbInvalidate,
)

if TYPE_CHECKING:
    from viommu_vtd.spec.registers import CAP

PAGE_LG2 = 12
EVERYTHING_LG2 = 52
"""log2 of the pages of a whole address space."""

NO_PASID = 0
"""RID_PASID: the PASID whose table entry governs requests without one."""


@frozen
class Pages:
    """2^``lg2`` pages from ``address`` (bytes, a multiple of their size), the smallest block around a range."""

    address: int
    lg2: int

    @classmethod
    def around(cls, start: int, last: int) -> Pages:
        """Cover a closed range of bytes."""
        first, end = start >> PAGE_LG2, last >> PAGE_LG2
        lg2 = (first ^ end).bit_length()
        return cls(first >> lg2 << lg2 + PAGE_LG2, lg2)

    @property
    def is_everything(self) -> bool:
        """Whether a whole address space is covered."""
        return self.lg2 >= EVERYTHING_LG2


EVERYTHING = Pages(0, EVERYTHING_LG2)


def contexts_globally() -> ContextCacheInvalidate:
    """Drop every context entry."""
    return ContextCacheInvalidate(Type=InvalidationType.CONTEXT_CACHE, G=ContextCacheGranularity.GLOBAL)


def context_of_device(domain: int, source: int) -> ContextCacheInvalidate:
    """Drop the context entry of one device."""
    return ContextCacheInvalidate(
        Type=InvalidationType.CONTEXT_CACHE, G=ContextCacheGranularity.DEVICE, DID=domain, SID=source
    )


def pasids_globally() -> PasidCacheInvalidate:
    """Drop every PASID table entry."""
    return PasidCacheInvalidate(Type=InvalidationType.PASID_CACHE, G=PasidCacheGranularity.GLOBAL)


def pasid_entry(domain: int, pasid: int) -> PasidCacheInvalidate:
    """Drop the entry of one PASID in a domain."""
    return PasidCacheInvalidate(
        Type=InvalidationType.PASID_CACHE, G=PasidCacheGranularity.PASID, DID=domain, PASID=pasid
    )


def iotlb_globally() -> IotlbInvalidate:
    """Drop every translation."""
    return IotlbInvalidate(Type=InvalidationType.IOTLB, G=IotlbGranularity.GLOBAL, DW=1, DR=1)


def iotlb_of_domain(domain: int) -> IotlbInvalidate:
    """Drop the translations of a domain. Reads and writes that wait are drained."""
    return IotlbInvalidate(Type=InvalidationType.IOTLB, G=IotlbGranularity.DOMAIN, DW=1, DR=1, DID=domain)


def iotlb_pages(cap: CAP, domain: int, pages: Pages, *, leaf_only: bool) -> IotlbInvalidate:
    """Drop second-stage translations of pages; of the whole domain where hardware cannot name that many."""
    if not cap.PSI or pages.lg2 > cap.MAMV:
        return iotlb_of_domain(domain)
    return IotlbInvalidate(
        Type=InvalidationType.IOTLB,
        G=IotlbGranularity.PAGE,
        DW=1,
        DR=1,
        DID=domain,
        AM=pages.lg2,
        IH=int(leaf_only),
        ADDR=pages.address,
    )


def pasid_iotlb(domain: int, pasid: int, pages: Pages, *, leaf_only: bool) -> PasidIotlbInvalidate:
    """Drop first-stage and nested translations of a PASID: of pages, or all."""
    if pages.is_everything:
        return PasidIotlbInvalidate(
            Type=InvalidationType.PASID_IOTLB, G=PasidIotlbGranularity.PASID, DID=domain, PASID=pasid
        )
    return PasidIotlbInvalidate(
        Type=InvalidationType.PASID_IOTLB,
        G=PasidIotlbGranularity.PAGE,
        DID=domain,
        PASID=pasid,
        AM=pages.lg2,
        IH=int(leaf_only),
        ADDR=pages.address,
    )


def device_tlb(source: int, pasid: int, pages: Pages) -> DeviceTlbInvalidate | PasidDeviceTlbInvalidate:
    """Tell a device to drop translations; `NO_PASID`: those of requests without PASID."""
    if pasid != NO_PASID:
        return device_tlb_of_pasid(source, pasid, pages)
    address, sized = _sized(pages)
    return DeviceTlbInvalidate(Type=InvalidationType.DEVICE_TLB, SID=source, S=sized, ADDR=address)


def device_tlb_of_pasid(source: int, pasid: int | None, pages: Pages) -> PasidDeviceTlbInvalidate:
    """Tell a device to drop translations that have a PASID; None: whichever."""
    address, sized = _sized(pages)
    return PasidDeviceTlbInvalidate(
        Type=InvalidationType.PASID_DEVICE_TLB,
        SID=source,
        PASID=pasid or 0,
        G=int(pasid is None),
        S=sized,
        ADDR=address,
    )


def page_response(source: int, pasid: int | None, group: int, code: int) -> PageGroupResponse:
    """Answer a group of page requests."""
    return PageGroupResponse(
        Type=InvalidationType.PAGE_GROUP_RESPONSE,
        PASID_P=int(pasid is not None),
        RESP=code,
        RID=source,
        PASID=pasid or 0,
        PRGI=group,
    )


def _sized(pages: Pages) -> tuple[int, int]:
    """Encode an address whose size is told by its lowest zero bit: (ADDR, S)."""
    if not pages.lg2:
        return pages.address, 0
    if pages.is_everything:
        return (1 << 63) - (1 << PAGE_LG2), 1
    return pages.address | (1 << pages.lg2 - 1) - 1 << PAGE_LG2, 1
