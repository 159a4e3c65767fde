"""Register files: declared once, read and written by offset as software does, with what hardware must react to."""

from __future__ import annotations

from difflib import get_close_matches
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field, frozen

from viommu.errors import BadRegister

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.hookspecs import Registers
    from viommu.layout import Descriptor

__all__ = [
    "Register",
    "RegisterFile",
    "Store",
]

LayoutT = TypeVar("LayoutT", bound="Descriptor")

BYTE = 8
ACCESS_SIZES = (4, 8)
"""Bytes of one register access. Any other size, and a misaligned access, reads as zero and is not stored."""


@frozen
class Register:
    """One register of a map.

    ``offset`` in bytes. ``layout`` gives its fields and its width (32 or 64 bits). ``writable`` are the bits that a
    store sets, None: every bit that the layout names. ``clears`` are those that a 1 clears (RW1C). Other bits keep
    what hardware put there.
    """

    offset: int
    layout: type[Descriptor]
    writable: int | None = None
    clears: int = 0
    mask: int = field(init=False)
    """All bits of the register."""
    sets: int = field(init=False)
    """The bits that a store sets."""

    @mask.default
    def _all_bits(self) -> int:
        return (1 << self.layout.width) - 1

    @sets.default
    def _set_bits(self) -> int:
        writable = self.mask & ~self.layout.reserved_mask if self.writable is None else self.writable
        return writable & ~self.clears

    @property
    def size(self) -> int:
        """Bytes."""
        return self.layout.size

    @property
    def last(self) -> int:
        """Offset of the last byte."""
        return self.offset + self.size - 1

    def stored(self, before: int, written: int) -> int:
        """Give the register's value after a store of ``written``."""
        return (before & ~self.sets | written & self.sets) & ~(written & self.clears)


@frozen
class Store:
    """What one store did to one register: its value before and after, and the value that software gave.

    Bytes of ``written`` that the store did not cover are those of ``before``, zero among RW1C bits.
    """

    name: str
    before: int
    written: int
    after: int

    @property
    def changed(self) -> int:
        """The bits that are different now."""
        return self.before ^ self.after


@define
class RegisterFile:
    """The registers of one IOMMU instance, by name for its hardware and by offset for software."""

    declared: Mapping[str, Register] = field(repr=False)
    _values: dict[str, int] = field(init=False, factory=dict, repr=False)
    _places: Mapping[tuple[int, int], tuple[tuple[str, Register], ...]] = field(init=False, repr=False)
    """By offset and size of an access that is allowed: the registers that it reaches, lowest offset first."""
    _lock: Lock = field(init=False, factory=Lock, repr=False, eq=False)
    """Held from the look at a register to its change."""

    def __attrs_post_init__(self) -> None:
        self._places = _places(self.declared)

    @classmethod
    def of(cls, declared: Mapping[str, Register], initial: Registers) -> RegisterFile:
        """Make a file whose registers hold what ``initial`` says, and zero where it says nothing.

        Raises BadRegister for a value of a name that is not declared (but zero), and one wider than its register.
        """
        check_values(declared, initial.values)
        made = cls(declared)
        for name in declared:
            made[name] = initial[name]
        return made

    def __getitem__(self, name: str) -> int:
        return self._values.get(name, 0)

    def __setitem__(self, name: str, value: int) -> None:
        """Set a register as hardware does: no bit is protected from it."""
        self._values[name] = value & self.declared[name].mask

    def change(self, name: str, *, sets: int = 0, clears: int = 0) -> None:
        """Set and clear bits as hardware does, whoever changes others of the register meanwhile."""
        with self._lock:
            self[name] = self[name] & ~clears | sets

    def decoded(self, name: str, layout: type[LayoutT]) -> LayoutT:
        """Read a register's fields."""
        return layout.decode(self[name])

    def read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes as software does; what no register covers is zero."""
        value = 0
        for name, register in self._places.get((offset, size), ()):
            shift = (register.offset - offset) * BYTE
            value |= self[name] << shift if shift >= 0 else self[name] >> -shift
        return value & (1 << size * BYTE) - 1

    def write(self, offset: int, size: int, value: int, kept: Callable[[Store], int] | None = None) -> list[Store]:
        """Store ``size`` bytes as software does; tells what happened to each register, lowest offset first.

        ``kept`` says of a store which bits keep their value all the same, as the state of other registers has it.
        """
        places = self._places.get((offset, size), ())
        return [self._store(name, register, offset, size, value, kept) for name, register in places]

    def _store(
        self,
        name: str,
        register: Register,
        offset: int,
        size: int,
        value: int,
        kept: Callable[[Store], int] | None,
    ) -> Store:
        shift = (offset - register.offset) * BYTE
        all_bits = (1 << size * BYTE) - 1
        placed, covered = value & all_bits, all_bits
        if shift > 0:
            placed, covered = placed << shift, covered << shift
        elif shift < 0:
            placed, covered = placed >> -shift, covered >> -shift
        with self._lock:
            before = self[name]
            written = (before & ~register.clears & ~covered | placed) & register.mask
            after = register.stored(before, written)
            if kept is not None:
                mask = kept(Store(name, before, written, after))
                after = before & mask | after & ~mask
            self._values[name] = after
        return Store(name, before, written, after)


def check_values(declared: Mapping[str, Register], values: Mapping[str, int]) -> None:
    """Refuse values that no declared register can have. Raises BadRegister."""
    for name, value in values.items():
        if name not in declared:
            if not value:  # what hardware lacks reads as zero, and recordings name registers that it lacks
                continue
            near = get_close_matches(name, declared, n=3)
            guess = f"did you mean {' or '.join(near)}? " if near else ""
            raise BadRegister(
                name, value, f"no register of this hardware has that name ({guess}it has {len(declared)})"
            )
        if not 0 <= value <= declared[name].mask:
            raise BadRegister(name, value, f"a value of {8 * declared[name].size} bits")


def _places(declared: Mapping[str, Register]) -> dict[tuple[int, int], tuple[tuple[str, Register], ...]]:
    found: dict[tuple[int, int], tuple[tuple[str, Register], ...]] = {}
    for name, register in sorted(declared.items(), key=lambda item: item[1].offset):
        for size in ACCESS_SIZES:
            for offset in range(register.offset - register.offset % size, register.last + 1, size):
                found[offset, size] = (*found.get((offset, size), ()), (name, register))
    return found
