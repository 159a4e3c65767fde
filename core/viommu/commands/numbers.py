"""Numbers and ranges of addresses, as commands hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from viommu.layout import FieldSpec

if TYPE_CHECKING:
    from viommu._engine import CommandTable

ALL_BITS = (1 << 64) - 1

Pieces: TypeAlias = tuple[tuple[int, int, int], ...]
"""For each stretch of bits: its low bit, its mask at bit 0, and where it goes in the number."""


def _pieces(of: FieldSpec | Pieces) -> Pieces:
    return of.slices if isinstance(of, FieldSpec) else of


@frozen
class Number:
    """A field of a command, changed on the way to what it stands for, in this order.

    Times 2^``lg2``; bits above ``sign_bit`` take its value; only bits in ``keep`` count; those in ``flip`` are
    inverted; ``plus`` is added. Numbers have 64 bits.
    """

    of: Pieces = field(converter=_pieces)
    lg2: int = 0
    sign_bit: int = 63
    keep: int = ALL_BITS
    flip: int = 0
    plus: int = 0


Operand: TypeAlias = FieldSpec | Number | int
"""A field as it is, a changed one, or a constant."""


def number(operand: Operand) -> Number:
    """Make a Number of any operand."""
    if isinstance(operand, FieldSpec):
        return Number(operand)
    return operand if isinstance(operand, Number) else Number((), plus=operand)


@frozen
class Each:
    """Every value that ``table`` holds for ``key``: the action is done for each of them, and not at all for none."""

    table: CommandTable
    key: Number = field(converter=number)


def number_or_each(operand: Operand | Each) -> Number | Each:
    """Make a Number of an operand."""
    return operand if isinstance(operand, Each) else number(operand)


@frozen
class Block:
    """2^``lg2`` bytes around ``address``, aligned; from 64 on, everything."""

    address: Number = field(converter=number)
    lg2: Number = field(converter=number)


@frozen
class Sized:
    """2^``lg2`` bytes around ``address``; with ``sized`` set, twice the lowest zero bit of it from bit ``lg2`` on."""

    address: Number = field(converter=number)
    sized: Number = field(converter=number)
    lg2: int = 12


@frozen
class Counted:
    """(``count`` + 1) << ``scale`` blocks of 2^``unit_lg2`` bytes, the first one that of ``address``.

    What would run over the end of the address space ends there.
    """

    address: Number = field(converter=number)
    unit_lg2: Number = field(converter=number)
    scale: Number = field(converter=number)
    count: Number = field(converter=number)


Extent: TypeAlias = Block | Sized | Counted
"""The range of addresses that a command names."""


def value_of(operand: Number, raw: int) -> int:
    """Read a number out of a command (its bytes as one little-endian number)."""
    if not operand.of:
        return operand.plus
    value = 0
    for low, mask, position in operand.of:
        value |= (raw >> low & mask) << position + operand.lg2
    value &= ALL_BITS
    above = ALL_BITS << operand.sign_bit & ALL_BITS
    value = value | above if value >> operand.sign_bit & 1 else value & ~above
    return ((value & operand.keep ^ operand.flip) + operand.plus) & ALL_BITS


def span_of(extent: Extent, raw: int) -> tuple[int, int]:
    """Give the first and the last address of a command's range (bytes, closed)."""
    address = value_of(extent.address, raw)
    match extent:
        case Block():
            return _around(address, value_of(extent.lg2, raw))
        case Sized():
            if not value_of(extent.sized, raw):
                return _around(address, extent.lg2)
            above = address >> extent.lg2
            return _around(address, extent.lg2 + (~above & above + 1).bit_length())
    return _counted(extent, address, raw)


def _around(address: int, lg2: int) -> tuple[int, int]:
    inside = (1 << min(lg2, 64)) - 1
    return address & ~inside, address | inside


def _counted(extent: Counted, address: int, raw: int) -> tuple[int, int]:
    unit_lg2 = min(value_of(extent.unit_lg2, raw), 64)
    start = address >> unit_lg2 << unit_lg2
    shift = min(value_of(extent.scale, raw), 64) + unit_lg2
    size = value_of(extent.count, raw) + 1 << shift
    return start, min(start + size - 1, ALL_BITS)
