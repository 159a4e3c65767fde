"""The kit's own page tables, beside those that the engine writes by the same shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.io_page_table import IoPageTable
from viommu.memory import PhysicalMemory
from viommu.ops import Prot
from viommu.table_frames import TableFrames
from viommu.table_shapes import amd_v1, arm_stage1, arm_stage2, riscv, vtd_second_stage, x86
from viommu.testing.byhand import Ram
from viommu.testing.tables import Tables

if TYPE_CHECKING:
    from viommu.io_page_table import TableShape

SHAPES = {
    "amd": amd_v1(),
    "arm 4K": arm_stage1(),
    "arm 16K": arm_stage1(47, 14),
    "arm 64K": arm_stage1(48, 16),
    "arm stage 2": arm_stage2(40),
    "riscv": riscv(3),
    "riscv guest": riscv(4, guest_stage=True),
    "vtd": vtd_second_stage(),
    "x86": x86(),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(data=st.data())
def test_a_leaf_is_the_word_that_the_engine_writes(shape: TableShape, data: st.DataObject) -> None:
    level = data.draw(st.sampled_from([at for at, flags in enumerate(shape.leaf_flags) if flags is not None]))
    span = shape.span_lg2(level)
    iova = data.draw(st.integers(0, (1 << shape.input_bits) - 1)) >> span << span
    address = data.draw(st.integers(0, (1 << 40) - 1)) >> span << span
    write = data.draw(st.booleans())
    memory = PhysicalMemory()
    ours, theirs = Tables(Ram(memory), shape), IoPageTable(TableFrames(memory), shape)
    at = ours.map(iova, address, level=level, write=write)
    theirs.map(iova, address, 1 << span, Prot.READ | (Prot.WRITE if write else Prot(0)))
    found = theirs.leaf(iova)
    assert found is not None
    assert found.entry == memory.load(at)
    walked = ours.walk(iova + 0x123)
    assert walked is not None
    assert (walked.address, walked.lg2) == (address + 0x123, span)
    assert walked.writable == write


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_is_not_mapped_leads_nowhere(shape: TableShape) -> None:
    tables = Tables(Ram(PhysicalMemory()), shape)
    tables.map(0, 1 << 20)
    assert tables.walk(1 << shape.granule_lg2) is None
    tables.unmap(0)
    assert tables.walk(0) is None
