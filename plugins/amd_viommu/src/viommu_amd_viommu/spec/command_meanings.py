"""What commands do to caches (AMD 48882, 2.4). Those that are not here, or not in all cases, are hardware's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.commands import (
    Case,
    Contexts,
    Each,
    InvalidateRange,
    InvalidateStage2Range,
    Is,
    Meaning,
    Meanings,
    Number,
    Sized,
    Stage1Tag,
    Stage2Tag,
    Store,
    means,
)
from viommu_amd_viommu.spec.commands import (
    STORE_BYTES,
    AnyCommand,
    CompletionWait,
    InvalidateInterruptTable,
    InvalidateIommuPages,
    InvalidateIotlbPages,
    Opcode,
    PrefetchIommuPages,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.commands import Action, CommandTable, Condition
    from viommu.layout import FieldSpec

    SizedCommand = type[InvalidateIommuPages | InvalidateIotlbPages | PrefetchIommuPages]

ENDLESS = (1 << 64) - (1 << 12)
"""No bit of the address is zero: with S, no size has that encoding."""
EVERYTHING = ENDLESS >> 1 & ENDLESS
"""With S, the address whose lowest zero is its highest bit."""
WHOLE = (Is(InvalidateIommuPages.S, 1), Is(InvalidateIommuPages.Address, EVERYTHING))
"""When a command is about all addresses."""


@frozen
class CommandAbilities:
    """What decides which commands there are: EFR.GT and EFR.PreF."""

    guest_tables: bool
    prefetch: bool


def meanings(able: CommandAbilities, guest_devices: CommandTable) -> Meanings:
    """Describe commands. ``guest_devices``: DomainID -> devices whose guest tables may be cached under it."""
    found: dict[int, Meaning] = {
        Opcode.COMPLETION_WAIT: _completion_wait(),
        Opcode.INVALIDATE_IOMMU_PAGES: _invalidate_pages(able, guest_devices),
        Opcode.INVALIDATE_INTERRUPT_TABLE: means(
            Opcode.INVALIDATE_INTERRUPT_TABLE.name, zero=InvalidateInterruptTable.reserved_mask
        ),
    }
    if able.prefetch:
        found[Opcode.PREFETCH_IOMMU_PAGES] = _prefetch(able)
    return Meanings(AnyCommand.size, AnyCommand.Opcode, found)


def extent(layout: SizedCommand) -> Sized:
    """The range that a command names: with S, its size is twice that of the lowest zero bit of the address."""
    return Sized(layout.Address, layout.S)


def _completion_wait() -> Meaning:
    """``f`` asks for no more than to be in order. What interrupts is hardware's own, and a store that fails."""
    layout = CompletionWait
    store = Store(layout.Address, layout.Data, STORE_BYTES)
    cases = (Case((store,), (Is(layout.s, 1), Is(layout.i, 0))), Case((), (Is(layout.s, 0), Is(layout.i, 0))))
    return Meaning(Opcode.COMPLETION_WAIT.name, cases, layout.reserved_mask)


def _invalidate_pages(able: CommandAbilities, guest_devices: CommandTable) -> Meaning:
    layout = InvalidateIommuPages
    cases = (
        without_size(layout),
        *_guest_pages(guest_devices),
        *_with_directories(guest_devices, WHOLE, Stage2Tag(layout.DomainID)),
        *_with_directories(guest_devices, (), *_host_pages()),
    )
    return Meaning(Opcode.INVALIDATE_IOMMU_PAGES.name, cases, _zero(layout, able))


def _guest_pages(guest_devices: CommandTable) -> Iterator[Case]:
    """By (DomainID, PASID). PASID 0 serves requests without one as well (GIOV)."""
    layout = InvalidateIommuPages
    guest, directories = Is(layout.GN, 1), Is(layout.PDE, 1)
    roots = Each(guest_devices, layout.DomainID)
    for drop, when in guest_ranges(layout.DomainID):
        yield Case((drop, Contexts(roots)), (guest, directories, Is(layout.PASID, 0), *when))
        yield Case((drop, Contexts(roots, layout.PASID)), (guest, directories, *when))
        yield Case((drop,), (guest, *when))


def guest_ranges(domain: FieldSpec | Each) -> Iterator[tuple[Action, tuple[Condition, ...]]]:
    """Give how translations of (domain, PASID) go, and when: all with their tables, as drivers ask most, or a range."""
    layout = InvalidateIommuPages
    yield Stage1Tag(domain, layout.PASID), (Is(layout.PDE, 1), *WHOLE)
    yield InvalidateRange(domain, layout.PASID, extent(layout), Number(layout.PDE, flip=1)), ()


def _host_pages() -> tuple[Action, ...]:
    """Guest-tagged translations hold no guest-physical address to compare: those of the domain go together."""
    layout = InvalidateIommuPages
    return (
        InvalidateStage2Range(layout.DomainID, extent(layout), Number(layout.PDE, flip=1)),
        Stage2Tag(layout.DomainID, stage1_only=True),
    )


def _with_directories(guest_devices: CommandTable, when: tuple[Condition, ...], *actions: Action) -> Iterator[Case]:
    """With PDE, directories go too: GCR3 entries, which are cached with the contexts of devices."""
    roots = Contexts(Each(guest_devices, InvalidateIommuPages.DomainID))
    yield Case((*actions, roots), (*when, Is(InvalidateIommuPages.PDE, 1)))
    yield Case(actions, when)


def _prefetch(able: CommandAbilities) -> Meaning:
    """A hint, which is not taken. What Inval forgets depends on the device's entry: that is hardware's own."""
    layout = PrefetchIommuPages
    cases = (without_size(layout), Case((), (Is(layout.Inval, 0),)))
    return Meaning(Opcode.PREFETCH_IOMMU_PAGES.name, cases, _zero(layout, able))


def without_size(layout: SizedCommand) -> Case:
    """Hardware refuses it."""
    return Case(None, (Is(layout.S, 1), Is(layout.Address, ENDLESS)))


def _zero(layout: SizedCommand, able: CommandAbilities) -> int:
    return layout.reserved_mask | (0 if able.guest_tables else layout.GN.mask)
