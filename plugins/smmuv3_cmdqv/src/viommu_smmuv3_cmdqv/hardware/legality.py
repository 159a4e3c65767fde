"""Which STEs and CDs are ILLEGAL (IHI 0070, 5.2.2 and 5.4.2). The first complaint is the reason.

Each check is a generator of complaints, so that the conditions read as a list and only the first one costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec.registers import (
    HardwareUpdate,
    StallModel,
    TableEndian,
    TableFormats,
    VirtualAddressExtend,
)
from viommu_smmuv3_cmdqv.spec.stream_table import AtsMode, ContextTableFormat, StreamConfig
from viommu_smmuv3_cmdqv.stage2_geometry import GRANULE_LG2, fits, large_52, start_level
from viommu_smmuv3_cmdqv.worlds import StreamWorld, halves, stream_world, world_is_selectable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
    from viommu_smmuv3_cmdqv.spec.stream_table import STE
    from viommu_smmuv3_cmdqv.worlds import Half

WIDE_VAX = (VirtualAddressExtend.BITS_52, VirtualAddressExtend.BITS_56)
"""AArch64 tables translate at most 52 bits, whatever more IDR5.VAX promises for other formats."""


def ste_complaint(ste: STE, features: Features) -> str | None:
    """Why ``ste``, whose Config lets traffic pass, is ILLEGAL; None where it is not."""
    return next(ste_complaints(ste, features), None)


def cd_complaint(cd: CD, ste: STE, features: Features) -> str | None:
    """Why ``cd``, found through ``ste``, is ILLEGAL; None where it is not."""
    return next(cd_complaints(cd, ste, features), None)


def ste_complaints(ste: STE, features: Features) -> Iterator[str]:
    """Everything that makes ``ste``, whose Config lets traffic pass, ILLEGAL."""
    if ste.Config == StreamConfig.BYPASS:
        return
    yield from _ats(ste, features)
    if ste.Config & 1:
        yield from _stage1(ste, features)
    if ste.Config & 2:
        yield from _stage2(ste, features)
    if features.idr0.S2P and stream_world(ste, features) is StreamWorld.NS_EL1:
        yield from _sixteen_bits("S2VMID", ste.S2VMID, "IDR0.VMID16", features.idr0.VMID16)


def _ats(ste: STE, features: Features) -> Iterator[str]:
    if not features.idr0.ATS:
        return
    if ste.EATS == AtsMode.SPLIT_STAGE and (ste.Config != StreamConfig.NESTED or ste.S2S or features.idr0.NS1ATS):
        yield "EATS 2 (split stage) needs both stages, S2S 0 and IDR0.NS1ATS 0"
    if ste.EATS == AtsMode.FULL and ste.Config & 2 and ste.S2S:
        yield "EATS 1 does not go with S2S 1"


def _stage1(ste: STE, features: Features) -> Iterator[str]:
    idr0, ssid_bits = features.idr0, features.idr1.SSIDSIZE
    if not idr0.S1P:
        yield f"Config {int(ste.Config)} selects stage 1, which IDR0.S1P lacks"
    if world_is_selectable(ste, features) and ste.STRW & 1:
        yield f"STRW {int(ste.STRW)} is reserved"
    if ste.S1STALLD and idr0.STALL_MODEL != StallModel.STALL_AND_TERMINATE:
        yield f"S1STALLD 1 with IDR0.STALL_MODEL {int(idr0.STALL_MODEL)}"
    if ste.S1CDMax > ssid_bits:
        yield f"S1CDMax {ste.S1CDMax} is above IDR1.SSIDSIZE {ssid_bits}"
    two_level = ste.S1Fmt in (ContextTableFormat.TWO_LEVEL_4K, ContextTableFormat.TWO_LEVEL_64K)
    if ste.S1CDMax and two_level and not idr0.CD2L:
        yield f"S1Fmt {int(ste.S1Fmt)} without IDR0.CD2L"


def _stage2(ste: STE, features: Features) -> Iterator[str]:
    idr0 = features.idr0
    if not idr0.S2P:
        yield f"Config {int(ste.Config)} selects stage 2, which IDR0.S2P lacks"
    if not ste.S2AA64:
        yield "S2AA64 0: " + _aarch32(features)
    yield from _stall("S2S", ste.S2S, features)
    yield from _hardware_update("S2HA", ste.S2HA, "S2HD", ste.S2HD, features)
    if ste.S2HAFT and not ste.S2HA and idr0.HTTU == HardwareUpdate.TABLE_ACCESS_FLAG:
        yield "S2HAFT 1 without S2HA"
    yield from _endian("S2ENDI", ste.S2ENDI, features)
    yield from _stage2_geometry(ste, features)


def _stage2_geometry(ste: STE, features: Features) -> Iterator[str]:
    granule_lg2 = GRANULE_LG2.get(ste.S2TG, 0)
    if granule_lg2 not in features.granules:
        yield f"S2TG {int(ste.S2TG)} is no granule of IDR5"
        return
    large = granule_lg2 == 16 or large_52(ste, features)
    output_bits = features.effective_size(ste.S2PS)
    if ste.S2TTB >> (output_bits if large else min(output_bits, 48)):
        yield f"S2TTB {ste.S2TTB:#x} is beyond {output_bits} bits (S2PS, IDR5.OAS)"
    smallest = max(12 if large else 16, 64 - features.ias)
    largest = _largest_tsz(granule_lg2, features)
    if not smallest <= ste.S2T0SZ <= largest:
        yield f"S2T0SZ {ste.S2T0SZ} is not {smallest} to {largest}"
    level = start_level(ste, features)
    if level is None:
        yield f"S2SL0 {ste.S2SL0} names no start level"
    elif not fits(granule_lg2, level, 64 - ste.S2T0SZ):
        yield f"S2T0SZ {ste.S2T0SZ} does not go with a walk that starts at level {level}"


def cd_complaints(cd: CD, ste: STE, features: Features) -> Iterator[str]:
    """Everything that makes ``cd``, found through ``ste``, ILLEGAL."""
    idr0, world = features.idr0, stream_world(ste, features)
    if not cd.V:
        yield "V is 0"
    if not cd.AA64:
        yield "AA64 0: " + _aarch32(features)
    if cd.S and ste.S1STALLD:
        yield "S 1 although STE.S1STALLD forbids stalls"
    if idr0.TERM_MODEL and not cd.A:
        yield "A 0 although IDR0.TERM_MODEL allows aborts alone"
    yield from _stall("S", cd.S, features)
    yield from _hardware_update("HA", cd.HA, "HD", cd.HD, features)
    if cd.HAFT and not cd.HA and idr0.HTTU == HardwareUpdate.TABLE_ACCESS_FLAG:
        yield "HAFT 1 without HA"
    if world is not StreamWorld.NS_EL2:
        yield from _sixteen_bits("ASID", cd.ASID, "IDR0.ASID16", idr0.ASID16)
    enabled = [half for half in halves(cd, world, features) if not half.walks_disabled]
    if enabled:
        yield from _endian("ENDI", cd.ENDI, features)
    for half in enabled:
        yield from _half(half, cd, features)


def _half(half: Half, cd: CD, features: Features) -> Iterator[str]:
    if half.granule_lg2 not in features.granules:
        yield f"TG{half.number} is no granule of IDR5"
        return
    smallest = 12 if half.large and features.idr5.VAX in WIDE_VAX else 16
    largest = _largest_tsz(half.granule_lg2, features)
    if not smallest <= half.tsz <= largest:
        yield f"T{half.number}SZ {half.tsz} is not {smallest} to {largest}"
    output_bits = features.effective_size(cd.IPS)
    if half.table >> (output_bits if half.large else min(output_bits, 48)):
        yield f"TTB{half.number} {half.table:#x} is beyond {output_bits} bits (IPS, IDR5.OAS)"


def _aarch32(features: Features) -> str:
    if features.idr0.TTF & TableFormats.AARCH32:
        return "AArch32 tables are not modelled"
    return "IDR0.TTF lacks AArch32 tables"


def _largest_tsz(granule_lg2: int, features: Features) -> int:
    if not features.idr3.STT:
        return 39
    return 47 if granule_lg2 == 16 else 48


def _stall(name: str, value: int, features: Features) -> Iterator[str]:
    model = features.idr0.STALL_MODEL
    if value and model == StallModel.NO_STALL:
        yield f"{name} 1 although IDR0.STALL_MODEL has no stalls"
    if not value and model == StallModel.FORCED_STALL:
        yield f"{name} 0 although IDR0.STALL_MODEL forces stalls"


def _hardware_update(access: str, ha: int, dirty: str, hd: int, features: Features) -> Iterator[str]:
    httu = features.idr0.HTTU
    if ha and httu < HardwareUpdate.ACCESS_FLAG:
        yield f"{access} 1 although IDR0.HTTU is {int(httu)}"
    if hd and httu < HardwareUpdate.ACCESS_FLAG_AND_DIRTY:
        yield f"{dirty} 1 although IDR0.HTTU is {int(httu)}"


def _endian(name: str, big: int, features: Features) -> Iterator[str]:
    forbidden = TableEndian.LITTLE if big else TableEndian.BIG
    if forbidden == features.idr0.TTENDIAN:
        yield f"{name} {big} although IDR0.TTENDIAN is {int(forbidden)}"


def _sixteen_bits(name: str, value: int, feature: str, implemented: int) -> Iterator[str]:
    if value > 0xFF and not implemented:
        yield f"{name} {value:#x} has more than 8 bits, which {feature} lacks"
