"""A device that software has attached, with one page mapped and cached; short names for descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugins.vtd.tests.guest import USED, A, D, R, W
from plugins.vtd.tests.programming import Software
from viommu.faults import Access
from viommu.translation import Translation
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.spec.commands import (
    ContextCacheInvalidate,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
)
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry

if TYPE_CHECKING:
    from viommu_vtd.spec.registers import CAP, ECAP

RID = 0x0108
IOVA = 0x40_0000
PASID = 7


def legacy(cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP) -> tuple[Software, int]:
    """A device in domain 5, one page mapped at IOVA and cached; gives the leaf's address."""
    software = Software.make(cap, ecap)
    guest = software.guest
    table = guest.page()
    guest.legacy(RID, ContextEntry(P=1, AW=2, DID=5, SSPTPTR=table))
    leaf = guest.map(table, 4, IOVA, guest.page() | R | W)
    software.enable()
    software.enable_queue()
    assert reaches(software)
    return software, leaf


def scalable(pgtt: int, *, cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP) -> tuple[Software, int, int]:
    """The same for a PASID, in second stage (2), first stage (1) or nested (3); gives leaf and PASID table entry."""
    software = Software.make(cap, ecap)
    guest = software.guest
    second, first = guest.page(), guest.page()
    entry = PasidTableEntry(P=1, PGTT=pgtt, AW=2, DID=5, PWSNP=1)
    if pgtt == 2:
        entry = entry.replace(SSPTPTR=second)
        leaf = guest.map(second, 4, IOVA, guest.page() | R | W)
    else:
        entry = entry.replace(FSPTPTR=first, SSPTPTR=second if pgtt == 3 else 0)
        leaf = guest.map(first, 4, IOVA, guest.page() | USED | A | D, link=USED)
    if pgtt == 3:  # guest-physical addresses are physical ones
        guest.map(second, 4, leaf & -(1 << 30), leaf & -(1 << 30) | 1 << 7 | R | W, leaf_level=2)
    at = guest.pasid(RID, PASID, entry, DTE=1, PRE=1)
    software.enable()
    software.enable_queue()
    assert reaches(software, PASID)
    return software, leaf, at


def reaches(software: Software, pasid: int | None = None, iova: int = IOVA) -> bool:
    return isinstance(software.machine.translate(RID, iova, Access.READ, pasid), Translation)


def cc(**fields: int) -> ContextCacheInvalidate:
    return ContextCacheInvalidate(Type=1, **fields)


def iotlb(**fields: int) -> IotlbInvalidate:
    return IotlbInvalidate(Type=2, **fields)


def p_iotlb(**fields: int) -> PasidIotlbInvalidate:
    return PasidIotlbInvalidate(Type=6, **fields)


def pasid_cache(**fields: int) -> PasidCacheInvalidate:
    return PasidCacheInvalidate(Type=7, **fields)
