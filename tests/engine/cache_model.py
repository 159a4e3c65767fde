"""What an IOTLB must do, as a dict: no hardware, no engine, no clever structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

GLOBAL = "global"
ALONE = "stage 2 alone"
Tag: TypeAlias = int | str
Key: TypeAlias = tuple[int, Tag, int, int]
"""Stage-2 tag, stage-1 tag, log2 of the page size, page number."""


@frozen
class Leaf:
    """A page as the tables say: where it goes, its size, whether any stage-1 tag may use it."""

    frame: int
    lg2: int
    of_all: bool = False


@define
class Space:
    """One address space: its tags, and its pages of 2 MiB (which come first) and 4 KiB."""

    stage2_tag: int
    tag: Tag
    leaves: dict[tuple[int, int], Leaf] = field(factory=dict)

    def walk(self, iova: int) -> Leaf | None:
        return self.leaves.get((21, iova >> 21)) or self.leaves.get((12, iova >> 12))


@define
class CacheModel:
    """An unbounded IOTLB in front of address spaces."""

    entries: dict[Key, int] = field(factory=dict)
    hits: int = 0
    misses: int = 0
    faults: int = 0

    def translate(self, space: Space, iova: int) -> int | None:
        """Where the access goes, stale or not; None: a translation fault."""
        for tag in (space.tag, GLOBAL):
            for lg2 in (12, 21):
                frame = self.entries.get((space.stage2_tag, tag, lg2, iova >> lg2))
                if frame is not None and (tag == space.tag or space.tag != ALONE):
                    self.hits += 1
                    return frame + iova % (1 << lg2)
        self.misses += 1
        leaf = space.walk(iova)
        if leaf is None:
            self.faults += 1
            return None
        tag = GLOBAL if leaf.of_all else space.tag
        self.entries[space.stage2_tag, tag, leaf.lg2, iova >> leaf.lg2] = leaf.frame
        return leaf.frame + iova % (1 << leaf.lg2)

    def drop(self, goes: Callable[[Key], bool]) -> None:
        self.entries = {key: frame for key, frame in self.entries.items() if not goes(key)}

    def invalidate_all(self) -> None:
        self.entries.clear()

    def invalidate_stage2_tag(self, stage2_tag: int, *, stage1_only: bool) -> None:
        self.drop(lambda key: key[0] == stage2_tag and not (stage1_only and key[1] == ALONE))

    def invalidate_stage1_tag(self, stage2_tag: int, stage1_tag: int) -> None:
        self.drop(lambda key: key[:2] == (stage2_tag, stage1_tag))

    def invalidate_range(self, stage2_tag: int, stage1_tag: int | None, start: int, last: int) -> None:
        def named(tag: Tag) -> bool:
            return tag != ALONE and (stage1_tag is None or tag in {stage1_tag, GLOBAL})

        self.drop(lambda key: key[0] == stage2_tag and named(key[1]) and touches(key, start, last))

    def invalidate_stage2_range(self, stage2_tag: int, start: int, last: int) -> None:
        self.drop(lambda key: key[:2] == (stage2_tag, ALONE) and touches(key, start, last))


def touches(key: Key, start: int, last: int) -> bool:
    """Whether a page and a range of addresses have any in common."""
    _, _, lg2, page = key
    return page << lg2 <= last and start < page + 1 << lg2
