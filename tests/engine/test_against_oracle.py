"""The engine beside the oracle, on random tables of every format, alone and nested.

`make test-long` tries VIOMMU_LONG_WALKS walks (5 million), from the seed VIOMMU_LONG_SEED (1) on.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from tests.oracle.campaign import WALKS_OF_A_WORLD, campaign
from tests.oracle.compare import REQUESTER, Beside, batch_differences, columns, differences
from tests.oracle.stage import UndecidedError
from tests.oracle.tables import KINDS, Kinds, World, kinds_name, worlds_and_accesses
from tests.oracle.walker import OracleResult, walk
from viommu import _engine

LONG_WALKS = int(os.environ.get("VIOMMU_LONG_WALKS", "5000000"))
FIRST_SEED = int(os.environ.get("VIOMMU_LONG_SEED", "1"))

WHOLE_WORLDS = [HealthCheck.large_base_example, HealthCheck.data_too_large]  # tables are big whatever is drawn

every_nesting = pytest.mark.parametrize("kinds", KINDS, ids=kinds_name)


def oracle_walk(world: World, iova: int, access: int) -> OracleResult:
    """The oracle's walk, its stores kept; the example is given up where there is no one answer."""
    try:
        return walk(world.memory, world.context, iova, access)
    except UndecidedError:
        reject()


@every_nesting
@settings(max_examples=60, suppress_health_check=WHOLE_WORLDS)
@given(data=st.data())
def test_a_walk_ends_and_stores_as_the_oracle_says(kinds: Kinds, data: st.DataObject) -> None:
    world, accesses = data.draw(worlds_and_accesses(kinds))
    beside = Beside.of(world)
    for iova, access in accesses:
        actual = _engine.walk(beside.memory.engine, beside.context, iova, access)
        assert not differences(actual, oracle_walk(world, iova, access)), (hex(iova), access)
        assert beside.untouched()


@every_nesting
@settings(max_examples=30, suppress_health_check=WHOLE_WORLDS)
@given(data=st.data())
def test_an_explained_walk_is_the_walk_and_leaves_no_trace(kinds: Kinds, data: st.DataObject) -> None:
    world, accesses = data.draw(worlds_and_accesses(kinds))
    beside = Beside.of(world)
    for iova, access in accesses:
        actual, _steps = _engine.explain_walk(beside.memory.engine, beside.context, iova, access)
        expected = beside.oracle(iova, access)
        assert expected is None or not differences(actual, expected), (hex(iova), access)
        assert beside.untouched()


@every_nesting
@settings(max_examples=30, suppress_health_check=WHOLE_WORLDS)
@given(data=st.data())
def test_many_walks_at_once_are_the_same_walks_and_leave_no_trace(kinds: Kinds, data: st.DataObject) -> None:
    world, accesses = data.draw(worlds_and_accesses(kinds))
    beside = Beside.of(world)
    batch = beside.translator().walk_many(*columns(accesses))
    assert not list(batch_differences(batch, [beside.oracle(*access) for access in accesses]))
    assert beside.untouched()


@every_nesting
@settings(max_examples=30, suppress_health_check=WHOLE_WORLDS)
@given(data=st.data())
def test_a_translation_cache_changes_no_answer(kinds: Kinds, data: st.DataObject) -> None:
    # Tidy worlds: a cache may rightly keep what inconsistent tables said first.
    world, accesses = data.draw(worlds_and_accesses(kinds, tidy=True))
    beside = Beside.of(world)
    translator = beside.translator(_engine.Iotlb(entries=8, ways=2))
    for iova, access in accesses * 2:
        actual = translator.translate(REQUESTER, iova, access)
        assert isinstance(actual, _engine.Result)
        found = differences(actual, oracle_walk(world, iova, access))
        found.pop("entry_value", None)  # the cache spares the other copies of a large leaf their accessed flag
        assert not found, (hex(iova), access)


@pytest.mark.long
def test_millions_of_random_walks_agree_with_the_oracle() -> None:
    seeds = range(FIRST_SEED, FIRST_SEED - -LONG_WALKS // WALKS_OF_A_WORLD)
    outcomes: Counter[str] = Counter()
    disagreements: list[str] = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for seen, disagreement in pool.imap_unordered(campaign, seeds, chunksize=20):
            outcomes += seen
            if disagreement:
                disagreements.append(disagreement)
            if len(disagreements) >= 5:
                break
    assert not disagreements, "\n\n".join(disagreements)
    print(f"{outcomes.total()} walks agree; seeds {seeds}")  # noqa: T201
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:9} {outcome}")  # noqa: T201
