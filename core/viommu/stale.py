"""What the sanitizer tells: a use of a cache that no longer said what the tables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from viommu.faults import Access, Stage

__all__ = [
    "Cause",
    "StaleUse",
    "Store",
]


@frozen
class Store:
    """A store through the machine to one 64-bit word, after so many translations."""

    pa: int = field(repr=hex)
    was: int = field(repr=hex)
    value: int = field(repr=hex)
    when: int


@frozen
class Cause:
    """The table entry that changed (``pa`` in bytes).

    ``value`` is what it holds now, ``store`` what put it there, if that was seen.
    """

    pa: int = field(repr=hex)
    stage: Stage
    level: int
    was: int = field(repr=hex)
    value: int = field(repr=hex)
    store: Store | None = None

    def __str__(self) -> str:
        by = "behind the machine's back" if self.store is None else f"after translation {self.store.when}"
        return (
            f"stage {int(self.stage)} level {self.level} entry at {self.pa:#x}: "
            f"{self.was:#x} -> {self.value:#x}, stored {by}"
        )


@frozen
class StaleUse:
    """One use of a cache that no longer says what the tables say.

    ``cache`` is ``iotlb``, ``walk cache``, ``context cache`` or ``device TLB``. ``stage1_tag`` is a tag, ``global``, or
    None (stage 2 alone). ``made``, ``last_right`` and ``now`` count translations: the entry was right at
    ``last_right`` for the last time that anybody looked. ``cure`` is, in the vendor's words, an invalidation that would
    have been enough.
    """

    cache: str
    requester: int = field(repr=hex)
    pasid: int | None
    iova: int = field(repr=hex)
    access: Access
    cached: object
    fresh: object
    stage2_tag: int = 0
    stage1_tag: int | str | None = None
    page_size: int = field(default=0, repr=hex)
    cause: Cause | None = None
    made: int = 0
    last_right: int = 0
    now: int = 0
    cure: str = ""

    def __str__(self) -> str:
        lines = [
            f"stale {self.cache}: {self.access.name} of IOVA {self.iova:#x} by {self.requester:#x}"
            + ("" if self.pasid is None else f", PASID {self.pasid:#x}"),
            f"  cached: {_told(self.cached)}",
            f"  tables: {_told(self.fresh)}",
        ]
        if self.cause is not None:
            lines.append(f"  {self.cause}")
        lines.append(f"  made at translation {self.made}, last right at {self.last_right}, used at {self.now}")
        if self.cure:
            lines.append(f"  would have been enough: {self.cure}")
        return "\n".join(lines)


def _told(what: object) -> str:
    """Write a Translation, a Fault, or a configuration, in a few words."""
    pa, rights, kind = getattr(what, "pa", None), getattr(what, "rights", None), getattr(what, "kind", None)
    if pa is not None and rights is not None:
        return f"PA {pa:#x}, {rights.name}"
    return str(what) if kind is None else f"fault {kind.name}"
