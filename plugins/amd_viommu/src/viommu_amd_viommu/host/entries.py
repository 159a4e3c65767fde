"""Device table entries as the host writes them (AMD 48882, 2.2.2; the fields that Linux sets).

What is not named is zero. The interrupt half is kept by whoever stores the entry (`device_table`).
"""

from __future__ import annotations

from attrs import frozen

from viommu_amd_viommu.spec.device_table import DTE, GuestPaging, HostAccessDirty

FROM_GUEST = (DTE.PPR, DTE.GLX, DTE.GIOV, DTE.GCR3, DTE.GuestPagingMode)
"""What of a guest's entry becomes part of the host's (Linux: set_dte_nested)."""


@frozen
class HostStage:
    """Host tables as entries name them. ``dirty``: writes are noted in their leaves."""

    root: int
    levels: int
    dirty: bool = False


@frozen
class GuestRoots:
    """GCR3 tables of the host's making. ``without_pasid``: requests without a PASID use that of PASID 0."""

    table: int
    levels: int
    without_pasid: bool
    five_levels: bool
    page_requests: bool = False


@frozen
class HardwareGuest:
    """A guest whose IOMMU hardware runs: its GuestID, and the DeviceID by which it knows the device."""

    guest: int
    device: int


def untouched() -> DTE:
    """DMA is refused for want of rights: what Linux fills the table with before it knows a device."""
    return DTE(V=1, TV=1)


def blocked() -> DTE:
    """DMA is refused. V stays set at all times: V=0 would let everything pass."""
    return DTE(V=1)


def identity(domain: int, *, ats: bool) -> DTE:
    """DMA passes untranslated."""
    return DTE(V=1, TV=1, IR=1, IW=1, DomainID=domain, I=ats)


def host_translated(domain: int, stage: HostStage, *, ats: bool) -> DTE:
    """Host tables."""
    return identity(domain, ats=ats).replace(
        Mode=stage.levels,
        HostPageTableRoot=stage.root,
        HAD=HostAccessDirty.ACCESSED_DIRTY if stage.dirty else HostAccessDirty.NONE,
    )


def guest_translated(domain: int, roots: GuestRoots, *, ats: bool) -> DTE:
    """Guest tables alone, of the host's making."""
    return identity(domain, ats=ats).replace(
        GV=1,
        GIOV=roots.without_pasid,
        PPR=roots.page_requests,
        GLX=roots.levels - 1,
        GCR3=roots.table,
        GuestPagingMode=GuestPaging.LEVELS_5 if roots.five_levels else GuestPaging.LEVELS_4,
    )


def nested(domain: int, stage: HostStage, guest: DTE, *, ats: bool, hardware: HardwareGuest | None = None) -> DTE:
    """A guest's tables on host tables; GV is set whatever the guest's entry says."""
    given = {spec.name: getattr(guest, spec.name) for spec in FROM_GUEST}
    entry = host_translated(domain, stage, ats=ats).replace(GV=1, **given)
    if hardware is None:
        return entry
    return entry.replace(vImuEn=1, GuestID=hardware.guest, GuestDeviceID=hardware.device)
