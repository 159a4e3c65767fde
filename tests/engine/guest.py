"""A guest's memory, and tables written into it as an operating system would: by plain index arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from attrs import define, field, frozen

from viommu._engine import X86, ArmHalf, ArmStage1, Context, Iotlb, Memory, Result, Translator, VtdSecondStage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PAGE = 0x1000
BASE = 0x8000_0000


@frozen
class Encoding:
    """How entries of one kind of tables are written: a table, and a leaf of a level, which all may use."""

    table: Callable[[int], int]
    leaf: Callable[[int, int], int]


X86_ENTRIES = Encoding(lambda a: a | 0x67, lambda a, level: a | 0x67 | (0x80 if level else 0))
VTD_ENTRIES = Encoding(lambda a: a | 3, lambda a, level: a | 3 | (0x80 if level else 0))
ARM_NG = 1 << 11
ARM_ENTRIES = Encoding(lambda a: a | 3, lambda a, level: a | ARM_NG | 0x441 | (0 if level else 2))


@define
class Guest:
    """1 MiB of memory at `BASE`; pages are handed out from its start."""

    words: NDArray[np.uint64] = field(factory=lambda: np.zeros(1 << 17, np.uint64))
    memory: Memory = field(factory=Memory)
    _next: int = BASE

    def __attrs_post_init__(self) -> None:
        self.memory.map(BASE, self.words.data)

    def page(self) -> int:
        self._next += PAGE
        return self._next - PAGE

    def __getitem__(self, pa: int) -> int:
        return int(self.words[(pa - BASE) // 8])

    def __setitem__(self, pa: int, value: int) -> None:
        self.words[(pa - BASE) // 8] = value

    def tables(self, encoding: Encoding) -> Tables:
        return Tables(self, encoding, self.page())


@define
class Tables:
    """Four levels of 512 entries."""

    guest: Guest
    encoding: Encoding
    root: int
    _beneath: dict[int, int] = field(factory=dict)

    def entry(self, iova: int, level: int = 0) -> int:
        """Where the entry lies that decides about ``iova`` at ``level``; the tables above it are made."""
        table = self.root
        for at in range(3, level, -1):
            above = self._index(table, iova, at)
            if above not in self._beneath:
                self._beneath[above] = self.guest.page()
                self.guest[above] = self.encoding.table(self._beneath[above])
            table = self._beneath[above]
        return self._index(table, iova, level)

    def map(self, iova: int, to: int, level: int = 0, *, clear: int = 0) -> None:
        self.guest[self.entry(iova, level)] = self.encoding.leaf(to, level) & ~clear

    def unmap(self, iova: int, level: int = 0) -> None:
        self.guest[self.entry(iova, level)] = 0

    def restore(self, iova: int, level: int) -> None:
        """Let the entry at ``level`` lead to its table again, after a large leaf or a hole was there."""
        above = self.entry(iova, level)
        self.entry(iova, level - 1)
        self.guest[above] = self.encoding.table(self._beneath[above])

    @staticmethod
    def _index(table: int, iova: int, level: int) -> int:
        return table + (iova >> (12 + 9 * level) & 511) * 8

    def arm(self, stage1_tag: int = 0, stage2_tag: int = 0, **half: bool) -> Context:
        stage1 = ArmStage1(lower=ArmHalf(table=self.root, input_bits=48, granule_lg2=12, **half))
        return Context(stage1=stage1, stage1_tag=stage1_tag, stage2_tag=stage2_tag)

    def x86(self, stage1_tag: int = 0, **settings: Any) -> Context:  # noqa: ANN401 # whatever a Context has
        return Context(stage1=X86(table=self.root, levels=4), stage1_tag=stage1_tag, **settings)

    def vtd(self, stage2_tag: int = 0, **settings: Any) -> Context:  # noqa: ANN401
        return Context(stage2=VtdSecondStage(table=self.root, levels=4), stage2_tag=stage2_tag, **settings)


@define
class Resolver:
    """What a hardware model is to the engine: configurations by requester; what it lacks is refused."""

    contexts: dict[int, Context] = field(factory=dict)
    asked: list[tuple[int, int]] = field(factory=list)

    def __call__(self, requester: int, pasid: int) -> object:
        self.asked.append((requester, pasid))
        return self.contexts.get(requester, f"no entry for {requester}")


class Resolve(Protocol):
    def __call__(self, requester: int, pasid: int, /) -> object: ...


def translator(guest: Guest, resolve: Resolve, iotlb: Iotlb | None = None, **entries: int) -> Translator:
    """One with an unbounded IOTLB, unless another is given; ``entries``: of its other caches."""
    iotlb = Iotlb(entries=None) if iotlb is None else iotlb
    return Translator(guest.memory, resolve, iotlb=iotlb, **entries)  # type: ignore[arg-type] # `sanitize` is no int


def translated(answer: Result | tuple[Result, object]) -> Result:
    """The result of an access whose configuration was not refused."""
    assert isinstance(answer, Result)
    return answer


def column(values: object, dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    return np.array(values, dtype)
