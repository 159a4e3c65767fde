"""The invalidation sanitizer: which cached translation was used after its tables changed, and what would have helped.

Off by default (`Machine(sanitize=True)`), and free when off.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from viommu._engine import NO_PASID
from viommu.faults import Access, Stage
from viommu.stale import Cause, StaleUse, Store
from viommu.translation import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu._engine import Context, Translator
    from viommu.faults import Refusal

__all__ = [
    "Sanitizer",
]

MOST_REPORTS = 1024
"""Stale uses that are kept until somebody looks at them; later ones are counted only."""

MOST_STORES = 65536
"""Words whose last store through the machine is remembered; the oldest are forgotten first."""


@define(eq=False)
class Sanitizer:
    """What one machine's sanitizer found. ``reports`` are the first stale uses of each entry, oldest first."""

    _translator: Translator
    _configure: Callable[[int, int | None], Context | Refusal]
    _cure: Callable[[StaleUse], str]
    reports: list[StaleUse] = field(factory=list, init=False)
    unreported: int = field(default=0, init=False)
    _stores: OrderedDict[int, Store] = field(factory=OrderedDict, init=False)

    def counts(self) -> dict[str, int]:
        """How often a cache was ``checked`` and found ``stale``, and what invalidations removed.

        ``removed_nothing`` counts invalidations that were superfluous, ``removed_right`` entries that an invalidation
        took although they were right, ``removed_stale`` those that it had to take.
        """
        return self._translator.sanitizer_counts()

    def stored(self, pa: int, was: int, value: int) -> None:
        """Remember a store of a 64-bit word through the machine (a `viommu.memory` watcher)."""
        self._stores[pa] = Store(pa, was, value, self._translator.sanitizer_now)
        self._stores.move_to_end(pa)
        while len(self._stores) > MOST_STORES:
            self._stores.popitem(last=False)

    def check_context(self, requester: int, iova: int, access: Access, pasid: int | None) -> None:
        """Hold the context cache against the structures in memory, for an access to ``iova`` (bytes)."""
        cached = self._translator.cached_context(requester, NO_PASID if pasid is None else pasid)
        if cached is None:
            return
        fresh = self._configure(requester, pasid)
        if fresh != cached:
            now = self._translator.sanitizer_now
            self.add(StaleUse("context cache", requester, pasid, iova, access, cached, fresh, now=now))

    def collect(self) -> None:
        """Take over what the engine found since it was last asked."""
        for use in self._translator.stale_uses():
            self.add(self._of_engine(use))

    def add(self, use: StaleUse) -> None:
        """Keep one report, with its cure."""
        if len(self.reports) >= MOST_REPORTS:
            self.unreported += 1
            return
        self.reports.append(evolve(use, cure=self._cure(use)))

    def _of_engine(self, use: dict[str, Any]) -> StaleUse:
        cached, fresh, cause = use["cached"], use["fresh"], use["cause"]
        requester, pasid = use["requester"], use["pasid"]
        return StaleUse(
            cache=use["cache"],
            requester=requester,
            pasid=pasid,
            iova=cached.iova,
            access=Access(cached.access),
            cached=outcome_of(requester, pasid, cached),
            fresh=outcome_of(requester, pasid, fresh),
            stage2_tag=use["stage2_tag"],
            stage1_tag=use["stage1_tag"],
            page_size=1 << use["page_lg2"],
            cause=None if cause is None else self._cause(cause),
            made=use["made"],
            last_right=use["last_right"],
            now=use["now"],
        )

    def _cause(self, cause: dict[str, int]) -> Cause:
        store = self._stores.get(cause["pa"])
        if store is not None and store.value != cause["is"]:
            store = None  # somebody else wrote after it
        return Cause(cause["pa"], Stage(cause["stage"]), cause["level"], cause["was"], cause["is"], store)
