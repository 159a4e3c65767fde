"""What descriptors do to caches (VT-d 6.5.2). Those that are not here, or not in all cases, are hardware's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.commands import (
    Among,
    Block,
    Case,
    CommandTable,
    Contexts,
    Everything,
    InvalidateRange,
    InvalidateStage2Range,
    Is,
    Meaning,
    Meanings,
    Number,
    Stage1Tag,
    Stage2Tag,
    Store,
    Within,
)
from viommu.layout import Split
from viommu_vtd.spec.commands import (
    COMMANDS,
    TYPE_BITS,
    WIDE,
    ContextCacheGranularity,
    ContextCacheInvalidate,
    InvalidationType,
    InvalidationWait,
    IotlbGranularity,
    IotlbInvalidate,
    PasidIotlbGranularity,
    PasidIotlbInvalidate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.commands import Condition

PAGE_LG2 = 12
STATUS_BYTES = 4

IGNORED_FUNCTIONS = ((0,), (0, 4), (0, 2, 4, 6), tuple(range(8)))
"""For each FM: what to flip in a source-id so that its function takes every value that FM allows."""

ANY = 0
"""The key of `CommandTables.unanswered`."""


@frozen(eq=False)
class CommandTables:
    """What commands are looked up in."""

    nested: CommandTable
    """DIDs that nested translations may be cached with."""
    unanswered: CommandTable
    """Has something for `ANY` while a device has not answered, and no wait may complete."""


@frozen
class CommandAbilities:
    """What decides which descriptors there are.

    ``wide``: they have 256 bits. ``scalable``: those of scalable mode exist. ``psi``, ``mamv``: CAP. ``pds``: ECAP.
    """

    wide: bool
    scalable: bool
    psi: bool
    mamv: int
    pds: bool


def meanings(able: CommandAbilities, tables: CommandTables) -> Meanings:
    """Describe descriptors."""
    found = {
        InvalidationType.CONTEXT_CACHE: tuple(_contexts_of_devices()),
        InvalidationType.IOTLB: tuple(_iotlb(able, tables)),
        InvalidationType.WAIT: tuple(_wait(able, tables)),
    }
    if able.scalable:
        found[InvalidationType.PASID_IOTLB] = tuple(_pasid_iotlb())
    layouts = WIDE if able.wide else COMMANDS
    described = {
        kind.value: Meaning(kind.name.lower(), cases, layouts[kind].reserved_mask) for kind, cases in found.items()
    }
    return Meanings(layouts[InvalidationType.WAIT].size, Split(*TYPE_BITS), described)


def _contexts_of_devices() -> Iterator[Case]:
    """Others depend on which contexts are whose."""
    layout = ContextCacheInvalidate
    for mask, flips in enumerate(IGNORED_FUNCTIONS):
        actions = tuple(Contexts(Number(layout.SID, flip=flip)) for flip in flips)
        yield Case(actions, (Is(layout.G, ContextCacheGranularity.DEVICE), Is(layout.FM, mask)))


def _iotlb(able: CommandAbilities, tables: CommandTables) -> Iterator[Case]:
    """Pages are of second stage. Nested translations of the domain go whatever their address.

    What is cached of a nested translation is tagged by the address that went in, not by the one in between.
    """
    layout = IotlbInvalidate
    yield Case((Everything(),), (Is(layout.G, IotlbGranularity.GLOBAL),))
    yield Case((Stage2Tag(layout.DID),), (Is(layout.G, IotlbGranularity.DOMAIN),))
    if not able.psi:
        return
    pages = InvalidateStage2Range(layout.DID, extent(layout), layout.IH)
    asked = (Is(layout.G, IotlbGranularity.PAGE), Within(layout.AM, 0, able.mamv))
    yield Case((pages,), (*asked, Among(tables.nested, layout.DID, present=False)))
    yield Case((pages, Stage2Tag(layout.DID, stage1_only=True)), asked)


def _pasid_iotlb() -> Iterator[Case]:
    """First-stage and nested translations."""
    layout = PasidIotlbInvalidate
    yield Case((Stage1Tag(layout.DID, layout.PASID),), (Is(layout.G, PasidIotlbGranularity.PASID),))
    pages = InvalidateRange(layout.DID, layout.PASID, extent(layout), layout.IH)
    yield Case((pages,), (Is(layout.G, PasidIotlbGranularity.PAGE),))


def _wait(able: CommandAbilities, tables: CommandTables) -> Iterator[Case]:
    """What interrupts is hardware's own; so is one whose store goes astray."""
    layout = InvalidationWait
    quiet: list[Condition] = [Is(layout.IF, 0), Among(tables.unanswered, ANY, present=False)]
    if not able.pds:
        quiet.append(Is(layout.PD, 0))
    yield Case((Store(layout.STADDR, layout.STDATA, STATUS_BYTES),), (*quiet, Is(layout.SW, 1)))
    yield Case((), (*quiet, Is(layout.SW, 0)))


def extent(layout: type[IotlbInvalidate | PasidIotlbInvalidate]) -> Block:
    """2^AM pages around the address."""
    return Block(layout.ADDR, Number(layout.AM, plus=PAGE_LG2))
