"""What a guest's commands mean where the engine can execute them: invalidations of what the guest's ids stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.commands import (
    Among,
    Case,
    Contexts,
    Each,
    InvalidateRange,
    Is,
    Meaning,
    Meanings,
    Number,
    Sized,
    Stage2Tag,
    Within,
)
from viommu_amd_viommu.spec.commands import AnyCommand, InvalidateDevtabEntry, InvalidateIommuPages, Opcode

if TYPE_CHECKING:
    from viommu_amd_viommu.hardware.guests.maps import IdMaps

EVERY_DEVICE = 0
"""The key of `IdMaps.every_device` under which all of the guest's devices are."""

SIZELESS = ((1 << 64) - (1 << 12), (1 << 64) - 1)
"""Addresses of a sized command in which no zero tells the size."""


def of(maps: IdMaps) -> Meanings:
    """Describe a guest's commands. What is not here is done one by one: waits, devices, everything at once."""
    return Meanings(
        AnyCommand.size,
        AnyCommand.Opcode,
        {
            Opcode.INVALIDATE_IOMMU_PAGES: Meaning(
                Opcode.INVALIDATE_IOMMU_PAGES.name, tuple(_pages(maps)), InvalidateIommuPages.reserved_mask
            ),
            Opcode.INVALIDATE_DEVTAB_ENTRY: Meaning(
                Opcode.INVALIDATE_DEVTAB_ENTRY.name, (_entry(maps),), InvalidateDevtabEntry.reserved_mask
            ),
        },
    )


def _pages(maps: IdMaps) -> list[Case]:
    """Guest tables go by (DomainID, PASID); without GN all of the domain goes that went through guest tables.

    With PDE, entries of GCR3 tables go too, which are kept with the devices' entries.
    """
    layout = InvalidateIommuPages
    domain = Each(maps.domain_table, layout.DomainID)
    roots = Contexts(Each(maps.every_device, EVERY_DEVICE))
    by_range = InvalidateRange(
        domain, layout.PASID, Sized(layout.Address, layout.S), leaf_only=Number(layout.PDE, flip=1)
    )
    whole = Stage2Tag(domain, stage1_only=True)
    return [
        Case(None, (Is(layout.S, 1), Within(layout.Address, *SIZELESS))),
        Case(None, (Among(maps.domain_table, layout.DomainID, present=False),)),
        Case((by_range,), (Is(layout.GN, 1), Is(layout.PDE, 0))),
        Case((by_range, roots), (Is(layout.GN, 1),)),
        Case((whole,), (Is(layout.PDE, 0),)),
        Case((whole, roots)),
    ]


def _entry(maps: IdMaps) -> Case:
    device = InvalidateDevtabEntry.DeviceID
    return Case((Contexts(Each(maps.device_table, device)),), (Among(maps.device_table, device),))
