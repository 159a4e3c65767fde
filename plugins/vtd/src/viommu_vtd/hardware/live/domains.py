"""Which cached contexts belong to which domain, so that an invalidation by DID reaches those alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field

from viommu.commands import CommandTable
from viommu_vtd.translate import PASID_SHIFT

if TYPE_CHECKING:
    from viommu.formats import Context

Key: TypeAlias = tuple[int, int | None]
"""(source-id, the request's own PASID)."""

MOST_CONTEXTS = 65536
"""Contexts that are told apart. Beyond, an invalidation by domain drops those of every domain, which is allowed."""


@define(eq=False)
class Domains:
    """What was configured with each DID since that was last invalidated."""

    nested: CommandTable = field(factory=CommandTable)
    """DIDs that nested translations may be cached with (each stands for itself).

    Once one has been, it stays: contexts that outlive an invalidation of the IOTLB make such translations again.
    """
    _contexts: dict[int, dict[Key, int]] = field(factory=dict)
    _count: int = 0
    _lost: bool = False

    def add(self, requester: int, pasid: int | None, context: Context) -> None:
        """Remember a context, and the PASID whose table entry it came from."""
        if context.stage1 is not None and context.stage2 is not None:
            self.nested.add(context.stage2_tag, context.stage2_tag)
        members = self._contexts.setdefault(context.stage2_tag, {})
        if (requester, pasid) not in members:
            self._count += 1
        members[requester, pasid] = context.driver_bits >> PASID_SHIFT
        if self._count > MOST_CONTEXTS:
            self.forget()
            self._lost = True

    def take(self, domain: int, pasid: int | None = None) -> list[Key] | None:
        """Give what is cached of a domain (and of one PASID in it), and forget it. None: nobody knows, drop all."""
        if self._lost:
            self.forget()
            return None
        members = self._contexts.get(domain, {})
        taken = [key for key, entry in members.items() if pasid in (None, entry)]
        for key in taken:
            del members[key]
        if not members:
            self._contexts.pop(domain, None)
        self._count -= len(taken)
        return taken

    def forget(self) -> None:
        """All contexts were dropped."""
        self._contexts.clear()
        self._count = 0
        self._lost = False
