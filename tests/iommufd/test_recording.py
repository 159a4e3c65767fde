from __future__ import annotations

import contextlib
import gzip
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.errors import ViommuError
from viommu.oracle import recording
from viommu.oracle.recording import RecordingError, read_records, recordings_in

if TYPE_CHECKING:
    from pathlib import Path

LINE = {"test": "t", "seq": 0, "proc": 0, "call": "close", "kind": "iommufd", "fd": 4, "ret": 0, "errno": "0"}


def written(folder: Path, *lines: bytes, name: str = "a.jsonl") -> Path:
    file = folder / name
    file.write_bytes(b"\n".join(lines))
    return file


def test_a_line_is_a_call(tmp_path: Path) -> None:
    (record,) = read_records(written(tmp_path, json.dumps(LINE).encode()))
    assert (record.call, record.number("fd"), record.answer.ret, record.case) == ("close", 4, 0, "t")


def test_a_gzipped_recording_is_read_like_a_plain_one(tmp_path: Path) -> None:
    file = written(tmp_path, gzip.compress(json.dumps(LINE).encode()), name="a.jsonl.gz")
    assert [record.call for record in read_records(file)] == ["close"]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"test": "t"}',
        b'{"test": 1, "call": "close"}',
        b'{"test": "t", "call": "close", "seq": "x"}',
        b'{"test": "t", "call": "close", "proc": ' + b"9" * 40 + b"}",
        b'{"test": "t", "call": "close", "proc": ' + b"9" * 5000 + b"}",
        b'{"test": "t", "call": "close", "proc": true}',
    ],
)
def test_a_line_that_is_none_is_refused_by_its_number(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(RecordingError, match="line 2"):
        list(read_records(written(tmp_path, json.dumps(LINE).encode(), line)))


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LINE_BYTES", 64)
    with pytest.raises(RecordingError, match="at most 0x40 bytes"):
        list(read_records(written(tmp_path, b"x" * 1000)))


def test_a_file_that_unpacks_without_end_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "FILE_BYTES", 500)
    bomb = gzip.compress(b"\n".join([json.dumps(LINE).encode()] * 100))
    with pytest.raises(RecordingError, match="unpacked"):
        list(read_records(written(tmp_path, bomb, name="a.jsonl.gz")))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", gzip.compress(json.dumps(LINE).encode())[:-9], b"not gzip"])
def test_a_broken_gzip_file_is_told_as_one(tmp_path: Path, content: bytes) -> None:
    file = written(tmp_path, content, name="a.jsonl.gz")
    if content:
        with pytest.raises(RecordingError, match="file"):
            list(read_records(file))


def test_a_folder_gives_its_recordings_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl.gz", "a.jsonl", "index.txt"):
        written(tmp_path, b"", name=name)
    assert [file.name for file in recordings_in([tmp_path])] == ["a.jsonl", "b.jsonl.gz"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds recordings"):
        list(recordings_in([tmp_path]))


@given(line=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, line: bytes) -> None:
    file = written(tmp_path_factory.mktemp("any"), line)
    with contextlib.suppress(ViommuError):
        list(read_records(file))
