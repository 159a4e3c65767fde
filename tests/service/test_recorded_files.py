"""What anybody may have written into a file is told in one line, or repeated: it does nothing else."""

from __future__ import annotations

import hashlib
import json
import zlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viommu.service.recording.events import (
    MOST_BYTES,
    Asked,
    Change,
    Event,
    Outcome,
    Side,
    What,
)
from viommu.service.recording.lines import MOST_LINE, BadRecording, LineReader, LineWriter
from viommu.service.recording.stores import MOST_KEPT, Stores
from viommu.service.rerun.recording import Recording
from viommu.service.rerun.rerun import Result, rerun

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = {"viommu": "recording", "format": 1, "machine": {"driver": "selftest"}}
PROGRAM = {"program": 0, "pid": 1, "name": "one"}
NUMBERS = st.one_of(st.integers(0, 8), st.integers(-(1 << 63), (1 << 64) - 1))
DATA = st.binary(max_size=24)
WORDS = st.binary(max_size=3).map(lambda data: data * 8)


def written(path: Path, *lines: dict[str, Any]) -> Path:
    writer = LineWriter(path)
    for line in lines:
        writer.write(line)
    writer.close()
    return path


def repeated(*lines: dict[str, Any]) -> Result:
    with TemporaryDirectory() as folder:
        recording = Recording(written(Path(folder) / "run", HEAD, PROGRAM, *lines))
        return rerun(recording, recording.config())


events = st.builds(
    Event,
    st.sampled_from(What),
    st.integers(0, 1 << 40),
    st.none() | st.just(0),
    st.lists(NUMBERS, max_size=5).map(tuple),
    DATA,
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=2),
    st.lists(
        st.builds(
            Side,
            st.sampled_from(Asked),
            st.lists(NUMBERS, max_size=3).map(tuple),
            st.none() | st.lists(NUMBERS, max_size=3).map(tuple),
            st.none() | DATA,
        ),
        max_size=4,
    ),
    st.lists(
        st.builds(Change, st.integers(0, 3), st.integers(0, 1 << 52).map(lambda n: n & ~7), st.none() | WORDS),
        max_size=3,
    ),
    refused=st.lists(NUMBERS, max_size=2),
    interrupts=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=2),
    outcome=st.none() | st.builds(Outcome, st.integers(-4095, 10), st.lists(NUMBERS, max_size=4).map(tuple), DATA),
    is_cut=st.booleans(),
)


@given(events)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    line = json.loads(json.dumps(event.to_json()))
    assert Event.of_json(line).to_json() == event.to_json()


@given(st.lists(events, max_size=6))
@settings(deadline=None, max_examples=30)
def test_whatever_a_file_says_has_happened_is_repeated_or_refused(happened: list[Event]) -> None:
    try:
        result = repeated(*(event.to_json() for event in happened))
    except BadRecording:
        return
    assert result.records <= len(happened)


values = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=5) | DATA.map(bytes.hex),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


KEYS = ("what", "at", "by", "words", "data", "stores", "asked", "changes", "stored", "outcome", "cut", "program")


@given(st.dictionaries(st.sampled_from(KEYS), values))
@settings(deadline=None, max_examples=30)
def test_a_line_of_any_other_kind_is_refused_or_repeated(line: dict[str, Any]) -> None:
    with suppress(BadRecording):
        repeated(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"what": "dance", "at": 0}, "'dance', which is none of: open"),
        ({"what": "open", "at": 0, "by": 0}, "too few words"),
        ({"what": "open", "at": 0, "by": 7, "words": [0, 0, 0, 0]}, "a program that was not told of"),
        ({"what": "open", "at": 1 << 64, "by": 0}, "where a number of 64 bits belongs"),
        ({"what": "ioctl", "at": 0, "by": 0, "data": "xy"}, "bytes in hexadecimal"),
        ({"what": "work", "at": 0, "words": [3, 0]}, "device 3, which the machine has not"),
        ({"what": "close", "at": 0, "words": [3], "changes": [[0, 4, "00"]]}, "not of whole words"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRecording, match=said):
        repeated(line)


def test_a_bomb_ends_at_the_longest_line(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = b"0" * (1 << 20)
    path.write_bytes(b"".join([*(packer.compress(zeros) for _ in range(60)), packer.flush()]))
    with pytest.raises(BadRecording, match=f"longer than {MOST_LINE} bytes"):
        list(LineReader(path))


def test_memory_that_a_file_tells_of_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def line(first: int) -> dict[str, Any]:
        changes = [[0, (first + page) << 12, "00" * 8] for page in range(1 << 10)]
        return {"what": "close", "at": 0, "words": [1], "changes": changes, "outcome": [0, [], ""]}

    lines = [line(number << 10) for number in range(5)]
    monkeypatch.setattr("viommu.service.rerun.memory.MOST_PAGES", 1 << 12)
    with pytest.raises(BadRecording, match="recorded memory"):
        repeated(*lines)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6), st.integers(0, 1))
def test_stores_that_follow_one_another_are_one(lengths: list[int], gap: int) -> None:
    stores, at, whole = Stores(), 0x1000, b""
    for number, length in enumerate(lengths):
        data = bytes([number]) * length
        stores.add(at, data)
        at, whole = at + length + gap, whole + data
    kept = stores.kept()
    assert len(kept) == (len(lengths) if gap else 1)
    assert sum(stored.length for stored in kept) == len(whole)
    if not gap:
        assert kept[0].data == (whole if len(whole) <= MOST_KEPT else hashlib.sha256(whole).digest())


def fill_with_changes(event: Event, count: int) -> None:
    if event.takes(8):
        event.changes.append(Change(count, (1 << 47) - 16 * count, bytes(8)))


def fill_with_stores(event: Event, count: int) -> None:
    event.store((1 << 47) - 16 * count, bytes(8))


def fill_with_refusals(event: Event, count: int) -> None:
    event.refuse((1 << 47) - 16 * count)


@pytest.mark.parametrize("fill", [fill_with_changes, fill_with_stores, fill_with_refusals])
def test_an_event_of_the_smallest_things_is_cut_before_its_line_is_too_long_to_be_read(
    fill: Callable[[Event, int], None],
) -> None:
    share = 100
    event = Event(What.WORK, 0, room=MOST_BYTES // share)
    count = 0
    while not event.is_cut:
        fill(event, count := count + 1)
    assert count > MOST_BYTES // share // 64
    assert len(json.dumps(event.to_json())) < MOST_LINE // share


def test_what_is_stored_in_one_piece_takes_no_more_room_than_is_kept_of_it() -> None:
    event = Event(What.WORK, 0)
    room = event.room
    for at in range(0, 8 << 20, 4096):
        event.store(at, bytes(4096))
    assert room - event.room < 3 * MOST_KEPT
