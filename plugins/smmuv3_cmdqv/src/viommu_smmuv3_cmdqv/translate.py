"""From STE and CD, both legal, to what the engine needs: formats, roots, sizes, tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.formats import ArmHalf, ArmStage1, ArmStage2, Context
from viommu_smmuv3_cmdqv import stage2_geometry
from viommu_smmuv3_cmdqv.recording import recording_of
from viommu_smmuv3_cmdqv.spec.registers import HardwareUpdate
from viommu_smmuv3_cmdqv.spec.stream_table import InstructionOverride, PrivilegeOverride, StreamConfig
from viommu_smmuv3_cmdqv.worlds import StreamWorld, halves, large_52, stream_world

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
    from viommu_smmuv3_cmdqv.spec.stream_table import STE
    from viommu_smmuv3_cmdqv.worlds import Half

PRIVILEGED: dict[int, bool] = {PrivilegeOverride.UNPRIVILEGED: False, PrivilegeOverride.PRIVILEGED: True}
INSTRUCTION: dict[int, bool] = {InstructionOverride.DATA: False, InstructionOverride.INSTRUCTION: True}

WORLD_TAGS = {StreamWorld.NS_EL2: 1 << 16, StreamWorld.NS_EL2_E2H: 2 << 16}
"""Stand in for the VMID, which has 16 bits, so that entries of EL2 never answer for EL1 or for each other."""


def disabled(features: Features) -> Context:
    """Bypass while the SMMU is off: the address only has to fit its output (3.4), and nothing is recorded."""
    return Context(input_bits=features.oas)


def without_stage1(ste: STE, stage2: ArmStage2 | None, features: Features) -> Context:
    """Stage 2 alone, or no stage at all."""
    recording = recording_of(ste, None, features)
    return Context(
        stage2=stage2,
        stage2_tag=0 if stage2 is None else ste.S2VMID,
        input_bits=features.oas if stage2 is None else features.ias,
        privileged=PRIVILEGED.get(recording.PRIVCFG),
        instruction=INSTRUCTION.get(recording.INSTCFG),
        driver_bits=int(recording),
    )


def with_stage1(ste: STE, cd: CD, stage2: ArmStage2 | None, features: Features) -> Context:
    """Stage 1, on stage 2 where that is on."""
    world, recording = stream_world(ste, features), recording_of(ste, cd, features)
    return Context(
        stage1=stage1_of(cd, world, features),
        stage2=stage2,
        stage1_tag=0 if world is StreamWorld.NS_EL2 else cd.ASID,
        stage2_tag=stage2_tag(ste, world, features),
        privileged=PRIVILEGED.get(recording.PRIVCFG),
        instruction=INSTRUCTION.get(recording.INSTCFG),
        driver_bits=int(recording),
    )


def stage2_tag(ste: STE, world: StreamWorld, features: Features) -> int:
    """The VMID, which tags EL1's entries as soon as the SMMU has a stage 2, or what stands in for it."""
    if world in WORLD_TAGS:
        return WORLD_TAGS[world]
    return ste.S2VMID if features.idr0.S2P else 0


def stage1_of(cd: CD, world: StreamWorld, features: Features) -> ArmStage1:
    """Stage 1 of a legal CD. UWXN is ignored, as AArch64 tables have its effect always."""
    lower, *upper = [_engine_half(half) for half in halves(cd, world, features)]
    el2 = world is StreamWorld.NS_EL2
    return ArmStage1(
        lower=lower,
        upper=upper[0] if upper else None,
        output_bits=features.effective_size(cd.IPS),
        access_flag_faults=bool(cd.HA or not cd.AFFD),
        hardware_access=bool(cd.HA),
        hardware_dirty=bool(cd.HA and cd.HD),
        hardware_table_access=bool(cd.HAFT and cd.HA and features.idr0.HTTU == HardwareUpdate.TABLE_ACCESS_FLAG),
        write_implies_no_execute=bool(cd.WXN),
        privileged_access_never=bool(cd.PAN) and not el2,
        single_privilege=el2,
        large_52=large_52(cd, features),
        big_endian=bool(cd.ENDI),
    )


def stage2_of(ste: STE, features: Features) -> ArmStage2 | None:
    """Stage 2 of a legal STE; None where Config leaves it off."""
    if not ste.Config & 2:
        return None
    level = stage2_geometry.start_level(ste, features)
    if level is None:
        raise ValueError(f"{ste!r} is not legal: S2SL0 names no start level")
    return ArmStage2(
        table=ste.S2TTB,
        input_bits=64 - ste.S2T0SZ,
        granule_lg2=stage2_geometry.GRANULE_LG2[ste.S2TG],
        top_level=3 - level,
        output_bits=features.effective_size(ste.S2PS),
        access_flag_faults=bool(ste.S2HA or not ste.S2AFFD),
        hardware_access=bool(ste.S2HA),
        hardware_dirty=bool(ste.S2HA and ste.S2HD),
        execute_never_extended=bool(features.idr3.XNX),
        forced_write_back=forced_write_back(ste, features),
        protect_table_walk=bool(ste.S2PTW and ste.Config == StreamConfig.NESTED),
        large_52=stage2_geometry.large_52(ste, features),
        big_endian=bool(ste.S2ENDI),
    )


def forced_write_back(ste: STE, features: Features) -> bool:
    """Whether stage 2 alone decides memory types (S2FWB), which changes how its MemAttr is read."""
    return bool(ste.S2FWB and features.idr3.FWB)


def _engine_half(half: Half) -> ArmHalf:
    if half.walks_disabled:
        # Its geometry is ignored and may be anything: give one that is valid.
        return ArmHalf(table=0, input_bits=48, granule_lg2=12, walks_disabled=True)
    return ArmHalf(
        table=half.table,
        input_bits=64 - half.tsz,
        granule_lg2=half.granule_lg2,
        top_byte_ignore=half.top_byte_ignore,
        unprivileged_disabled=half.unprivileged_disabled,
        ignore_hierarchical=half.ignore_hierarchical,
    )
