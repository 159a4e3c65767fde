"""The long comparison, one random world at a time: what each of its processes runs."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from viommu import _engine

from .compare import Beside, batch_differences, columns, differences
from .shrink import Case, report, shrink
from .stage import UndecidedError
from .tables import KINDS, build_world, kinds_name
from .walker import walk

if TYPE_CHECKING:
    from .walker import OracleResult

WALKS_IN_BATCH = 300
WALKS_THAT_STORE = 50
WALKS_OF_A_WORLD = WALKS_IN_BATCH + WALKS_THAT_STORE


def campaign(seed: int) -> tuple[Counter[str], str]:
    """One world's walks: what became of them, and a report of the first disagreement, or nothing."""
    kinds = KINDS[seed % len(KINDS)]
    rng = Random(seed)
    beside = Beside.of(build_world(rng, kinds))
    accesses = [beside.world.some_access(rng) for _ in range(WALKS_OF_A_WORLD)]
    seen: Counter[str] = Counter()

    def count(result: OracleResult | None) -> None:
        end = f"kind {int(result.kind)} in stage {result.stage}" if result is not None else "not judged"
        seen[f"{kinds_name(kinds)}: {end}"] += 1

    expected = [beside.oracle(*access) for access in accesses[:WALKS_IN_BATCH]]
    for result in expected:
        count(result)
    batch = beside.translator().walk_many(*columns(accesses[:WALKS_IN_BATCH]))
    for row, difference in batch_differences(batch, expected):
        return seen, _told(seed, beside, accesses[row], f"walk_many: {difference}")
    if not beside.untouched():
        return seen, f"seed {seed}, {kinds_name(kinds)}: walk_many left stores behind"

    for access in accesses[WALKS_IN_BATCH:]:
        words = dict(beside.world.memory.words)
        actual = _engine.walk(beside.memory.engine, beside.context, *access)
        try:
            result = walk(beside.world.memory, beside.world.context, *access)
        except UndecidedError:
            count(None)
            break  # what was stored is not known either
        count(result)
        found = differences(actual, result)
        if found or not beside.untouched():
            beside.world.memory.words = words
            return seen, _told(seed, beside, access, f"walk: {found or 'stores differ'}")
    return seen, ""


def _told(seed: int, beside: Beside, access: tuple[int, int], difference: str) -> str:
    case = Case.of(beside.world.memory, beside.world.context, *access)
    shrunk = report(shrink(case)) if case.trait else "alone, the walk agrees"
    return f"seed {seed}: {difference}\n{shrunk}"
