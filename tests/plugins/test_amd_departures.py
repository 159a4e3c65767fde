"""The rules of departures hold for flips that nobody recorded: in other words, bits and tables of the same kind.

`Recorder` translates as what was recorded does, found out from the rows: it reproduces every one whose walk was
captured. Where it and our model differ over a flip, one rule says why.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import define, field

from tests.core.captured import RECORDINGS
from tests.plugins.flipped import NotCapturedError, pages_of, rows, word_at, write
from viommu.captures.capture import load
from viommu.replay.run import replay

if TYPE_CHECKING:
    from pathlib import Path

CAPTURE = RECORDINGS / "amd-v1"
DEVICES = 0x100_0000
"""The device table."""
ENTRY, WORDS = 32, 4
RESERVED = (0x7C | 1 << 63, 0, 3 << 52, 0x7FFF | 0x3F << 48)
"""What is taken for reserved of the words of a device table entry."""
ADDRESS = 0xF_FFFF_FFFF_F000
IV = 1
FLIPS = 2500


@define
class Recorder:
    """Memory, and what an access comes to by the recording's rules: where it ends, None where it is refused."""

    pages: dict[int, bytes]
    flip: tuple[int, int] = (0, 0)
    """(address, bit) of the flipped bit."""
    read: list[int] = field(factory=list)

    @classmethod
    def of(cls, capture: Path) -> Recorder:
        return cls(pages_of(capture))

    def load(self, address: int) -> int:
        word = word_at(self.pages, address, self.flip)
        self.read.append(address)
        return word

    def ends(self, device: int, iova: int, access: str) -> int | None:
        right = 61 if access == "r" else 62
        entry = [self.load(DEVICES + device * ENTRY + 8 * word) for word in range(WORDS)]
        if any(word & reserved for word, reserved in zip(entry, RESERVED, strict=True)):
            return None
        if not entry[0] & 1:
            return iova
        level = entry[0] >> 9 & 7
        if not entry[0] & 2 or level == 7:
            return None
        if level == 0:
            return iova if entry[0] >> right & 1 else None
        return self._walk(entry[0], level, iova, right)

    def _walk(self, entry: int, level: int, iova: int, right: int) -> int | None:
        while True:
            entry = self.load((entry & ADDRESS) + (iova >> 3 + 9 * level & 0x1FF) * 8)
            below = entry >> 9 & 7
            if not entry & 1 or level <= below < 7:
                return None
            if below in (0, 7):
                break
            level = below
        unset = ~(entry >> 12)
        size_lg2 = 3 + 9 * level if below == 0 else 12 + (unset & -unset).bit_length()
        offset = (1 << size_lg2) - 1
        return (entry & ADDRESS & ~offset | iova & offset) if entry >> right & 1 else None


def test_the_recorder_is_what_was_recorded() -> None:
    judged = 0
    recorder = Recorder.of(CAPTURE)
    for row in rows(CAPTURE / "mutations.csv"):
        recorder.flip = int(row["entry"], 0), int(row["bit"])
        try:
            end = recorder.ends(int(row["rid"], 0), int(row["iova"], 0), row["access"])
        except NotCapturedError:
            continue
        judged += 1
        assert end == (int(row["pa"], 0) if row["outcome"] == "ok" else None), row

    assert judged > 1000


def flips(recorder: Recorder, seed: int) -> list[dict[str, str]]:
    """Rows of flips in all words on the way of recorded accesses."""
    chance, made = random.Random(seed), list[dict[str, str]]()
    asked = rows(CAPTURE / "translations.csv")
    while len(made) < FLIPS:
        row, access = chance.choice(asked), chance.choice("rw")
        device, iova = int(row["rid"], 0), int(row["iova"], 0)
        try:
            recorder.read, recorder.flip = [], (0, 0)
            recorder.ends(device, iova, access)
            recorder.flip = chance.choice(recorder.read), chance.randrange(64)
            end = recorder.ends(device, iova, access)
        except NotCapturedError:
            continue
        at, bit = recorder.flip
        of_device = at < DEVICES + (1 << 16) * ENTRY
        what = {"outcome": "fault", "pa": ""} if end is None else {"outcome": "ok", "pa": hex(end)}
        where = {"entry": hex(at), "qword": str((at - DEVICES) // 8 % WORDS if of_device else 0), "bit": str(bit)}
        structure = "amd-device-table" if of_device else "amd-page-table"
        made.append({"structure": structure, "rid": row["rid"], "iova": row["iova"], "access": access} | where | what)
    return made


def without_interrupt_tables(pages: dict[int, bytes]) -> dict[int, bytes]:
    """Device table entries with IV=0, as a kernel writes them that remaps no interrupts."""
    changed = dict(pages)
    for at in range(DEVICES, DEVICES + (1 << 16) * ENTRY, 0x1000):
        if at in pages:
            words = np.frombuffer(pages[at], np.uint64).copy()
            words[2::WORDS] &= np.uint64(~IV & (1 << 64) - 1)
            changed[at] = words.tobytes()
    return changed


@pytest.mark.parametrize("remapped", [True, False], ids=["as captured", "IV=0"])
def test_one_rule_excuses_each_difference_over_flips_that_nobody_recorded(tmp_path: Path, remapped: bool) -> None:
    recorder = Recorder.of(CAPTURE)
    if not remapped:
        recorder.pages = without_interrupt_tables(recorder.pages)
    write(tmp_path / "flipped", CAPTURE, recorder.pages, flips(recorder, seed=int(remapped)))
    capture = load(tmp_path / "flipped")

    section = replay(capture, capture.machine(), ["mutations"]).sections["mutations"]

    assert (section.rows, section.disagreed) == (FLIPS, 0)
    assert section.departures > 50
