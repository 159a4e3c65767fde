"""Shapes of the page tables that host drivers fill, made of the layouts in `viommu.spec`.

Flags are those that a Linux host sets: mappings are coherent, cacheable, executable, for privileged and unprivileged
alike, and marked accessed where that is the default. What a driver wants otherwise it gives `IoPageTable.map` as
``extra``, or changes with `attrs.evolve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.errors import BadValue, OutOfRange
from viommu.io_page_table import TableShape
from viommu.spec.amd_v1 import AmdV1Leaf, AmdV1Table
from viommu.spec.riscv import RiscvLeaf, RiscvPointer
from viommu.spec.vmsav8 import (
    S2AP,
    SH,
    ArmStage1Page,
    ArmStage1Table,
    ArmStage2Page,
    ArmStage2Table,
    LastType,
    UpperType,
)
from viommu.spec.vtd_second_stage import SecondStagePage2M, SecondStagePage4K, SecondStageTable
from viommu.spec.x86_64 import X86Page2M, X86Page4K, X86Table

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "amd_v1",
    "arm_stage1",
    "arm_stage2",
    "riscv",
    "vtd_second_stage",
    "x86",
]

ARM_INDEX_WRITE_BACK = 1
"""Which attribute of MAIR a host's stage-1 leaves name."""
ARM_MEM_ATTR_WRITE_BACK = 0xF
ARM_MEM_ATTR_FORCE_WRITE_BACK = 6
AMD_LARGEST_LEAF_LEVEL = 2
ADDRESS_51_12 = (1 << 52) - (1 << 12)


def amd_v1(mode: int = 4, *, force_coherent: bool = True) -> TableShape:
    """AMD host tables of ``mode`` levels (AMD IOMMU 2.2.3), leaves of 4K, 2M and 1G. Raises OutOfRange."""
    _check("mode", mode, 1, 6)
    leaf = int(AmdV1Leaf(PR=1, FC=force_coherent))
    return TableShape(
        levels=mode,
        table_flags=tuple(int(AmdV1Table(PR=1, NextLevel=level, IR=1, IW=1)) for level in range(mode)),
        leaf_flags=_leaves(mode, (leaf,) * (AMD_LARGEST_LEAF_LEVEL + 1)),
        rights=_rights(int(AmdV1Leaf(IR=1)), int(AmdV1Leaf(IW=1))),
        address_mask=ADDRESS_51_12,
    )


def vtd_second_stage(levels: int = 4, *, large_pages: int = 2) -> TableShape:
    """VT-d second-stage tables (VT-d 9.8). ``large_pages`` 0: leaves of 4K alone, 1: 2M too, 2: and 1G.

    Raises OutOfRange.
    """
    _check("levels", levels, 3, 5)
    _check("large pages", large_pages, 0, 2)
    large = int(SecondStagePage2M(PS=1))
    return TableShape(
        levels=levels,
        table_flags=(int(SecondStageTable(R=1, W=1)),) * levels,
        leaf_flags=_leaves(levels, (0, large, large)[: large_pages + 1]),
        rights=_rights(int(SecondStagePage4K(R=1)), int(SecondStagePage4K(W=1))),
        address_mask=ADDRESS_51_12,
    )


def x86(levels: int = 4, *, large_pages: int = 2) -> TableShape:
    """x86-64 tables: VT-d first stage, AMD v2. What is mapped is readable; IOVAs are of the lower half.

    ``large_pages`` as `vtd_second_stage`. Raises OutOfRange.
    """
    _check("levels", levels, 4, 5)
    _check("large pages", large_pages, 0, 2)
    leaf, large = int(X86Page4K(P=1, US=1, A=1)), int(X86Page2M(P=1, US=1, A=1, PS=1))
    writable = int(X86Page4K(RW=1, D=1))
    return TableShape(
        levels=levels,
        table_flags=(int(X86Table(P=1, RW=1, US=1, A=1)),) * levels,
        leaf_flags=_leaves(levels, (leaf, large, large)[: large_pages + 1]),
        rights=(0, 0, writable, writable),
        address_mask=ADDRESS_51_12,
        # Half of what the top level has is the upper half's.
        top_index_lg2=8,
    )


def arm_stage1(
    input_bits: int = 48,
    granule_lg2: int = 12,
    *,
    output_bits: int = 48,
    large_52: bool = False,
    dirty: bool = False,
) -> TableShape:
    """Arm VMSAv8-64 stage 1 (DDI 0487, D8.3). ``large_52``: 52-bit addresses with 4K and 16K granules (DS).

    ``dirty``: writable leaves have DBM, so that hardware keeps their dirty state. Raises OutOfRange, BadValue.
    """
    levels = _arm_levels(input_bits, granule_lg2)
    geometry = _ArmGeometry(granule_lg2, output_bits, large_52)
    leaf = ArmStage1Page(
        Type=LastType.PAGE, AttrIndx=ARM_INDEX_WRITE_BACK, SH=0 if geometry.is_ds else SH.INNER, AF=1, nG=1, AP=1
    )
    read_only = int(ArmStage1Page(AP=2))
    writable = int(ArmStage1Page(DBM=dirty))
    return geometry.shape(
        levels,
        input_bits,
        table=int(ArmStage1Table(Type=UpperType.TABLE)),
        leaf=int(leaf),
        rights=(read_only, read_only, writable, writable),
    )


