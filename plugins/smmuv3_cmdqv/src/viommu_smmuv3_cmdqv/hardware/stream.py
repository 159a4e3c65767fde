"""From a StreamID to its STE: linear and two-level stream tables (IHI 0070, 3.3.1 and 6.3.24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from viommu.addresses import align_down
from viommu_smmuv3_cmdqv.hardware.refusals import refuse
from viommu_smmuv3_cmdqv.spec.events import EventId
from viommu_smmuv3_cmdqv.spec.registers import StreamTableFormat, StreamTableLevels
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Refusal
    from viommu.memory import PhysicalMemory
    from viommu_smmuv3_cmdqv.features import Features

SPLITS = (6, 8, 10)
DEFAULT_SPLIT = 6
"""What any other value of STRTAB_BASE_CFG.SPLIT acts as."""
LARGEST_SPAN = 11
SMALLEST_ALIGNMENT = 64


def find_ste(memory: PhysicalMemory, features: Features, sid: int, log: ConfigurationLog) -> STE | Refusal:
    """Read the STE of stream ``sid``, or say why there is none. The STE is not checked yet."""
    address = _ste_address(memory, features, sid, log)
    if not isinstance(address, int):
        return address
    raw = memory.read(address, STE.size)
    log.fetched(STE, address, raw, f"stream {sid:#x}")
    if raw is None:
        return refuse(EventId.F_STE_FETCH, f"STE at {address:#x} cannot be read", address=address)
    return STE.decode(raw)


def _ste_address(memory: PhysicalMemory, features: Features, sid: int, log: ConfigurationLog) -> int | Refusal:
    config = features.strtab_base_cfg
    sid_bits = min(config.LOG2SIZE, features.idr1.SIDSIZE)
    if sid >> sid_bits:
        return _bad_streamid(features, f"stream {sid:#x} is beyond the table's 2^{sid_bits} streams")
    if config.FMT == StreamTableFormat.TWO_LEVEL and features.idr0.ST_LEVEL == StreamTableLevels.TWO_LEVEL:
        return _two_level(memory, features, sid, log)
    # The base is aligned to the size that software wrote, even where StreamIDs are narrower.
    base = align_down(features.strtab_base.ADDR, STE.size << config.LOG2SIZE)
    return base + sid * STE.size


def _two_level(memory: PhysicalMemory, features: Features, sid: int, log: ConfigurationLog) -> int | Refusal:
    config = features.strtab_base_cfg
    split = config.SPLIT if config.SPLIT in SPLITS else DEFAULT_SPLIT
    table_size = L1STD.size << max(0, config.LOG2SIZE - split)
    address = align_down(features.strtab_base.ADDR, max(SMALLEST_ALIGNMENT, table_size)) + (sid >> split) * L1STD.size
    raw = memory.read(address, L1STD.size)
    log.fetched(L1STD, address, raw, f"streams {sid >> split << split:#x} and up")
    if raw is None:
        return refuse(EventId.F_STE_FETCH, f"L1STD at {address:#x} cannot be read", address=address)
    return _in_leaf(L1STD.decode(raw), features, sid, split)


def _in_leaf(l1std: L1STD, features: Features, sid: int, split: int) -> int | Refusal:
    span, index = l1std.SPAN, sid & (1 << split) - 1
    if not 1 <= span <= min(LARGEST_SPAN, split + 1):
        return _bad_streamid(features, f"L1STD.SPAN {span} is not 1 to {min(LARGEST_SPAN, split + 1)}")
    if index >> span - 1:
        return _bad_streamid(features, f"stream {sid:#x} is beyond the {1 << span - 1} STEs of its leaf table")
    return align_down(l1std.L2PTR, STE.size << span - 1) + index * STE.size


def _bad_streamid(features: Features, detail: str) -> Refusal:
    """C_BAD_STREAMID is the one configuration fault whose record software must ask for."""
    refusal = refuse(EventId.C_BAD_STREAMID, detail)
    return refusal if features.cr2.RECINVSID else evolve(refusal, silent=True)
