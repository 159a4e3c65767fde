"""Puts the engine beside the oracle: the same memory, formats and context in both, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import define

from viommu import _engine

from .memory import PAGE, Memory
from .stage import Kind, UndecidedError
from .walker import Context, OracleResult, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attrs import AttrsInstance
    from numpy.typing import NDArray

    from .tables import World

REQUESTER = 7
WHEN_TRANSLATED = ("kind", "pa", "page_lg2", "rights", "attrs1", "attrs2", "ipa")
WHEN_REFUSED = (
    "kind",
    "stage",
    "level",
    "fault_class",
    "entry_address",
    "entry_value",
    "ipa",
    "top",
    "for_top",
    "for_update",
)


def engine_format(value: AttrsInstance) -> Any:  # noqa: ANN401 - one of seven classes
    """The engine's object of the same class and parameters as an oracle's format."""
    parameters = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    nested = {name: engine_format(part) for name, part in parameters.items() if attrs.has(type(part))}
    return getattr(_engine, type(value).__name__)(**parameters | nested)


def engine_context(context: Context) -> _engine.Context:
    """The engine's context for the oracle's."""
    return _engine.Context(
        stage1=None if context.stage1 is None else engine_format(context.stage1),
        stage2=None if context.stage2 is None else engine_format(context.stage2),
        rights=context.rights,
        input_bits=context.input_bits,
        blocked_output=context.blocked_output,
        untranslated_input=context.untranslated_input,
        privileged=context.privileged,
        instruction=context.instruction,
        privileged_refused=context.privileged_refused,
    )


class EngineMemory:
    """The engine's view of a copy of the oracle's memory."""

    def __init__(self, memory: Memory) -> None:
        self.engine = _engine.Memory()
        self.runs: dict[int, NDArray[np.uint64]] = {}
        self.home: dict[int, int] = {}
        for start, length, writable in memory.runs():
            words = np.zeros(length // 8, np.uint64)
            self.runs[start] = words
            self.engine.map(start, words.data, writable=writable)
            pages = range(start, start + length, PAGE)
            self.home.update((page, start) for page in pages)
        for pa, word in memory.words.items():
            start = self.home[pa & -PAGE]
            self.runs[start][(pa - start) // 8] = word

    def words(self) -> dict[int, int]:
        """Every word that is not zero."""
        found: dict[int, int] = {}
        for start, words in self.runs.items():
            places = np.flatnonzero(words)
            found.update(zip((places * 8 + start).tolist(), words[places].tolist(), strict=True))
        return found


def nonzero_words(memory: Memory) -> dict[int, int]:
    """Every word of the oracle's memory that is not zero, ascending."""
    return {pa: word for pa, word in sorted(memory.words.items()) if word}


def differences(actual: _engine.Result, expected: OracleResult) -> dict[str, tuple[int, int]]:
    """Field -> (engine's, oracle's), of the fields that mean something in this result."""
    names = WHEN_REFUSED if expected.kind else WHEN_TRANSLATED
    found = {name: (int(getattr(actual, name)), int(getattr(expected, name))) for name in names}
    if expected.kind == Kind.PERMISSION:
        found["missing"] = (actual.missing, expected.missing)
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def walk_both(memory: Memory, context: Context, iova: int, access: int) -> dict[str, tuple[Any, Any]]:
    """One walk by each on memories of their own; what differs in the result and in what was stored."""
    beside = EngineMemory(memory)
    actual = _engine.walk(beside.engine, engine_context(context), iova, access)
    expected = walk(memory, context, iova, access)
    found: dict[str, tuple[Any, Any]] = dict(differences(actual, expected))
    stored, should = beside.words(), nonzero_words(memory)
    memory.undo()
    for pa in stored.keys() | should.keys():
        if stored.get(pa, 0) != should.get(pa, 0):
            found[f"memory[{pa:#x}]"] = (stored.get(pa, 0), should.get(pa, 0))
    return found


@define
class Beside:
    """One world in both hands."""

    world: World
    memory: EngineMemory
    context: _engine.Context

    @classmethod
    def of(cls, world: World) -> Beside:
        """The engine's copy of ``world`` beside it."""
        return cls(world, EngineMemory(world.memory), engine_context(world.context))

    def translator(self, iotlb: _engine.Iotlb | None = None) -> _engine.Translator:
        """A translator whose only context is this one."""
        return _engine.Translator(self.memory.engine, lambda _requester, _pasid: self.context, iotlb=iotlb)

    def oracle(self, iova: int, access: int) -> OracleResult | None:
        """What the oracle says, None where it does not judge; its stores are taken back."""
        try:
            return walk(self.world.memory, self.world.context, iova, access)
        except UndecidedError:
            return None
        finally:
            self.world.memory.undo()

    def untouched(self) -> bool:
        """Whether the engine's memory still is the world's."""
        return self.memory.words() == nonzero_words(self.world.memory)


def columns(accesses: Sequence[tuple[int, int]]) -> tuple[Any, Any, Any]:
    """Requester, IOVA and access, as a batch takes them."""
    iovas, kinds = zip(*accesses, strict=True)
    return np.full(len(accesses), REQUESTER, np.uint32), np.array(iovas, np.uint64), np.array(kinds, np.uint8)


def batch_differences(batch: _engine.Batch, expected: list[OracleResult | None]) -> Iterator[tuple[int, str]]:
    """(row, what differs) of each row that is not as the oracle says."""
    kinds, pas = batch.kind.tolist(), batch.pa.tolist()
    page_lg2s, rights = batch.page_lg2.tolist(), batch.rights.tolist()
    names = ("row", "missing", *WHEN_REFUSED)
    faults = iter(zip(*(batch.records[name].tolist() for name in names), strict=True))
    for row, oracle in enumerate(expected):
        at, missing, *fields = next(faults) if kinds[row] else (row, 0)
        if oracle is None:
            continue
        if kinds[row]:
            wanted = [int(getattr(oracle, name)) for name in WHEN_REFUSED]
            if at != row or fields != wanted or (oracle.kind == Kind.PERMISSION and missing != oracle.missing):
                yield row, f"fault {dict(zip(names, (at, missing, *fields), strict=True))}, oracle {oracle}"
        elif (0, pas[row], page_lg2s[row], rights[row]) != (oracle.kind, oracle.pa, oracle.page_lg2, oracle.rights):
            yield row, f"pa {pas[row]:#x}, page_lg2 {page_lg2s[row]}, rights {rights[row]}, oracle {oracle}"
