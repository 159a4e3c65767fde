"""The neutral actions that commands come down to. Operands are numbers of the command itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from viommu.commands.numbers import Number, number, number_or_each

if TYPE_CHECKING:
    from viommu.commands.numbers import Each, Extent, Operand

MOST_GROUP_LG2 = 8
"""log2 of the most requesters whose contexts are dropped one by one; more of them mean all that there are."""


def _number_or_none(operand: Operand | None) -> Number | None:
    return None if operand is None else number(operand)


@frozen
class Everything:
    """Drop every translation."""


@frozen
class Stage2Tag:
    """Drop the translations of a stage-2 tag; ``stage1_only`` spares those of stage 2 alone.

    With ``group_lg2``, tags that differ from it in so many low bits alone are meant too.
    """

    tag: Number | Each = field(converter=number_or_each)
    stage1_only: bool = False
    group_lg2: int = 0


@frozen
class Stage1Tag:
    """Drop the translations of a stage-1 tag, but global ones. ``group_lg2`` as in `Stage2Tag`."""

    tag: Number | Each = field(converter=number_or_each)
    stage1_tag: Number = field(converter=number)
    group_lg2: int = 0


@frozen
class InvalidateRange:
    """Drop stage-1 and nested translations of a range, of a stage-1 tag or (None) of any.

    ``leaf_only``: where it is not 0, tables need not be forgotten. ``group_lg2`` as in `Stage2Tag`.
    """

    tag: Number | Each = field(converter=number_or_each)
    stage1_tag: Number | None = field(converter=_number_or_none)
    extent: Extent
    leaf_only: Number = field(default=number(0), converter=number)
    group_lg2: int = 0


@frozen
class InvalidateStage2Range:
    """Drop translations of stage 2 alone of a range. The rest as in `InvalidateRange`."""

    tag: Number | Each = field(converter=number_or_each)
    extent: Extent
    leaf_only: Number = field(default=number(0), converter=number)
    group_lg2: int = 0


@frozen
class AllContexts:
    """Drop all cached configuration."""


@frozen
class Contexts:
    """Drop the configuration of a requester, or of one PASID of it (`viommu.formats.NO_PASID`: requests without)."""

    requester: Number | Each = field(converter=number_or_each)
    pasid: Number | None = field(default=None, converter=_number_or_none)


@frozen
class ContextGroup:
    """Drop the configuration of 2^``lg2`` requesters around one, aligned; of all where that is more than 256."""

    requester: Number | Each = field(converter=number_or_each)
    lg2: Number = field(converter=number)


@frozen
class Store:
    """Store the low ``size`` bytes of ``data``: completion. It comes first in its case.

    Where memory refuses it, nothing was done, and the command is the model's.
    """

    address: Number = field(converter=number)
    data: Number = field(converter=number)
    size: int


Action: TypeAlias = (
    Everything
    | Stage2Tag
    | Stage1Tag
    | InvalidateRange
    | InvalidateStage2Range
    | AllContexts
    | Contexts
    | ContextGroup
    | Store
)
"""What a command comes down to, in no vendor's words."""
