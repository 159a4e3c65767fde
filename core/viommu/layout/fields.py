"""One field of a layout: where its bits lie, and what its value means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never, Self, overload

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from enum import IntEnum

    from viommu.layout.descriptor import Descriptor

MAXIMUM_BITS = 64
"""A value, its shift included, fits a machine word: that is what lets `Descriptor.columns` hold it."""


@define(eq=False)
class FieldSpec:
    """Where a field lies. Declare one with `Bit`, `Bits`, `Field`, `Split` or `Ignored`.

    ``parts`` are (high, low) bit positions, least significant part first. The value that is read is the
    bits of the parts put together, times 2^``shift``. ``of`` names the values. ``ignored`` bits are neither
    reserved nor meaningful to hardware.

    Raises ValueError where a part is upside down or the value is wider than 64 bits.
    """

    parts: tuple[tuple[int, int], ...]
    shift: int = 0
    of: type[IntEnum] | None = None
    ignored: bool = False
    name: str = field(default="", init=False)
    _slices: tuple[tuple[int, int, int], ...] = field(default=(), init=False, repr=False)
    _maximum: int = field(default=0, init=False, repr=False)
    _mask: int = field(default=0, init=False, repr=False)
    _others: int = field(default=-1, init=False, repr=False)
    """The bits of a descriptor that are not covered."""
    _refused: int = field(default=0, init=False, repr=False)
    """Bits that no value has: it would be out of bounds on either side, or not aligned."""
    _shifts: tuple[int, int] | None = field(default=None, init=False, repr=False)
    """For a field of one part: how far its bits lie above the value's, and below. One of them is 0."""
    _members: Mapping[int, IntEnum] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for high, low in self.parts:
            if not high >= low >= 0:
                raise ValueError(f"bits [{high}:{low}]: the high bit comes first, and no bit is below 0")
        if self.shift < 0 or self.bits + self.shift > MAXIMUM_BITS:
            raise ValueError(
                f"bits {self.place}: {self.bits} bits shifted by {self.shift} are not a value of "
                f"at most {MAXIMUM_BITS} bits"
            )
        self._slices = tuple(self._cut())
        # Kept, for models ask at each store of a register and each descriptor that is built.
        self._maximum = ((1 << self.bits) - 1) << self.shift
        if len(self.parts) == 1:
            self._shifts = max(self.low - self.shift, 0), max(self.shift - self.low, 0)
        self._mask = self.put(self._maximum)
        self._others, self._refused = ~self._mask, ~self._maximum
        self._members = {member.value: member for member in self.of or ()}
        for value, member in self._members.items():
            if not 0 <= value <= self.maximum:
                raise ValueError(f"bits {self.place}: {member!r} does not fit, the largest value is {self.maximum:#x}")

    def _cut(self) -> Iterator[tuple[int, int, int]]:
        """For each part: its low bit, its mask at bit 0, and where it goes in the value."""
        position = self.shift
        for high, low in self.parts:
            width = high - low + 1
            yield low, (1 << width) - 1, position
            position += width

    @property
    def high(self) -> int:
        """The most significant bit of the field (of its most significant part)."""
        return self.parts[-1][0]

    @property
    def low(self) -> int:
        """The least significant bit of the field (of its least significant part)."""
        return self.parts[0][1]

    @property
    def bits(self) -> int:
        """How many bits the field covers."""
        return sum(high - low + 1 for high, low in self.parts)

    @property
    def maximum(self) -> int:
        """The largest value, the shift included."""
        return self._maximum

    @property
    def mask(self) -> int:
        """The covered bits, in place."""
        return self._mask

    @property
    def slices(self) -> tuple[tuple[int, int, int], ...]:
        """For each part: its low bit, its mask at bit 0, and where it goes in the value."""
        return self._slices

    @property
    def place(self) -> str:
        """The position as printed: ``[51:6]``, ``[0]``, or ``[95:80|60:58]`` with the top part first."""
        return "[" + "|".join(range_text(high, low) for high, low in reversed(self.parts)) + "]"

    def take(self, raw: int) -> int:
        """Read the field's value out of a whole descriptor: a member of ``of`` where that has it."""
        if self._shifts is not None:
            above, below = self._shifts
            value = (raw & self._mask) >> above << below
        else:
            value = 0
            for low, mask, position in self._slices:
                value |= (raw >> low & mask) << position
        return self._members.get(value, value) if self._members else value

    def put(self, value: int) -> int:
        """Give the bits, in place, that hold ``value`` (which fits, see `check`)."""
        if self._shifts is not None:
            above, below = self._shifts
            return value >> below << above
        raw = 0
        for low, mask, position in self._slices:
            raw |= (value >> position & mask) << low
        return raw

    def patched(self, owner: str, raw: int, value: int) -> int:
        """Give a whole descriptor with ``value`` in this field. Raises as `check`."""
        if value & self._refused:
            self.check(owner, value)
        if self._shifts is None:
            return raw & self._others | self.put(value)
        above, below = self._shifts
        return raw & self._others | value >> below << above

    def check(self, owner: str, value: int) -> None:
        """Raise ValueError, naming field, value and bound, where ``value`` cannot be held."""
        if not 0 <= value <= self._maximum:
            raise ValueError(
                f"{owner}.{self.name} {self.place}: {value:#x} does not fit; it holds 0 to {self.maximum:#x}"
            )
        if value & ((1 << self.shift) - 1):
            raise ValueError(f"{owner}.{self.name} {self.place}: {value:#x} is not a multiple of {1 << self.shift:#x}")

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Descriptor, owner: type) -> int: ...
    def __get__(self, instance: Descriptor | None, owner: type) -> Self | int:
        if instance is None:
            return self
        raw = instance._raw  # noqa: SLF001 - the value of its owner
        if self._shifts is None or self._members:
            return self.take(raw)
        above, below = self._shifts  # as `take` does: most fields are read here, and a call more takes as long as all
        return (raw & self._mask) >> above << below

    def __set__(self, instance: Descriptor, value: Never) -> Never:
        kind = type(instance).__name__
        raise AttributeError(f"{kind} is immutable: make a changed one with .replace({self.name}=...)")


class Bit(FieldSpec):
    """One bit; reads as 0 or 1."""

    def __init__(self, position: int) -> None:
        super().__init__(((position, position),))


class Bits(FieldSpec):
    """A number, or with ``shift`` an aligned address: what is read is the bits times 2^``shift``."""

    def __init__(self, high: int, low: int, *, shift: int = 0) -> None:
        super().__init__(((high, low),), shift)


class Field(FieldSpec):
    """A field whose values have names. A value that ``of`` lacks reads as a plain int."""

    def __init__(self, high: int, low: int, *, of: type[IntEnum]) -> None:
        super().__init__(((high, low),), of=of)


class Split(FieldSpec):
    """One number that is stored in several places, given from its least significant part up."""

    def __init__(self, *parts: tuple[int, int], shift: int = 0) -> None:
        if not parts:
            raise ValueError("Split() needs at least one (high, low) part")
        super().__init__(parts, shift)


class Ignored(FieldSpec):
    """Bits that hardware does not look at: not reserved, and shown only where set."""

    def __init__(self, high: int, low: int | None = None) -> None:
        super().__init__(((high, high if low is None else low),), ignored=True)


def range_text(high: int, low: int) -> str:
    """Write bit positions as specifications print them: ``51:6``, or ``0`` for a single bit."""
    return f"{high}" if high == low else f"{high}:{low}"