def arm_stage2(
    input_bits: int = 40,
    granule_lg2: int = 12,
    *,
    output_bits: int = 48,
    large_52: bool = False,
    levels: int | None = None,
    dirty: bool = False,
    forced_write_back: bool = False,
) -> TableShape:
    """Arm VMSAv8-64 stage 2. ``levels`` None: as few as 16 concatenated top tables allow, as Linux has them.

    ``forced_write_back``: MemAttr as S2FWB reads it. Raises OutOfRange, BadValue.
    """
    geometry = _ArmGeometry(granule_lg2, output_bits, large_52)
    least = _arm_levels(max(input_bits - 4, granule_lg2 + 1), granule_lg2)
    levels = least if levels is None else levels
    _check("levels", levels, least, _arm_levels(input_bits, granule_lg2))
    memory_type = ARM_MEM_ATTR_FORCE_WRITE_BACK if forced_write_back else ARM_MEM_ATTR_WRITE_BACK
    leaf = ArmStage2Page(Type=LastType.PAGE, MemAttr=memory_type, SH=0 if geometry.is_ds else SH.INNER, AF=1)
    return geometry.shape(
        levels,
        input_bits,
        table=int(ArmStage2Table(Type=UpperType.TABLE)),
        leaf=int(leaf),
        rights=_rights(int(ArmStage2Page(S2AP=S2AP.READ)), int(ArmStage2Page(S2AP=S2AP.WRITE, DBM=dirty))),
    )


def riscv(levels: int = 4, *, guest_stage: bool = False, dirty: bool = False) -> TableShape:
    """RISC-V Sv39, Sv48, Sv57 (3, 4, 5 levels), or their x4 forms (privileged architecture). Write implies read.

    ``dirty``: writable leaves begin clean (D=0), for hardware that keeps their dirty state. Raises OutOfRange.
    """
    _check("levels", levels, 3, 5)
    leaf = int(RiscvLeaf(V=1, U=1, A=1))
    read, write = int(RiscvLeaf(R=1)), int(RiscvLeaf(R=1, W=1, D=not dirty))
    return TableShape(
        levels=levels,
        table_flags=(int(RiscvPointer(V=1)),) * levels,
        leaf_flags=(leaf,) * levels,
        rights=(read, read, write, write),
        address_mask=(1 << 56) - (1 << 12),
        address_shift=2,
        top_index_lg2=11 if guest_stage else 8,
    )


class _ArmGeometry:
    """Where addresses stand in descriptors, and which levels may hold blocks (DDI 0487, D8.3)."""

    def __init__(self, granule_lg2: int, output_bits: int, large_52: bool) -> None:
        if granule_lg2 not in {12, 14, 16}:
            raise BadValue("granule_lg2", granule_lg2, "12, 14 or 16")
        _check("output bits", output_bits, 32, 52)
        self.granule_lg2, self.output_bits = granule_lg2, output_bits
        self.is_ds = large_52 and granule_lg2 < 16

    def shape(
        self, levels: int, input_bits: int, *, table: int, leaf: int, rights: tuple[int, int, int, int]
    ) -> TableShape:
        stride = self.granule_lg2 - 3
        block = leaf & ~int(ArmStage1Page(Type=LastType.PAGE)) | int(ArmStage1Page(Type=LastType.RESERVED))
        high_mask, high_shift = self._high
        return TableShape(
            levels=levels,
            granule_lg2=self.granule_lg2,
            top_index_lg2=input_bits - self.granule_lg2 - stride * (levels - 1),
            table_flags=(table,) * levels,
            leaf_flags=_leaves(levels, (leaf,) + (block,) * self._largest_block),
            rights=rights,
            address_mask=_bits(49 if self.is_ds else min(47, self.output_bits - 1), self.granule_lg2),
            high_mask=high_mask,
            high_shift=high_shift,
        )

    @property
    def _high(self) -> tuple[int, int]:
        """Address bits that stand elsewhere, and how far to the right."""
        if self.is_ds:
            return _bits(51, 50), 50 - 8
        if self.granule_lg2 == 16 and self.output_bits > 48:
            return _bits(51, 48), 48 - 12
        return 0, 0

    @property
    def _largest_block(self) -> int:
        wide = self.output_bits > 48 if self.granule_lg2 == 16 else self.is_ds
        return (2 if self.granule_lg2 == 12 else 1) + wide


def _arm_levels(input_bits: int, granule_lg2: int) -> int:
    """Say how many levels an input needs without concatenation."""
    _check("input bits", input_bits, granule_lg2 + 1, 52)
    return -(-(input_bits - granule_lg2) // (granule_lg2 - 3))


def _leaves(levels: int, flags: Iterable[int]) -> tuple[int | None, ...]:
    """Give flags for each level, None for those above the largest leaf."""
    known = tuple(flags)[:levels]
    return known + (None,) * (levels - len(known))


def _rights(read: int, write: int) -> tuple[int, int, int, int]:
    """Give flags for no right, READ, WRITE and both."""
    return 0, read, write, read | write


def _bits(high: int, low: int) -> int:
    return (1 << high + 1) - (1 << low)


def _check(what: str, value: int, first: int, last: int) -> None:
    if not first <= value <= last:
        raise OutOfRange(what, value, last, first)
