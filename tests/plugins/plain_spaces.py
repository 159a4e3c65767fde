"""Address spaces as plain arrays of pages: what every machine has to do, without a table, a tag or a cache."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from attrs import define, field, frozen

from viommu.faults import Access

if TYPE_CHECKING:
    from numpy.typing import NDArray

Answer: TypeAlias = "tuple[object, ...]"

BASE = 1 << 30
PAGE, LARGE = 0x1000, 1 << 21
SPAN_PAGES = 3 * LARGE // PAGE
"""Pages of the IOVAs that a history uses; memory has one large page more."""
LENGTHS = (1, 4, 16, 64, LARGE // PAGE)
"""Pages of an area, which lies at a multiple of its length: an unmap of a longer one takes it whole."""
NOWHERE = -1


@frozen(eq=False)
class Accesses:
    """What a device asks for. ``told``: refused ones are recorded, as hardware does, and the host's driver reads them.

    That takes longer than all else.
    """

    pages: NDArray[np.uint64]
    rights: NDArray[np.uint8]
    told: bool


@define(eq=False)
class Plain:
    """Two spaces, and what governs a device."""

    where: NDArray[np.int64] = field(factory=lambda: np.full((2, SPAN_PAGES), NOWHERE))
    """By space and page: the page of memory."""
    written: NDArray[np.bool_] = field(factory=lambda: np.zeros((2, SPAN_PAGES), bool))
    """By space and page: whether it may be."""
    areas: list[dict[int, int]] = field(factory=lambda: [{}, {}])
    """By space: lengths of areas by their first page."""
    governs: dict[int, int] = field(factory=dict)
    """Spaces by PASID; 0 is that of requests without."""

    def map(self, space: int, page: int, length: int, offset: int, *, write: bool) -> Answer:
        end = page + length
        if (self.where[space, page:end] != NOWHERE).any():
            return ("refused", errno.EEXIST)
        self.where[space, page:end] = np.arange(offset, offset + length)
        self.written[space, page:end] = write
        self.areas[space][page] = length
        return ("done", BASE + page * PAGE)

    def unmap(self, space: int, page: int, length: int) -> Answer:
        """Unmap areas in their order, up to the first that would be cut."""
        gone = 0
        for start, size in sorted(self.areas[space].items()):
            if start + size <= page or start >= page + length:
                continue
            if start < page or start + size > page + length:
                return ("refused", errno.ENOENT)
            del self.areas[space][start]
            self.where[space, start : start + size] = NOWHERE
            gone += size
        return ("done", gone * PAGE) if gone else ("refused", errno.ENOENT)

    def govern(self, pasid: int | None, space: int | None, *, replace: bool) -> Answer:
        number = pasid or 0
        if space is None:
            self.governs.pop(number, None)
            return ("done", None)
        if replace != (number in self.governs):
            return ("refused", errno.EINVAL if replace else errno.EBUSY)
        self.governs[number] = space
        return ("done", True)

    def access(self, pasid: int | None, asked: Accesses) -> Answer:
        space = self.governs.get(pasid or 0)
        if space is None:
            return (NOWHERE,) * len(asked.pages)
        found = self.where[space, asked.pages]
        refused = ~self.written[space, asked.pages] & (asked.rights & int(Access.WRITE) != 0)
        return tuple(np.where(refused | (found == NOWHERE), NOWHERE, found * PAGE).tolist())

    def room(self, space: int, page: int, longest: int) -> tuple[int, int]:
        """Find where an area fits, from a page on: (page, length). Where nothing does, there, at its longest."""
        holes = np.flatnonzero(self.where[space] == NOWHERE)
        if not len(holes):
            return page // longest * longest, longest
        hole = int(holes[np.searchsorted(holes, page) % len(holes)])
        for length in reversed(LENGTHS[: LENGTHS.index(longest) + 1]):
            start = hole // length * length
            if (self.where[space, start : start + length] == NOWHERE).all():
                return start, length
        return hole, 1
