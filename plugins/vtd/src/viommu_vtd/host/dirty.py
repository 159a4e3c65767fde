"""Which pages devices wrote to, from the leaves of second stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viommu.formats import Context, VtdSecondStage, read_dirty
from viommu.kernel_errors import Invalid
from viommu_vtd.host.domain import Drop
from viommu_vtd.host.requests import PAGE_LG2, Pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viommu.ops import DirtyBitmap
    from viommu_vtd.host.paging import SecondStageDomain

WIDEST_ADDRESS = 52


def report(domain: SecondStageDomain, iova: int, length: int, bitmap: DirtyBitmap | None, *, clear: bool) -> None:
    """Report what was written, whole leaves. After a ``clear`` no cache knows a page as dirty. Raises Invalid."""
    if bitmap is not None and not domain.tracking:
        raise Invalid("second-stage domain", "dirty tracking", bound="switched on")
    context = Context(
        stage2=VtdSecondStage(
            table=domain.table.root,
            levels=domain.width + 2,
            input_bits=domain.bits,
            output_bits=WIDEST_ADDRESS,
            page_2m=True,
            page_1g=True,
            accessed_dirty=True,
        )
    )
    bits = read_dirty(domain.memory.engine, context, iova, iova + length - 1, PAGE_LG2, clear=clear)
    found = list(_runs(bits))
    if bitmap is not None:
        for first, end in found:
            bitmap.mark(iova + (first << PAGE_LG2), end - first << PAGE_LG2)
    if clear and found:
        domain.drop(Drop(Pages.around(iova, iova + length - 1), leaf_only=True))


def _runs(bits: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Give the stretches of pages [first, end) whose bits are set."""
    pages = np.unpackbits(bits, bitorder="little")
    edges = np.flatnonzero(np.diff(pages, prepend=0, append=0))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
