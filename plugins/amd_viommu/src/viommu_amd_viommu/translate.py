"""From a device table entry to what the engine walks: formats, roots, tags and rights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Access
from viommu.formats import X86, AmdV1, Context
from viommu_amd_viommu.spec.device_table import DTE, HostAccessDirty, InterruptControl

if TYPE_CHECKING:
    from viommu_amd_viommu.hardware.settings import Settings

UNTRANSLATED = Context()

INTERRUPT_RANGE = (0xFEE0_0000, 0xFEEF_FFFF)
"""Where a request without a PASID is an interrupt, and no DMA."""


def guest_pasid(entry: DTE, pasid: int | None) -> int | None:
    """The PASID whose guest tables a request uses; None: host tables alone. With GIOV, PASID 0 serves those without."""
    return 0 if pasid is None and entry.GV and entry.GIOV else pasid


def host_tables(entry: DTE, settings: Settings) -> AmdV1 | None:
    """The host (v1) tables of a device; None where Mode says that it has none."""
    if not entry.Mode:
        return None
    updates = entry.HAD in (HostAccessDirty.ACCESSED, HostAccessDirty.ACCESSED_DIRTY)
    return AmdV1(
        table=entry.HostPageTableRoot,
        mode=entry.Mode,
        accessed=bool(updates and settings.features.HA),
        dirty=bool(entry.HAD == HostAccessDirty.ACCESSED_DIRTY and settings.features.HD),
    )


def host_tables_for_configuration(entry: DTE) -> AmdV1 | None:
    """The same tables for reading GCR3 tables: a model stores nothing while it configures, so no flags are set."""
    return AmdV1(table=entry.HostPageTableRoot, mode=entry.Mode) if entry.Mode else None


def interrupts_pass(entry: DTE) -> bool:
    """Whether a device's interrupts get through. They are not remapped here: what remapping would let pass, passes."""
    return not entry.IV or entry.IntCtl in (InterruptControl.PASS, InterruptControl.REMAP)


def guest_levels(entry: DTE) -> int:
    """How many levels GuestPagingMode asks for; more than 5 where its encoding is reserved."""
    return 4 + entry.GuestPagingMode


def guest_tables(root: int, entry: DTE, settings: Settings, *, sign_extended: bool) -> X86:
    """Guest (v2) tables. Without a PASID, an address is not sign-extended: there is only a lower half."""
    return X86(
        table=root,
        levels=guest_levels(entry),
        sign_extended=sign_extended,
        no_execute=bool(settings.features.NX),
        accessed=not settings.control.GAUpdateDis,
        dirty=not settings.control.GDUpdateDis,
    )


def root_rights(entry: DTE) -> Access:
    """What the entry grants before any table is read; execution needs the right to read."""
    readable = Access.READ | Access.EXECUTE if entry.IR else Access(0)
    return readable | (Access.WRITE if entry.IW else Access(0))
