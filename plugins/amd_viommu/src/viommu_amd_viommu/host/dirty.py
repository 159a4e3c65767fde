"""Which pages devices wrote to, from the leaves of host tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viommu.formats import AmdV1, Context, read_dirty
from viommu.kernel_errors import Invalid
from viommu_amd_viommu.host import tags
from viommu_amd_viommu.host.ranges import PAGE, Pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viommu.ops import DirtyBitmap
    from viommu_amd_viommu.host.paging import HostTables

PAGE_LG2 = PAGE.bit_length() - 1


def read(domain: HostTables, iova: int, length: int, bitmap: DirtyBitmap | None, *, clear: bool) -> None:
    """Report what was written, whole leaves. After a ``clear`` no cache knows a page as dirty. Raises Invalid."""
    if bitmap is not None and not domain.tracking:
        raise Invalid("AMD domain", "dirty tracking", bound="switched on")
    context = Context(stage2=AmdV1(table=domain.table.root, mode=domain.levels, accessed=True, dirty=True))
    memory = domain.table.frames.memory
    bits = read_dirty(memory.engine, context, iova, iova + length - 1, PAGE_LG2, clear=clear)
    found = list(_runs(bits))
    if bitmap is not None:
        for first, end in found:
            bitmap.mark(iova + first * PAGE, (end - first) * PAGE)
    if clear and found:
        tags.drop(domain.tags, Pages.around(iova, iova + length - 1), directories=False)


def _runs(bits: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Give the stretches of pages [first, end) whose bits are set."""
    pages = np.unpackbits(bits, bitorder="little")
    edges = np.flatnonzero(np.diff(pages, prepend=0, append=0))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
