"""Caches that hold every page of some address spaces, as much of a platform as executes commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from attrs import define, field

from tests.engine.guest import ARM_ENTRIES, ARM_NG, PAGE, VTD_ENTRIES, Guest, Resolver, translated
from viommu import PhysicalMemory
from viommu._engine import READ, Iotlb, Translator
from viommu.commands import Executor

if TYPE_CHECKING:
    from viommu.commands import Meanings
    from viommu.platform import Platform

PAGES = [region + index * PAGE for region in (0x4000_0000, 0x4020_0000) for index in (0, 1, 2, 15, 16, 511)]
GLOBAL = {0x4000_1000, 0x4021_0000}
"""Pages of stage 1 that are of every stage-1 tag."""
MAILBOX = 0x20_0000


@define
class Warm:
    """``spaces``: stage-2 tag and stage-1 tag (None: stage 2 alone) of requester 0, 1, ..."""

    spaces: list[tuple[int, int | None]]
    memory: PhysicalMemory = field(factory=PhysicalMemory)
    caches: Translator = field(init=False)

    def __attrs_post_init__(self) -> None:
        guest, resolver = Guest(memory=self.memory.engine), Resolver()
        for requester, (stage2_tag, own) in enumerate(self.spaces):
            tables = guest.tables(VTD_ENTRIES if own is None else ARM_ENTRIES)
            for page in PAGES:
                tables.map(page, page, clear=ARM_NG if own is not None and page in GLOBAL else 0)
            context = tables.vtd(stage2_tag) if own is None else tables.arm(own, stage2_tag)
            resolver.contexts[requester] = context
        self.memory.place(MAILBOX, np.zeros(PAGE, np.uint8))
        self.caches = Translator(guest.memory, resolver, iotlb=Iotlb(entries=1024), walk_cache_entries=256)
        for requester in range(len(self.spaces)):
            for page in PAGES:
                translated(self.caches.translate(requester, page, READ))
        self.caches.reset_counters()

    def executor(self, meanings: Meanings) -> Executor:
        """Execute commands on these caches."""
        return Executor(cast("Platform", self), meanings)

    def state(self) -> tuple[int, list[bool], list[tuple[int, int]], bytes | None]:
        """How many invalidations there were; contexts; whether each page hits, and what its walk reads; memory."""
        invalidations = self.caches.counters()["invalidations"]
        contexts = [self.caches.cached_context(requester) is not None for requester in range(len(self.spaces))]
        return invalidations, contexts, self._probed(), self.memory.read(MAILBOX, PAGE)

    def _probed(self) -> list[tuple[int, int]]:
        found = []
        for requester in range(len(self.spaces)):
            for page in PAGES:
                before = self.caches.counters()
                self.caches.translate(requester, page, READ)
                after = self.caches.counters()
                found.append((after["hits"] - before["hits"], after["entry_loads"] - before["entry_loads"]))
        return found


@define
class Written:
    """A platform whose caches write down what they are asked for."""

    memory: PhysicalMemory = field(factory=PhysicalMemory)
    calls: list[tuple[object, ...]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.memory.place(MAILBOX, np.zeros(PAGE, np.uint8))

    @property
    def caches(self) -> Any:  # noqa: ANN401 - the verbs of `viommu.platform.Caches`
        return self

    def executor(self, meanings: Meanings) -> Executor:
        """Execute commands on these caches: in Python, since they are not the engine's."""
        return Executor(cast("Platform", self), meanings)

    def invalidate_all(self) -> None:
        self.calls.append(("all",))

    def invalidate_stage2_tag(self, stage2_tag: int, *, stage1_only: bool = False) -> None:
        self.calls.append(("stage-2 tag", stage2_tag, stage1_only))

    def invalidate_stage1_tag(self, stage2_tag: int, stage1_tag: int) -> None:
        self.calls.append(("stage-1 tag", stage2_tag, stage1_tag))

    def invalidate_range(
        self, stage2_tag: int, stage1_tag: int | None, start: int, last: int, *, leaf_only: bool = False
    ) -> None:
        self.calls.append(("range", stage2_tag, stage1_tag, start, last, leaf_only))

    def invalidate_stage2_range(self, stage2_tag: int, start: int, last: int, *, leaf_only: bool = False) -> None:
        self.calls.append(("stage-2 range", stage2_tag, start, last, leaf_only))

    def invalidate_contexts(self, requester: int | None = None, pasid: int | None = None) -> None:
        self.calls.append(("contexts", requester, pasid))
