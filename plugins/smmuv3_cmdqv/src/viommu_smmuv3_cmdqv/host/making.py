"""Making paging domains: which stage, how wide, in which sizes (Linux: domain_alloc_paging_flags)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.io_page_table import IoPageTable
from viommu.kernel_errors import Unsupported
from viommu.ops import DomainFlags
from viommu.table_shapes import arm_stage1, arm_stage2
from viommu_smmuv3_cmdqv.host.abilities import VIRTUAL_BITS
from viommu_smmuv3_cmdqv.host.domain import Stage1Domain, Stage2Domain

if TYPE_CHECKING:
    from viommu.io_page_table import TableShape
    from viommu.ops import UserData
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain
    from viommu_smmuv3_cmdqv.host.smmu import Smmu

WHAT = "paging domain"
STAGE1_FLAGS = (
    DomainFlags.DIRTY_TRACKING,
    DomainFlags.DIRTY_TRACKING | DomainFlags.PASID,
    DomainFlags.PASID,
)


@frozen
class Geometry:
    """A stage-2 table: its shape, its input, and the level (Arm's number) where walks start."""

    shape: TableShape
    input_bits: int
    top_level: int


def make(smmu: Smmu, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """Make an empty domain: stage 1 wherever there is no reason against it.

    Raises Unsupported, NoSpace (no VMID or ASID is free), NoMemory.
    """
    if data is not None:
        raise Unsupported(WHAT, "data_type", data.type, "0: it takes no driver data")
    if flags == DomainFlags.NEST_PARENT:
        if not smmu.able.nested:
            raise Unsupported(WHAT, "flags", int(flags), "without NEST_PARENT: the SMMU lacks a stage")
        return _stage2(smmu, nest_parent=True)
    if flags in STAGE1_FLAGS and smmu.able.stage1:
        return _stage1(smmu, dirty=DomainFlags.DIRTY_TRACKING in flags)
    if flags:
        raise Unsupported(WHAT, "flags", int(flags), "NEST_PARENT alone, or DIRTY_TRACKING and PASID of stage 1")
    return _stage1(smmu, dirty=False) if smmu.able.stage1 else _stage2(smmu, nest_parent=False)


def stage2_geometry(smmu: Smmu, *, forced_write_back: bool) -> Geometry:
    """Choose the stage-2 table of an SMMU: as few levels as 16 tables side by side allow."""
    able = smmu.able
    shape = arm_stage2(
        able.intermediate_bits,
        able.granule_lg2,
        output_bits=able.output_bits,
        forced_write_back=forced_write_back,
    )
    return Geometry(shape, able.intermediate_bits, 4 - shape.levels)


def _stage1(smmu: Smmu, *, dirty: bool) -> Stage1Domain:
    able = smmu.able
    shape = arm_stage1(VIRTUAL_BITS, able.granule_lg2, output_bits=able.output_bits, dirty=dirty)
    table = IoPageTable(smmu.frames, shape)
    try:
        with smmu.lock:
            asid = smmu.asids.take(smmu.name)
    except BaseException:
        table.free()
        raise
    return Stage1Domain(
        smmu=smmu,
        table=table,
        page_sizes=shape.page_sizes,
        aperture=(0, (1 << VIRTUAL_BITS) - 1),
        granule_lg2=able.granule_lg2,
        dirty_tracking=dirty,
        asid=asid,
    )


def _stage2(smmu: Smmu, *, nest_parent: bool) -> Stage2Domain:
    able = smmu.able
    forced_write_back = nest_parent and able.forced_write_back
    geometry = stage2_geometry(smmu, forced_write_back=forced_write_back)
    table = IoPageTable(smmu.frames, geometry.shape)
    try:
        with smmu.lock:
            vmid = smmu.vmids.take(smmu.name)
    except BaseException:
        table.free()
        raise
    return Stage2Domain(
        smmu=smmu,
        table=table,
        page_sizes=geometry.shape.page_sizes,
        aperture=(0, (1 << geometry.input_bits) - 1),
        granule_lg2=able.granule_lg2,
        nest_parent=nest_parent,
        vmid=vmid,
        input_bits=geometry.input_bits,
        top_level=geometry.top_level,
        forced_write_back=forced_write_back,
    )
