"""What a guest's commands mean where the engine can execute them: invalidations of what the guest's ids stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.commands import (
    Among,
    Case,
    Contexts,
    Each,
    Is,
    Meaning,
    Meanings,
    Stage2Tag,
)
from viommu_amd_viommu.spec import inferred
from viommu_amd_viommu.spec.command_meanings import guest_ranges, without_size
from viommu_amd_viommu.spec.commands import AnyCommand, InvalidateDevtabEntry, InvalidateIommuPages, Opcode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu_amd_viommu.hardware.guests.maps import IdMaps

EVERY_DEVICE = 0
"""The key of `IdMaps.every_device` under which all of the guest's devices are."""


def of(maps: IdMaps) -> Meanings:
    """Describe a guest's commands. What is not here is done one by one: waits, devices, everything at once."""
    found: dict[int, Meaning] = {
        Opcode.INVALIDATE_IOMMU_PAGES: Meaning(
            Opcode.INVALIDATE_IOMMU_PAGES.name, tuple(_pages(maps)), InvalidateIommuPages.reserved_mask
        ),
        Opcode.INVALIDATE_DEVTAB_ENTRY: Meaning(
            Opcode.INVALIDATE_DEVTAB_ENTRY.name, (_entry(maps),), InvalidateDevtabEntry.reserved_mask
        ),
    }
    of_guests = {opcode: meaning for opcode, meaning in found.items() if opcode not in inferred.OPCODES_OF_HOSTS}
    return Meanings(AnyCommand.size, AnyCommand.Opcode, of_guests)


def _pages(maps: IdMaps) -> list[Case]:
    """Guest tables go by (DomainID, PASID); without GN all of the domain goes that went through guest tables.

    With PDE, entries of GCR3 tables go too, which are kept with the devices' entries.
    """
    layout = InvalidateIommuPages
    domain = Each(maps.domain_table, layout.DomainID)
    roots = Contexts(Each(maps.every_device, EVERY_DEVICE))
    whole = Stage2Tag(domain, stage1_only=inferred.GUEST_TABLES_ALONE)
    return [
        without_size(layout),
        Case(None, (Among(maps.domain_table, layout.DomainID, present=False),)),
        *_guest_pages(domain, roots),
        Case((whole,), (Is(layout.PDE, 0),)),
        Case((whole, roots)),
    ]


def _guest_pages(domain: Each, roots: Contexts) -> Iterator[Case]:
    layout = InvalidateIommuPages
    for drop, when in guest_ranges(domain):
        yield Case((drop, roots), (Is(layout.GN, 1), Is(layout.PDE, 1), *when))
        yield Case((drop,), (Is(layout.GN, 1), *when))


def _entry(maps: IdMaps) -> Case:
    device = InvalidateDevtabEntry.DeviceID
    return Case((Contexts(Each(maps.device_table, device)),), (Among(maps.device_table, device),))
