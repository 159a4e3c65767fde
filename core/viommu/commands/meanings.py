"""What every command of a queue means, and which commands are left to the hardware model."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from viommu.commands.numbers import Number, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu._engine import CommandTable
    from viommu.commands.actions import Action


@frozen
class Is:
    """A number has one value."""

    number: Number = field(converter=number)
    value: int


@frozen
class Within:
    """A number lies in a closed range."""

    number: Number = field(converter=number)
    low: int
    high: int


@frozen
class Among:
    """A table holds something for a number; with ``present`` False: it does not."""

    table: CommandTable
    number: Number = field(converter=number)
    present: bool = True


Condition: TypeAlias = Is | Within | Among
"""What decides between the cases of a command."""


@frozen
class Case:
    """What a command does when all conditions hold. ``actions`` None: that is for the model to say."""

    actions: tuple[Action, ...] | None
    when: tuple[Condition, ...] = ()


@frozen
class Meaning:
    """One command: its name as batches are counted by it, bits that must be zero, and its cases.

    The first case that holds counts. Where a bit of ``zero`` is set, or none holds, the command is the model's: it
    refuses it, or does what has no neutral action.
    """

    name: str
    cases: tuple[Case, ...]
    zero: int = 0


def means(name: str, *actions: Action, zero: int = 0) -> Meaning:
    """Describe a command that has one case."""
    return Meaning(name, (Case(actions),), zero)


@frozen(eq=False)
class Meanings:
    """The commands of one queue, under one state of the registers that matter. Make another when those change.

    An entry has ``size`` bytes, little-endian; ``opcode`` (at most 12 bits) tells which command it is. Opcodes that
    ``of`` lacks are the model's.
    """

    size: int
    opcode: Number = field(converter=number)
    of: Mapping[int, Meaning] = field(repr=False)
