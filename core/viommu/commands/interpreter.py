"""Described commands, executed by Python: for caches that are not the engine's, and to judge the engine by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.commands.actions import (
    MOST_GROUP_LG2,
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
from viommu.commands.numbers import Each, span_of, value_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.backing import BufferLike
    from viommu.commands.actions import Action
    from viommu.commands.meanings import Case, Condition, Meanings
    from viommu.commands.numbers import Number
    from viommu.memory import PhysicalMemory
    from viommu.platform import Caches

TAG_BITS = (1 << 32) - 1


@frozen
class Interpreted:
    """A description with the face of the engine's `CommandSet`, for caches of any kind."""

    meanings: Meanings
    memory: PhysicalMemory

    def run(self, caches: Caches, entries: BufferLike) -> tuple[int, dict[str, int]]:
        """Execute entries of a buffer. ValueError where they are no whole number."""
        raw, size = memoryview(entries).cast("B"), self.meanings.size  # type: ignore[arg-type] # an array is a buffer
        if len(raw) % size:
            raise ValueError(f"{len(raw)} bytes are no multiple of {size}, the size of a command")
        return self._execute(caches, (bytes(raw[at : at + size]) for at in range(0, len(raw), size)))

    def run_ring(
        self, caches: Caches, base: int, entries_lg2: int, head: int, count: int
    ) -> tuple[int, dict[str, int]]:
        """Execute entries of a ring in memory, up to the first that cannot be read."""
        size, mask = self.meanings.size, (1 << entries_lg2) - 1
        addresses = (base + (head + index & mask) * size for index in range(count))
        return self._execute(caches, (self.memory.read(address, size) for address in addresses))

    def _execute(self, caches: Caches, entries: Iterable[bytes | None]) -> tuple[int, dict[str, int]]:
        done, kinds = 0, dict[str, int]()
        for entry in entries:
            name = None if entry is None else interpret(self.meanings, entry, caches, self.memory)
            if name is None:
                break
            done += 1
            kinds[name] = kinds.get(name, 0) + 1
        return done, kinds


def interpret(meanings: Meanings, entry: bytes, caches: Caches, memory: PhysicalMemory) -> str | None:
    """Execute one command; gives its name, or None where it is the model's and nothing was done."""
    raw = int.from_bytes(entry, "little")
    meaning = meanings.of.get(value_of(meanings.opcode, raw))
    if meaning is None or raw & meaning.zero:
        return None
    case = next((case for case in meaning.cases if _holds(case, raw)), None)
    if case is None or case.actions is None:
        return None
    for action in case.actions:
        if isinstance(action, Store):
            if not _store(action, raw, memory):
                return None
        else:
            _perform(action, raw, caches)
    return meaning.name


def _holds(case: Case, raw: int) -> bool:
    return all(_is_so(condition, raw) for condition in case.when)


def _is_so(condition: Condition, raw: int) -> bool:
    number = value_of(condition.number, raw)
    if isinstance(condition, Among):
        return bool(condition.table.values(number)) is condition.present
    if isinstance(condition, Is):
        return number == condition.value
    return condition.low <= number <= condition.high


def _store(action: Store, raw: int, memory: PhysicalMemory) -> bool:
    data = value_of(action.data, raw) & (1 << 8 * action.size) - 1
    return memory.write(value_of(action.address, raw), data.to_bytes(action.size, "little"))


def _perform(action: Action, raw: int, caches: Caches) -> None:
    match action:
        case Everything():
            caches.invalidate_all()
        case AllContexts():
            caches.invalidate_contexts()
        case Contexts() | ContextGroup():
            for requester in _each(action.requester, raw):
                _forget_contexts(action, requester, raw, caches)
        case Stage2Tag() | Stage1Tag() | InvalidateRange() | InvalidateStage2Range():
            for given in _each(action.tag, raw):
                first = given >> action.group_lg2 << action.group_lg2
                for tag in range(first, first + (1 << action.group_lg2)):
                    _forget_translations(action, tag, raw, caches)


def _each(first: Number | Each, raw: int) -> Iterable[int]:
    if isinstance(first, Each):
        return first.table.values(value_of(first.key, raw))
    return (_tag(first, raw),)


def _tag(operand: Number, raw: int) -> int:
    return value_of(operand, raw) & TAG_BITS


def _forget_contexts(action: Contexts | ContextGroup, requester: int, raw: int, caches: Caches) -> None:
    if isinstance(action, Contexts):
        caches.invalidate_contexts(requester, None if action.pasid is None else _tag(action.pasid, raw))
        return
    lg2 = value_of(action.lg2, raw)
    if lg2 > MOST_GROUP_LG2:
        caches.invalidate_contexts()
        return
    first = requester >> lg2 << lg2
    for one in range(first, first + (1 << lg2)):
        caches.invalidate_contexts(one)


def _forget_translations(
    action: Stage2Tag | Stage1Tag | InvalidateRange | InvalidateStage2Range, tag: int, raw: int, caches: Caches
) -> None:
    match action:
        case Stage2Tag():
            caches.invalidate_stage2_tag(tag, stage1_only=action.stage1_only)
        case Stage1Tag():
            caches.invalidate_stage1_tag(tag, _tag(action.stage1_tag, raw))
        case InvalidateRange():
            stage1_tag = None if action.stage1_tag is None else _tag(action.stage1_tag, raw)
            leaf_only = bool(value_of(action.leaf_only, raw))
            caches.invalidate_range(tag, stage1_tag, *span_of(action.extent, raw), leaf_only=leaf_only)
        case InvalidateStage2Range():
            leaf_only = bool(value_of(action.leaf_only, raw))
            caches.invalidate_stage2_range(tag, *span_of(action.extent, raw), leaf_only=leaf_only)
