"""A page table of 4 KiB leaves, written entry by entry from the specification: what a host's domain needs of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from plugins.vtd.tests.hosted import Bump
    from viommu.ops import Prot

PAGE = 4096
ADDRESS = 0xF_FFFF_FFFF_F000


@define(eq=False)
class Gone:
    """What an unmap leaves to do: to note that software has done with it, for tables stay."""

    table: PlainTable
    tables: int = 0

    def free(self) -> None:
        self.table.freed += 1


@define(eq=False)
class PlainTable:
    """``first``: P, RW, US, A and D (3.6); else R and W (3.7)."""

    frames: Bump
    levels: int
    first: bool
    root: int = field(init=False)
    leaves: dict[int, int] = field(factory=dict)
    freed: int = 0

    def __attrs_post_init__(self) -> None:
        self.root = self.frames.allocate()

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None, extra: int = 0) -> None:  # noqa: ARG002
        for offset in range(0, length, PAGE):
            rights = (0x25 | (0x42 if prot & 2 else 0)) if self.first else int(prot)
            self.frames.memory.store(self._leaf(iova + offset), pa + offset | rights | extra)
            self.leaves[iova + offset] = pa + offset

    def unmap(self, iova: int, length: int) -> Gone:
        for offset in range(0, length, PAGE):
            self.frames.memory.store(self._leaf(iova + offset), 0)
            del self.leaves[iova + offset]
        return Gone(self)

    def physical(self, iova: int) -> int | None:
        pa = self.leaves.get(iova & -PAGE)
        return None if pa is None else pa | iova & PAGE - 1

    def free(self) -> None:
        self._free(self.root, self.levels - 1)

    def _leaf(self, iova: int) -> int:
        table = self.root
        for level in range(self.levels - 1, 0, -1):
            at = table + (iova >> 12 + 9 * level & 0x1FF) * 8
            entry = self.frames.memory.load(at) or 0
            if not entry:
                entry = self.frames.allocate() | (0x27 if self.first else 3)
                self.frames.memory.store(at, entry)
            table = entry & ADDRESS
        return table + (iova >> 12 & 0x1FF) * 8

    def _free(self, table: int, level: int) -> None:
        for at in range(table, table + PAGE, 8) if level else ():
            entry = self.frames.memory.load(at) or 0
            if entry:
                self._free(entry & ADDRESS, level - 1)
        self.frames.free(table)
