"""A description as the engine takes it (`viommu._engine.CommandSet`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu._engine import CommandSet, CommandTable
from viommu.commands.actions import (
    AllContexts,
    ContextGroup,
    Contexts,
    Everything,
    InvalidateRange,
    InvalidateStage2Range,
    Stage1Tag,
    Stage2Tag,
    Store,
)
from viommu.commands.meanings import Among, Is
from viommu.commands.numbers import ALL_BITS, Block, Each, Number, Sized, number

if TYPE_CHECKING:
    from viommu._engine import CommandAction, CommandCase, CommandExtent, CommandNumber, CommandRule, CommandTest
    from viommu.commands.actions import Action
    from viommu.commands.meanings import Case, Condition, Meaning, Meanings
    from viommu.commands.numbers import Extent, Number

WORD_BITS = 64
ZERO = number(0)


def compiled(meanings: Meanings, *, stores: bool = True) -> CommandSet:
    """Make the engine's form of a description. ``stores`` False: what stores into memory is the model's.

    Raises ValueError where the engine cannot take it: numbers in more than 4 pieces, more than 128 commands.
    """
    return _Compilation(meanings, stores).result()


@define
class _Compilation:
    meanings: Meanings
    stores: bool
    tables: list[CommandTable] = field(factory=list)

    def result(self) -> CommandSet:
        rules = [self._rule(opcode, meaning) for opcode, meaning in self.meanings.of.items()]
        return CommandSet(self.meanings.size, _number(self.meanings.opcode), rules, self.tables)

    def _rule(self, opcode: int, meaning: Meaning) -> CommandRule:
        words = self.meanings.size * 8 // WORD_BITS
        zero = [meaning.zero >> word * WORD_BITS & ALL_BITS for word in range(words)]
        return meaning.name, opcode, zero, [self._case(case) for case in meaning.cases]

    def _case(self, case: Case) -> CommandCase:
        when = [self._test(condition) for condition in case.when]
        if case.actions is None or (not self.stores and any(isinstance(action, Store) for action in case.actions)):
            return when, None
        return when, [self._action(action) for action in case.actions]

    def _test(self, condition: Condition) -> CommandTest:
        number = _number(condition.number)
        if isinstance(condition, Among):
            kind = "listed" if condition.present else "unlisted"
            return kind, number, 0, 0, self._table(condition.table)
        if isinstance(condition, Is):
            return "within", number, condition.value, condition.value, None
        return "within", number, condition.low, condition.high, None

    def _action(self, action: Action) -> CommandAction:
        match action:
            case Everything():
                return _made("everything")
            case AllContexts():
                return _made("all_contexts")
            case Store():
                return _made("store", first=action.address, second=action.data, size=action.size)
            case Contexts() | ContextGroup():
                return self._of_requester(action)
        first, each = self._first(action.tag)
        match action:
            case Stage2Tag():
                return _made("stage2_tag", first, each, flag=action.stage1_only, group_lg2=action.group_lg2)
            case Stage1Tag():
                return _made("stage1_tag", first, each, action.stage1_tag, group_lg2=action.group_lg2)
            case InvalidateRange():
                return _made(
                    "range",
                    first,
                    each,
                    ZERO if action.stage1_tag is None else action.stage1_tag,
                    flag=action.stage1_tag is None,
                    leaf_only=action.leaf_only,
                    group_lg2=action.group_lg2,
                    extent=action.extent,
                )
            case InvalidateStage2Range():
                return _made(
                    "stage2_range",
                    first,
                    each,
                    leaf_only=action.leaf_only,
                    group_lg2=action.group_lg2,
                    extent=action.extent,
                )

    def _of_requester(self, action: Contexts | ContextGroup) -> CommandAction:
        first, each = self._first(action.requester)
        if isinstance(action, ContextGroup):
            return _made("context_group", first, each, action.lg2)
        if action.pasid is None:
            return _made("contexts", first, each)
        return _made("context", first, each, action.pasid)

    def _first(self, first: Number | Each) -> tuple[Number, int | None]:
        return (first.key, self._table(first.table)) if isinstance(first, Each) else (first, None)

    def _table(self, table: CommandTable) -> int:
        if table not in self.tables:
            self.tables.append(table)
        return self.tables.index(table)


def _made(
    verb: str,
    first: Number = ZERO,
    each: int | None = None,
    second: Number = ZERO,
    *,
    flag: bool = False,
    size: int = 0,
    group_lg2: int = 0,
    leaf_only: Number = ZERO,
    extent: Extent | None = None,
) -> CommandAction:
    span = None if extent is None else _extent(extent)
    return verb, flag, size, group_lg2, each, _number(first), _number(second), _number(leaf_only), span


def _number(given: Number) -> CommandNumber:
    pieces = [(low, mask.bit_length(), position + given.lg2) for low, mask, position in given.of]
    return pieces, given.sign_bit, given.keep, given.flip, given.plus


def _extent(extent: Extent) -> CommandExtent:
    address, nothing = _number(extent.address), _number(ZERO)
    match extent:
        case Block():
            return "block", address, _number(extent.lg2), nothing, nothing
        case Sized():
            return "sized", address, _number(extent.sized), _number(number(extent.lg2)), nothing
    return "counted", address, _number(extent.scale), _number(extent.unit_lg2), _number(extent.count)
