"""Which pages devices wrote to, from the leaves of a second stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from viommu.formats import Context, Riscv, read_dirty
from viommu.kernel_errors import Invalid

from viommu_riscv.host.abilities import LEVELS
from viommu_riscv.host.requests import PAGE_LG2, Pages

if TYPE_CHECKING:
    from viommu.ops import DirtyBitmap

    from viommu_riscv.host.domains import SecondStageDomain


def report(domain: SecondStageDomain, iova: int, length: int, bitmap: DirtyBitmap | None, *, clear: bool) -> None:
    """Report what was written, whole leaves. After a ``clear`` no cache knows a page as dirty. Raises Invalid."""
    if bitmap is not None and not domain.tracking:
        raise Invalid("second-stage domain", "dirty tracking", bound="switched on")
    context = Context(stage2=Riscv(table=domain.table.root, levels=LEVELS[domain.mode], guest_stage=True))
    memory = domain.table.frames.memory
    bits = read_dirty(memory.engine, context, iova, iova + length - 1, PAGE_LG2, clear=clear)
    pages = np.unpackbits(bits, bitorder="little")
    edges = np.flatnonzero(np.diff(pages, prepend=0, append=0)).tolist()
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        if bitmap is not None:
            bitmap.mark(iova + (first << PAGE_LG2), end - first << PAGE_LG2)
    if clear and edges:
        domain.drop(Pages.around(iova, iova + length - 1), tables=False)
