"""What the host writes into context entries and PASID table entries (VT-d 9.3, 9.4, 9.6)."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from attrs import frozen

from viommu_vtd.spec.pasid import FirstStagePaging, PasidTableEntry, PasidTranslationType
from viommu_vtd.spec.root_context import ContextEntry, ScalableContextEntry, TranslationType

if TYPE_CHECKING:
    from viommu_vtd.host.abilities import Abilities
    from viommu_vtd.host.tables import PasidTables


class StageOneFlags(IntFlag):
    """Flags of iommu_hwpt_vtd_s1."""

    SRE = 1
    EAFE = 2
    WPE = 4


@frozen
class SecondStage:
    """Second stage as entries name it: table (physical address), AW, and whether writes are noted."""

    table: int
    width: int
    dirty: bool = False


@frozen
class GuestStage:
    """First stage of a guest: ``table`` is an address of second stage."""

    table: int
    five_levels: bool
    flags: StageOneFlags


def first_stage(able: Abilities, domain: int, table: int, *, levels: int, snoop: bool) -> PasidTableEntry:
    """First stage alone."""
    return PasidTableEntry(
        P=1,
        AW=able.width,
        PGTT=PasidTranslationType.FIRST_STAGE,
        DID=domain,
        PWSNP=int(able.coherent_walks),
        PGSNP=int(snoop),
        FSPM=FirstStagePaging.LEVELS_5 if levels == 5 else FirstStagePaging.LEVELS_4,
        FSPTPTR=table,
    )


def second_stage(able: Abilities, domain: int, second: SecondStage) -> PasidTableEntry:
    """Second stage alone."""
    return PasidTableEntry(
        P=1,
        AW=second.width,
        PGTT=PasidTranslationType.SECOND_STAGE,
        SSADE=int(second.dirty),
        SSPTPTR=second.table,
        DID=domain,
        PWSNP=int(able.coherent_walks),
    )


def nested(able: Abilities, domain: int, first: GuestStage, second: SecondStage, *, snoop: bool) -> PasidTableEntry:
    """A guest's first stage on second stage. WPE counts together with SRE alone."""
    supervisor = StageOneFlags.SRE in first.flags
    return PasidTableEntry(
        P=1,
        AW=second.width,
        PGTT=PasidTranslationType.NESTED,
        SSADE=int(second.dirty),
        SSPTPTR=second.table,
        DID=domain,
        PWSNP=int(able.coherent_walks),
        PGSNP=int(snoop),
        SRE=int(supervisor),
        FSPM=FirstStagePaging.LEVELS_5 if first.five_levels else FirstStagePaging.LEVELS_4,
        WPE=int(supervisor and StageOneFlags.WPE in first.flags),
        EAFE=int(StageOneFlags.EAFE in first.flags),
        FSPTPTR=first.table,
    )


def legacy_context(domain: int, second: SecondStage, *, ats: bool) -> ContextEntry:
    """Second stage in legacy mode."""
    kind = TranslationType.ALL if ats else TranslationType.UNTRANSLATED
    return ContextEntry(P=1, TT=kind, SSPTPTR=second.table, AW=second.width, DID=domain)


def scalable_context(tables: PasidTables, *, ats: bool, pasids: bool, page_requests: bool) -> ScalableContextEntry:
    """The context entry of a device in scalable mode; requests without PASID have PASID 0."""
    return ScalableContextEntry(
        P=1,
        DTE=int(ats),
        PASIDE=int(pasids),
        PRE=int(page_requests),
        PDTS=tables.directory_size,
        PASIDDIRPTR=tables.directory,
    )
