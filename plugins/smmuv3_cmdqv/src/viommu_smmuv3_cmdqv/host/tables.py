"""The structures that the host's driver keeps in memory: the stream table, and the CD tables of devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_smmuv3_cmdqv.host.abilities import SPLIT
from viommu_smmuv3_cmdqv.host.memory import pages_of
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD, L1CD
from viommu_smmuv3_cmdqv.spec.registers import STRTAB_BASE, STRTAB_BASE_CFG, StreamTableFormat
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE, ContextTableFormat

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.host.memory import Frames, Memory

ABORTS = STE(V=1)
"""What every stream has until somebody attaches something: transactions end, and nothing is recorded."""
CD_LEAF_LG2 = 10
"""Log2 of the CDs in one leaf of 64 KB."""


@define(eq=False)
class StreamTable:
    """The stream table: linear, or with leaves of 256 STEs that are made when their first device comes."""

    memory: Memory
    frames: Frames
    sid_bits: int
    two_level: bool
    address: int = field(init=False)
    _leaves: dict[int, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Make it. Raises NoMemory."""
        self.address = self.frames.allocate(self._pages)
        if not self.two_level:
            self.memory.write(self.address, ABORTS.encode() * (1 << self.sid_bits))

    @property
    def base(self) -> STRTAB_BASE:
        """What hardware is told of where it is."""
        return STRTAB_BASE(ADDR=self.address, RA=1)

    @property
    def configuration(self) -> STRTAB_BASE_CFG:
        """What hardware is told of its form."""
        if self.two_level:
            return STRTAB_BASE_CFG(LOG2SIZE=self.sid_bits, SPLIT=SPLIT, FMT=StreamTableFormat.TWO_LEVEL)
        return STRTAB_BASE_CFG(LOG2SIZE=self.sid_bits, FMT=StreamTableFormat.LINEAR)

    def add(self, sid: int) -> bool:
        """Make room for a stream; whether a new leaf was needed. Raises NoMemory."""
        index = sid >> SPLIT
        if not self.two_level or index in self._leaves:
            return False
        leaf = self.frames.allocate(pages_of(STE.size << SPLIT))
        self.memory.write(leaf, ABORTS.encode() * (1 << SPLIT))
        self.memory.store(self.address + index * L1STD.size, int(L1STD(SPAN=SPLIT + 1, L2PTR=leaf)))
        self._leaves[index] = leaf
        return True

    def ste(self, sid: int) -> int:
        """Where a stream's STE is."""
        if self.two_level:
            return self._leaves[sid >> SPLIT] + (sid & (1 << SPLIT) - 1) * STE.size
        return self.address + sid * STE.size

    def free(self) -> None:
        """Give all of it back."""
        for leaf in self._leaves.values():
            self.frames.free(leaf, pages_of(STE.size << SPLIT))
        self.frames.free(self.address, self._pages)

    @property
    def _pages(self) -> int:
        return pages_of(L1STD.size << self.sid_bits - SPLIT if self.two_level else STE.size << self.sid_bits)


@define(eq=False)
class CdTable:
    """The CDs of one device: linear, or with leaves of 1024 CDs that are made when they are needed.

    ``used``: SSIDs that have a CD.
    """

    memory: Memory
    frames: Frames
    lg2: int
    two_level: bool
    used: set[int] = field(factory=set)
    address: int = field(init=False)
    _leaves: dict[int, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Make it. Raises NoMemory."""
        self.address = self.frames.allocate(self._pages)

    @property
    def format(self) -> ContextTableFormat:
        """Its form, as STEs name it."""
        return ContextTableFormat.TWO_LEVEL_64K if self.two_level else ContextTableFormat.LINEAR

    @property
    def has_substreams(self) -> bool:
        """Whether a CD beside that of SSID 0 is used."""
        return bool(self.used - {0})

    def add(self, ssid: int) -> bool:
        """Make room for a CD; whether a new leaf was needed. Raises NoMemory."""
        index = ssid >> CD_LEAF_LG2
        if not self.two_level or index in self._leaves:
            return False
        leaf = self.frames.allocate(pages_of(CD.size << CD_LEAF_LG2))
        self.memory.store(self.address + index * L1CD.size, int(L1CD(V=1, L2PTR=leaf)))
        self._leaves[index] = leaf
        return True

    def cd(self, ssid: int) -> int:
        """Where a CD is."""
        if self.two_level:
            return self._leaves[ssid >> CD_LEAF_LG2] + (ssid & (1 << CD_LEAF_LG2) - 1) * CD.size
        return self.address + ssid * CD.size

    def free(self) -> None:
        """Give all of it back."""
        for leaf in self._leaves.values():
            self.frames.free(leaf, pages_of(CD.size << CD_LEAF_LG2))
        self.frames.free(self.address, self._pages)

    @property
    def _pages(self) -> int:
        return pages_of(L1CD.size << self.lg2 - CD_LEAF_LG2 if self.two_level else CD.size << self.lg2)
