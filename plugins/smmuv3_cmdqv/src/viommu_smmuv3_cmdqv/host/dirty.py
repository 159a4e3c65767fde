"""Which pages devices wrote to, from the leaves of stage 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viommu.formats import ArmHalf, ArmStage1, Context, read_dirty
from viommu_smmuv3_cmdqv.host.abilities import VIRTUAL_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viommu.ops import DirtyBitmap
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain


def report(domain: PagingDomain, iova: int, length: int, bitmap: DirtyBitmap | None, *, clear: bool) -> None:
    """Report what was written, whole leaves. After a ``clear`` no cache knows a page as dirty."""
    half = ArmHalf(table=domain.table.root, input_bits=VIRTUAL_BITS, granule_lg2=domain.granule_lg2)
    stage1 = ArmStage1(
        lower=half,
        upper=None,
        output_bits=domain.smmu.able.output_bits,
        hardware_access=True,
        hardware_dirty=True,
    )
    memory = domain.smmu.memory.engine
    bits = read_dirty(memory, Context(stage1=stage1), iova, iova + length - 1, domain.granule_lg2, clear=clear)
    found = list(_runs(bits))
    if bitmap is not None:
        for first, end in found:
            bitmap.mark(iova + (first << domain.granule_lg2), end - first << domain.granule_lg2)
    if clear and found and domain.places:
        domain.forget(iova, length, domain.granule_lg2, leaf=True)


def _runs(bits: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Give the stretches of pages [first, end) whose bits are set."""
    pages = np.unpackbits(bits, bitorder="little")
    edges = np.flatnonzero(np.diff(pages, prepend=0, append=0))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
