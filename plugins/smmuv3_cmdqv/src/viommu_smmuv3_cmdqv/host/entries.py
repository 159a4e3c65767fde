"""STEs and CDs as Linux fills them in (IHI 0070, 5.2 and 5.4): which fields, with which values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_smmuv3_cmdqv.host.abilities import VIRTUAL_BITS
from viommu_smmuv3_cmdqv.host.tables import ABORTS
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.sizes import FetchCacheability, Granule, Shareability, WalkCacheability
from viommu_smmuv3_cmdqv.spec.stream_table import (
    STE,
    AtsMode,
    DefaultSubstream,
    ShareabilityOverride,
    StreamConfig,
    World,
)

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.host.abilities import Abilities
    from viommu_smmuv3_cmdqv.host.tables import CdTable

MAIR = 0xFFFF_FFFF_F404_FF44
"""Attributes 0 to 3: non-cacheable, write-back, device, and inner non-cacheable with outer write-back."""
GRANULE = {12: Granule.KB_4, 14: Granule.KB_16, 16: Granule.KB_64}

__all__ = ["ABORTS", "Stage2", "Stream", "bypass", "nested", "stage1", "stage1_cd", "stage2"]


@frozen
class Stream:
    """What an STE says of the device: whether its faulting accesses may wait, whether it uses ATS."""

    able: Abilities
    stalls: bool = False
    ats: bool = False

    @property
    def eats(self) -> AtsMode:
        """STE.EATS."""
        return AtsMode.FULL if self.ats else AtsMode.DISABLED

    @property
    def incoming(self) -> ShareabilityOverride:
        """STE.SHCFG, where nothing translates it: as it comes, if the SMMU could override it."""
        overrides = self.able.idr1.ATTR_TYPES_OVR
        return ShareabilityOverride.INCOMING if overrides else ShareabilityOverride.NON


@frozen
class Stage2:
    """A stage-2 table as STEs name it. ``top_level``: Arm's number of the level where walks start."""

    table: int
    vmid: int
    input_bits: int
    top_level: int
    granule_lg2: int
    forced_write_back: bool = False

    @property
    def start(self) -> int:
        """STE.S2SL0."""
        return 3 & ~(self.top_level + 1 if self.granule_lg2 == 12 else self.top_level)


def bypass(stream: Stream) -> STE:
    """Let transactions pass as they are."""
    return STE(V=1, Config=StreamConfig.BYPASS, SHCFG=stream.incoming)


def stage1(stream: Stream, table: CdTable, default: DefaultSubstream) -> STE:
    """Translate by the CDs of a table; ``default``: what becomes of transactions without SubstreamID."""
    ste = STE(
        V=1,
        Config=StreamConfig.STAGE1,
        S1Fmt=table.format,
        S1ContextPtr=table.address,
        S1CDMax=table.lg2,
        S1DSS=default,
        S1CIR=FetchCacheability.WRITE_BACK,
        S1COR=FetchCacheability.WRITE_BACK,
        S1CSH=Shareability.INNER,
        S1STALLD=stream.able.stalls and not stream.stalls,
        EATS=stream.eats,
        STRW=World.EL2 if stream.able.el2 else World.EL1,
    )
    return ste.replace(SHCFG=stream.incoming) if default is DefaultSubstream.BYPASS_STAGE1 else ste


def stage2(stream: Stream, table: Stage2) -> STE:
    """Translate by stage 2 alone."""
    able = stream.able
    return STE(
        V=1,
        Config=StreamConfig.STAGE2,
        EATS=stream.eats,
        S2FWB=table.forced_write_back,
        SHCFG=stream.incoming,
        S2VMID=table.vmid,
        S2T0SZ=64 - table.input_bits,
        S2SL0=table.start,
        S2IR0=WalkCacheability.WRITE_BACK,
        S2OR0=WalkCacheability.WRITE_BACK,
        S2SH0=Shareability.INNER,
        S2TG=GRANULE[table.granule_lg2],
        S2PS=able.output_code,
        S2AA64=1,
        S2PTW=1,
        S2S=stream.stalls,
        S2R=1,
        S2TTB=table.table,
    )


def nested(stream: Stream, table: Stage2, guest: STE) -> STE:
    """Translate by a guest's STE on a stage 2 of the host's; a guest's bypass is stage 2 alone."""
    if not guest.V or guest.Config == StreamConfig.ABORT:
        return ABORTS
    below = stage2(stream, table)
    if guest.Config == StreamConfig.BYPASS:
        return below
    return STE.decode(int(below) | int(guest)).replace(Config=StreamConfig.NESTED, MEV=1)


def stage1_cd(stream: Stream, *, table: int, asid: int, granule_lg2: int, dirty: bool) -> CD:
    """Name a table of the host's, in the lower half. ``dirty``: hardware keeps accessed and dirty state."""
    return CD(
        T0SZ=64 - VIRTUAL_BITS,
        TG0=GRANULE[granule_lg2],
        IR0=WalkCacheability.WRITE_BACK,
        OR0=WalkCacheability.WRITE_BACK,
        SH0=Shareability.INNER,
        EPD1=1,
        V=1,
        IPS=stream.able.output_code,
        AA64=1,
        HA=dirty,
        HD=dirty,
        S=stream.stalls,
        R=1,
        A=1,
        ASET=1,
        ASID=asid,
        TTB0=table,
        MAIR=MAIR,
    )
