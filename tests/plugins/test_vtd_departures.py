"""The rules of departures hold for flips that nobody recorded: in other words, bits and tables of the same kind.

`Recorder` ends accesses as what was recorded does. Where it and our model differ over a flip, one rule says why.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.core.captured import RECORDINGS
from tests.plugins.flipped import NotCapturedError, rows, write
from tests.plugins.vtd_recorder import Recorder
from viommu.captures.capture import load
from viommu.replay.run import replay

if TYPE_CHECKING:
    from pathlib import Path

CAPTURES = ("vtd-legacy-aw48", "vtd-scalable-fs", "vtd-scalable-ss")
FLIPS = 1500
INTERRUPTS = range(0xFEE0_0000, 0xFEF0_0000)


@pytest.mark.parametrize("name", CAPTURES)
def test_the_recorder_is_what_was_recorded(name: str) -> None:
    judged, recorder = 0, Recorder.of(RECORDINGS / name)
    for row in rows(RECORDINGS / name / "mutations.csv"):
        recorder.flip = int(row["entry"], 0), int(row["bit"])
        try:
            found = recorder.outcome(int(row["rid"], 0), int(row["iova"], 0), row["access"])
        except NotCapturedError:
            continue
        judged += 1
        assert found == (row["outcome"], int(row["pa"], 0) if row["pa"] else None), row
    assert judged > 500


def flips(recorder: Recorder, name: str, seed: int) -> list[dict[str, str]]:
    """Rows of flips in all words on the way of recorded accesses."""
    chance, made = random.Random(seed), list[dict[str, str]]()
    asked = [
        row
        for row in rows(RECORDINGS / name / "translations.csv")
        if not row["pasid"] and int(row["iova"], 0) not in INTERRUPTS
    ]
    while len(made) < FLIPS:
        row, access = chance.choice(asked), chance.choice("rw")
        source, iova = int(row["rid"], 0), int(row["iova"], 0)
        try:
            recorder.flip = 0, 0
            recorder.outcome(source, iova, access)
            structure, word, at = chance.choice(recorder.read)
            recorder.flip = at, chance.randrange(64)
            outcome, end = recorder.outcome(source, iova, access)
        except NotCapturedError:
            continue
        made.append(
            {"structure": structure, "entry": hex(at), "qword": str(word), "bit": str(recorder.flip[1])}
            | {"rid": row["rid"], "iova": row["iova"], "access": access, "outcome": outcome}
            | {"pa": "" if end is None else hex(end)}
        )
    return made


SNOOP_CONTROL = 1 << 7
"""ECAP.SC"""


@pytest.mark.parametrize("changed", [0, SNOOP_CONTROL], ids=["as captured", "with snoop control"])
@pytest.mark.parametrize("name", CAPTURES)
def test_one_rule_excuses_each_difference_over_flips_that_nobody_recorded(
    tmp_path: Path, name: str, changed: int
) -> None:
    recorder = Recorder.of(RECORDINGS / name)
    recorder.registers["ECAP"] ^= changed
    mutations = flips(recorder, name, seed=changed)
    write(tmp_path / "flipped", RECORDINGS / name, recorder.pages, mutations, recorder.registers)
    capture = load(tmp_path / "flipped")

    replayed = replay(capture, capture.machine(), ["mutations"])

    section = replayed.sections["mutations"]
    assert (section.rows, section.disagreed) == (FLIPS, 0), replayed.mismatches[:3]
