"""What every format's walk uses: the words of the contract, and one stage's view of its entries.

A format is a value with ``walk(stage, address, access) -> Leaf`` which raises `Fault`. It reads entries through
`Stage`, which remembers the entry being looked at, so that a fault names it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from attrs import AttrsInstance

if TYPE_CHECKING:
    from .memory import Memory

READ, WRITE, EXECUTE, PRIVILEGED = 1, 2, 4, 8
ALL_RIGHTS = READ | WRITE | EXECUTE
WHOLE = 64
"""``page_lg2`` of an untranslated access."""


class Kind(IntEnum):
    """The contract's fault kinds, by number."""

    NONE = 0
    CONFIGURATION = 1
    INPUT_SIZE = 2
    TRANSLATION = 3
    PERMISSION = 4
    ACCESS_FLAG = 5
    ADDRESS_SIZE = 6
    EXTERNAL_ABORT = 7
    RESERVED = 8
    MALFORMED = 9
    UPDATE_FAILED = 10
    UPDATE_FORBIDDEN = 11
    BLOCKED_OUTPUT = 12


class FaultClass(IntEnum):
    """For whose sake the refused address was used."""

    INPUT = 0
    TABLE = 1


class Leaf(NamedTuple):
    """Where one stage's walk ended well. The two rights are those of an unprivileged and a privileged access."""

    output: int
    page_lg2: int
    user: int
    privileged: int
    attrs: int
    level: int


class Fault(Exception):
    """What one stage found wrong, with the entry it was looking at."""

    def __init__(self, kind: Kind, stage: Stage, missing: int, for_update: bool) -> None:
        super().__init__(kind)
        self.kind = kind
        self.stage = stage.number
        self.level = stage.level
        self.top = stage.level == stage.top_level
        self.entry_address = stage.entry_pa
        self.entry_value = stage.entry
        self.missing = missing
        self.for_update = for_update
        self.fault_class = FaultClass.INPUT
        self.ipa: int | None = None
        self.for_top = False


class UndecidedError(Exception):
    """An entry was another one when its accessed/dirty flag was to be stored, though nobody else writes.

    Only tables that hold the stage-2 entry of their own page bring this about: a store through stage 2 sets a flag
    there. Hardware may read the entry again or begin the walk again, so that there is no one answer to compare.
    """


class Format(AttrsInstance, Protocol):
    """One page-table format with its parameters."""

    def walk(self, stage: Stage, address: int, access: int) -> Leaf:
        """Translate ``address`` for ``access``; raises Fault."""
        ...


def bits(high: int, low: int) -> int:
    """A mask of bits ``high`` down to ``low``."""
    return (1 << (high + 1)) - (1 << low)


def swapped(word: int) -> int:
    """The word with its bytes in the other order."""
    return int.from_bytes(word.to_bytes(8, "little"), "big")


class Stage:
    """One stage's walk: fetches entries, updates the one fetched last, and makes a fault of it."""

    def __init__(
        self,
        memory: Memory,
        number: int,
        *,
        blocked: tuple[int, int] | None = None,
        page_limit: int = WHOLE,
        for_table: bool = False,
    ) -> None:
        self.memory = memory
        self.number = number
        self.blocked = blocked
        self.page_limit = page_limit
        self.for_table = for_table
        """Whether this walk is made for the sake of a stage-1 entry."""
        self.top_level = 0
        self.level = 0
        self.big_endian = False
        self.address = 0
        self.entry_pa = 0
        self.entry = 0

    def begin(self, top_level: int, big_endian: bool = False) -> None:
        """Say where the walk starts; until an entry is fetched, a fault is of this level and names no entry."""
        self.top_level = self.level = top_level
        self.big_endian = big_endian

    def locate(self, address: int, access: int, for_update: bool) -> int:  # noqa: ARG002
        """The physical address of an entry. Behind stage 2 it is translated first (`walker.BehindStage2`)."""
        return address

    def fetch(self, address: int, level: int) -> int:
        """Read the entry at ``address``, which belongs to a table of ``level``."""
        self.level = level
        self.address = address
        self.entry_pa = self.locate(address, READ, False)
        word = self.memory.load(self.entry_pa)
        if word is None:
            self.entry = 0
            raise self.fault(Kind.EXTERNAL_ABORT)
        self.entry = swapped(word) if self.big_endian else word
        return self.entry

    def update(self, desired: int) -> None:
        """Store the accessed/dirty form of the entry fetched last, where it differs from what was read."""
        if desired == self.entry:
            return
        self.entry_pa = self.locate(self.address, WRITE, True)
        if self.memory.load(self.entry_pa) != self._in_memory(self.entry):
            raise UndecidedError
        if not self.memory.store(self.entry_pa, self._in_memory(desired)):
            raise self.fault(Kind.UPDATE_FAILED, for_update=True)

    def _in_memory(self, entry: int) -> int:
        return swapped(entry) if self.big_endian else entry

    def check_output(self, output: int, page_lg2: int) -> None:
        """Refuse a final page that touches the blocked range; the page is the smaller one of both stages."""
        if self.blocked is None:
            return
        size = 1 << min(page_lg2, self.page_limit)
        first = output & -size
        start, last = self.blocked
        if first <= last and start <= first + size - 1:
            raise self.fault(Kind.BLOCKED_OUTPUT)

    def fault(self, kind: Kind, missing: int = 0, *, for_update: bool = False) -> Fault:
        """A fault that names the entry fetched last."""
        return Fault(kind, self, missing, for_update)


def missing_rights(access: int, granted: int) -> int:
    """The rights that ``access`` wants and ``granted`` lacks."""
    return access & ALL_RIGHTS & ~granted
