"""Changing an entry that hardware may read at any moment, so that it never sees half of it.

Of each entry hardware looks at some bits and ignores others, which depends on the entry. Where the old and the new
entry differ in one word alone of what hardware looks at, that word is written by itself, with bits that are ignored
before and after being settled around it. Otherwise the entry is made invalid first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_smmuv3_cmdqv.host.memory import WORD, load_words
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.stream_table import STE, DefaultSubstream, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from viommu.layout import Descriptor
    from viommu_smmuv3_cmdqv.host.memory import Memory

WORDS = 8
WORD_BITS = 64
LOW_WORD = (1 << WORD_BITS) - 1
V = int(STE(V=1))


def used_by_ste(entry: int) -> int:
    """Tell which bits of an STE hardware looks at, given the others."""
    ste = STE.decode(entry)
    if not ste.V:
        return _mask(STE, "V")
    used = _mask(STE, "V", "Config")
    if ste.Config & 4 == 0:
        return used
    if ste.Config & 1:
        used |= _mask(STE, "S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "S1CIR", "S1COR", "S1CSH", "S1STALLD", "STRW")
        used |= _mask(STE, "EATS", "MEV", "S2VMID")
        if ste.S1DSS == DefaultSubstream.BYPASS_STAGE1:
            used |= _mask(STE, "SHCFG")
    if ste.Config & 2:
        used |= _mask(STE, "S2FWB", "EATS", "SHCFG", "MEV", "S2VMID", "S2T0SZ", "S2SL0", "S2IR0", "S2OR0", "S2SH0")
        used |= _mask(STE, "S2TG", "S2PS", "S2AA64", "S2ENDI", "S2PTW", "S2S", "S2R", "S2HA", "S2HD", "S2TTB")
    if ste.Config == StreamConfig.BYPASS:
        used |= _mask(STE, "SHCFG")
    return used


def used_by_cd(entry: int) -> int:
    """Tell which bits of a CD hardware looks at: all, but those of the half that EPD0 switches off."""
    cd = CD.decode(entry)
    if not cd.V:
        return _mask(CD, "V")
    used = (1 << CD.width) - 1
    if cd.EPD0:
        used &= ~_mask(CD, "T0SZ", "TG0", "IR0", "OR0", "SH0", "TTB0")
    return used


def safe_between_stes(old: int, new: int) -> int:
    """Tell which bits may change at any moment although hardware looks at them.

    Merging events is never promised; ATS of the device is off at either side of a change of EATS.
    """
    both = STE.decode(old).V and STE.decode(new).V
    return _mask(STE, "MEV", "EATS") if both else 0


def write_ste(memory: Memory, address: int, target: STE, sync: Callable[[], None]) -> None:
    """Change an STE; ``sync`` has hardware forget what it knows of it."""
    entry = Entry(memory, address, sync)
    old = entry.load()
    entry.change(old, int(target), used_by_ste(old) & ~safe_between_stes(old, int(target)), used_by_ste(int(target)), V)


def write_cd(memory: Memory, address: int, target: CD, sync: Callable[[], None]) -> None:
    """Change a CD; ``sync`` has hardware forget what it knows of it."""
    entry = Entry(memory, address, sync)
    old = entry.load()
    entry.change(old, int(target), used_by_cd(old), used_by_cd(int(target)), int(CD(V=1)))


@frozen
class Entry:
    """One entry in memory, as a number."""

    memory: Memory
    address: int
    sync: Callable[[], None]

    def load(self) -> int:
        """Read it."""
        words = load_words(self.memory, self.address, WORDS)
        return sum(word << WORD_BITS * index for index, word in enumerate(words))

    def change(self, old: int, new: int, old_used: int, new_used: int, valid: int) -> None:
        """Make it ``new``; ``valid`` is V, in the first word."""
        # What is not looked at now can be new at once.
        prepared = old & old_used | new & ~old_used
        critical = _words_of((prepared ^ new) & new_used)
        if len(critical) > 1:
            self._store(old & ~valid, (0,))
            self._store(new, range(1, WORDS))
            self._store(new, (0,))
            return
        self._store(prepared, [word for word in range(WORDS) if word not in critical])
        self._store(new, critical)
        self._store(new, range(WORDS))

    def _store(self, value: int, words: Iterable[int]) -> None:
        """Store what differs, and have hardware see it before anything else is stored."""
        changed = False
        for word in words:
            at, wanted = self.address + WORD * word, value >> WORD_BITS * word & LOW_WORD
            if self.memory.load(at) != wanted:
                self.memory.store(at, wanted)
                changed = True
        if changed:
            self.sync()


def _words_of(bits: int) -> list[int]:
    return [index for index in range(WORDS) if bits >> WORD_BITS * index & LOW_WORD]


def _mask(layout: type[Descriptor], *names: str) -> int:
    return sum(layout.fields[name].mask for name in names)
