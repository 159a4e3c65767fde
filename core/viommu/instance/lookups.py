"""Accesses through the caches and the tables of one IOMMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, frozen

from viommu._engine import NO_PASID, Context, Iotlb, Translator, explain_walk, walk
from viommu.faults import Access, Fault, Refusal
from viommu.hardware import CheckedHardware, Silence
from viommu.requests import first_rows
from viommu.sanitizer import Sanitizer
from viommu.stale import StaleUse
from viommu.translation import Translations, outcome_of, pasid_of, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.devices import Held
    from viommu.memory import PhysicalMemory
    from viommu.requests import Requests
    from viommu.translation import Outcome

    Watcher = Callable[[int, int, int], None]


@frozen
class Resolver:
    """What the engine asks on a configuration miss."""

    hardware: CheckedHardware

    def __call__(self, requester: int, pasid: int) -> Context | Refusal:
        """Find what governs a (requester, PASID), or why nothing does."""
        return self.hardware.configure(requester, pasid_of(pasid), Silence())


@define(eq=False)
class Lookups:
    """The translator of one IOMMU, held against the tables at each use where a sanitizer was asked for.

    Nothing here is recorded: an `viommu.faults.Fault` is an answer.
    """

    hardware: CheckedHardware
    memory: PhysicalMemory
    translator: Translator
    sanitizer: Sanitizer | None = None

    @classmethod
    def through(
        cls,
        hardware: CheckedHardware,
        memory: PhysicalMemory,
        iotlb: Iotlb | None,
        walk_cache_entries: int,
        *,
        sanitize: bool,
    ) -> Lookups:
        """Put caches in front of a hardware model's configuration."""
        translator = Translator(
            memory.engine,
            Resolver(hardware),
            iotlb=iotlb,
            walk_cache_entries=walk_cache_entries,
            sanitize=sanitize,
        )
        made = cls(hardware, memory, translator)
        if sanitize:
            made.sanitizer = Sanitizer(translator, made.configured, hardware.cure)
            memory.watcher = _both(memory.watcher, made.sanitizer.stored)
        return made

    def configured(self, requester: int, pasid: int | None) -> Context | Refusal:
        """Ask the hardware what governs a device, past the caches."""
        return self.hardware.configure(requester, pasid, Silence())

    def one(self, requester: int, iova: int, access: Access, pasid: int | None) -> Outcome:
        """Translate one access."""
        if self.sanitizer is not None:
            self.sanitizer.check_context(requester, iova, access, pasid)
        answer = self.translator.translate(requester, iova, access, NO_PASID if pasid is None else pasid)
        result, refusal = answer if isinstance(answer, tuple) else (answer, None)
        outcome = outcome_of(requester, pasid, result, refusal)
        if self.sanitizer is not None:
            self.sanitizer.collect()
        return outcome

    def many(self, asked: Requests) -> Translations:
        """Translate rows, in order."""
        if self.sanitizer is not None:
            for key, row in first_rows(asked).items():
                self.sanitizer.check_context(key[0], int(asked.iova[row]), Access(int(asked.access[row])), key[1])
        batch = self.translator.translate_many(asked.requester, asked.iova, asked.access, asked.pasid, Translations)
        if self.sanitizer is not None:
            self.sanitizer.collect()
        return batch

    def admitted(
        self, admitted: Context | Refusal | None, requester: int, iova: int, access: Access, pasid: int | None
    ) -> Outcome:
        """Translate as the hardware has admitted an ATS request (`viommu.hookspecs.LiveHardware.admit`)."""
        if isinstance(admitted, Refusal):
            return refused(requester, pasid, iova, access, admitted)
        if isinstance(admitted, Context):
            return outcome_of(requester, pasid, walk(self.memory.engine, admitted, iova, access))
        return self.one(requester, iova, access, pasid)

    def check_held(self, requester: int, iova: int, access: Access, pasid: int | None, held: Held) -> None:
        """Let the sanitizer, if there is one, judge a translation that a device TLB is about to use."""
        if self.sanitizer is None:
            return
        fresh = self._fresh(requester, iova, access, pasid)
        if isinstance(fresh, Fault) or fresh.pa != held.pa | iova & (1 << held.size_lg2) - 1:
            self.sanitizer.add(
                StaleUse(
                    "device TLB",
                    requester,
                    pasid,
                    iova,
                    access,
                    cached=f"PA {held.pa:#x}, {held.rights.name}",
                    fresh=fresh,
                    page_size=1 << held.size_lg2,
                    now=self.translator.sanitizer_now,
                )
            )

    def _fresh(self, requester: int, iova: int, access: Access, pasid: int | None) -> Outcome:
        context = self.configured(requester, pasid)
        if isinstance(context, Refusal):
            return refused(requester, pasid, iova, access, context)
        return outcome_of(requester, pasid, explain_walk(self.memory.engine, context, iova, access)[0])


def _both(first: Watcher | None, second: Watcher) -> Watcher:
    """Let two watchers see each store: every IOMMU of a machine may have a sanitizer."""
    if first is None:
        return second
    other = first

    def watched(pa: int, old: int, new: int) -> None:
        other(pa, old, new)
        second(pa, old, new)

    return watched
