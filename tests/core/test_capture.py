from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.core.captured import GOOD_ROWS, HEADER, RECORDINGS, translation, write_capture, write_table
from viommu.captures.capture import find, load
from viommu.errors import CaptureError
from viommu.faults import Access

if TYPE_CHECKING:
    from pathlib import Path

    from viommu.captures.capture import Capture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_capture(tmp_path / "toy")


def rows_of(capture: Capture) -> list[object]:
    return list(capture.translations())


def read_all(folder: Path) -> None:
    capture = load(folder)
    capture.memory()
    rows_of(capture)


def test_a_capture_is_read_as_it_was_written(folder: Path) -> None:
    capture = load(folder)

    assert (capture.name, capture.driver, capture.registers["SIZE"]) == ("toy", "toy", 16)
    rows = list(capture.translations())
    assert [row.number for row in rows] == list(range(1, len(GOOD_ROWS) + 1))
    assert (rows[0].asked.requester, rows[0].asked.pasid, rows[0].asked.iova) == (3, None, 0x5010)
    assert rows[0].asked.access is Access.READ
    assert rows[0].recorded.pa == 0x8000_0010
    assert rows[1].recorded.record == bytes.fromhex("10500000000000000300000004000000")


def test_memory_is_a_private_copy_in_as_few_runs_as_it_has(folder: Path) -> None:
    capture = load(folder)
    first, second = capture.memory(), capture.memory()
    [(start, last, writable)] = first.engine.regions()

    first.store(start, 0xABCD)

    assert (last + 1 - start, writable) == (1 << 20, True)
    assert second.load(start) == 0


def test_every_recording_can_be_read() -> None:
    for path in find(RECORDINGS):
        capture = load(path)
        tables = (capture.translations(), capture.disputed(), capture.faults(), capture.commands(), capture.mutations())
        assert sum(1 for table in tables for _ in table) >= capture.counts["translations"]


def test_columns_of_other_families_are_understood(tmp_path: Path) -> None:
    header = (*HEADER, "priv", "msi")
    folder = write_capture(tmp_path / "toy")
    write_table(folder / "translations.csv", [(*GOOD_ROWS[0], "s", "mrif"), (*GOOD_ROWS[0], "u", "")], header)

    rows = list(load(folder).translations())

    assert [row.asked.access for row in rows] == [Access.READ | Access.PRIVILEGED, Access.READ]


def test_a_folder_gives_its_captures_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_capture(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("hello")

    assert [path.name for path in find(tmp_path)] == ["a", "b"]
    assert find(tmp_path / "a") == [tmp_path / "a"]
    with pytest.raises(CaptureError, match=r"notes: manifest\.json: it is missing here"):
        find(tmp_path / "notes")
    with pytest.raises(CaptureError, match="nowhere: file: No such file"):
        find(tmp_path / "nowhere")


def changed(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "viommu-capture/2"}, "format 'viommu-capture/2': it is not 'viommu-capture/1'"),
        ({"driver": 5}, "driver 0x5: text is needed"),
        ({"driver": None}, "driver: text is needed"),
        ({"name": "a\nb"}, r"name 'a\\nb': text is needed"),
        ({"registers": [1]}, r"registers \[1\]: a JSON object is needed"),
        ({"registers": {"X": 3}}, r"registers\.X 0x3: a JSON object is needed"),
        ({"registers": {"X": {"value": "0xfg"}}}, r"registers\.X\.value '0xfg': a number is needed"),
        ({"registers": {"X": {"value": "0x1ffffffffffffffff"}}}, r"X\.value 0x1f+: 0 to 0xf+ is allowed"),
        ({"registers": {"X": {"value": -1}}}, r"registers\.X\.value -0x1: 0 to 0xf+ is allowed"),
        ({"registers": {"X": {"value": True}}}, r"registers\.X\.value 0x1: a number is needed"),
        ({"memory": {"file": "../memory.npz"}}, r"memory\.file '\.\./memory\.npz': the name of a file in the same"),
        ({"memory": {"file": ".."}}, "file: it is not a regular file"),
        ({"memory": 3}, "memory 0x3: a JSON object is needed"),
        ({"counts": 3}, "counts 0x3: a JSON object is needed"),
    ],
)
def test_a_manifest_that_is_wrong_is_told_with_field_and_bound(
    folder: Path, fields: dict[str, object], message: str
) -> None:
    changed(folder, **fields)

    with pytest.raises(CaptureError, match=message) as caught:
        read_all(folder)

    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}", b"[]"])
def test_a_manifest_that_is_no_json_object_is_told(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)

    with pytest.raises(CaptureError, match=r"manifest\.json: "):
        load(folder)


@pytest.mark.parametrize("name", ["manifest.json", "memory.npz", "translations.csv"])
def test_a_file_that_is_missing_or_no_file_is_told(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CaptureError, match=f"{name}: file: No such file or directory"):
        read_all(folder)

    os.mkfifo(folder / name)  # to read one would wait for ever
    with pytest.raises(CaptureError, match=f"{name}: file: it is not a regular file"):
        read_all(folder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rid", "", "rid '': a number is needed here"),
        ("rid", "three", "rid 'three': it is no number"),
        ("rid", "0x100000000", "rid '0x100000000': it is above 0xffffffff"),
        ("rid", "-3", "rid '-3': it is no number"),
        ("rid", "1_0", "rid '1_0': it is no number"),
        ("rid", "٣", "rid '٣': it is no number"),
        ("pasid", "0x100000", "pasid '0x100000': it is above 0xfffff"),
        ("iova", "0x1ffffffffffffffff", "iova '0x1ffffffffffffffff': it is above 0xffffffffffffffff"),
        ("iova", "0x" + "f" * 500, "iova '0xf+.*: it is no number"),
        ("access", "q", "access 'q': it is not made of r, w and x"),
        ("access", "", "access '': it is not made of r, w and x"),
        ("outcome", "maybe", "outcome 'maybe': it is none of ok, bypass, abort, fault"),
        ("pa", "", "pa '': a number is needed here"),
        ("page_size", "0x1001", "page_size '0x1001': it is neither a power of two nor 0"),
        ("record", "abc", "record 'abc': it is not up to 1024 bytes in hexadecimal"),
    ],
)
def test_a_bad_cell_is_told_with_file_row_and_bound(folder: Path, column: str, value: str, message: str) -> None:
    bad = list(GOOD_ROWS[0])
    bad[HEADER.index(column)] = value
    write_table(folder / "translations.csv", [GOOD_ROWS[1], bad])

    with pytest.raises(CaptureError, match=f"row 2: {message}") as caught:
        rows_of(load(folder))

    assert str(folder / "translations.csv") in str(caught.value)


def test_a_mask_is_as_long_as_its_record(folder: Path) -> None:
    write_table(
        folder / "translations.csv",
        [translation("3", "0", "r", "fault", record="aabb", record_mask="ff")],
    )

    with pytest.raises(CaptureError, match="row 1: record_mask 'ff': it has 1 bytes where the record has 2"):
        rows_of(load(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "header: columns ''"),
        (b"rid,iova\n", "header: columns 'rid,iova': needed, each once: rid, iova, access"),
        (b"\xff\n", "it is not UTF-8"),
        (b"rid,rid,iova,access,outcome,pa,page_size,fault\n", "header: columns .*: needed, each once"),
        (b"rid,iova,access,outcome,pa,page_size,fault\n1,2\n", "row 1: cells 0x2: the header has 7"),
        (b'rid,iova,access,outcome,pa,page_size,fault\n"1,2', "it is not CSV"),
        (b'rid,iova,access,outcome,pa,page_size,fault\n"' + b"x" * 200_000, "it is not CSV"),
        (b"rid,iova,access,outcome,pa,page_size,fault\n1,2,r,ok,3,,", "rows 0x1: it is cut short"),
    ],
)
def test_a_table_that_is_no_table_is_told(folder: Path, text: bytes, message: str) -> None:
    (folder / "translations.csv").write_bytes(text)

    with pytest.raises(CaptureError, match=message):
        rows_of(load(folder))


def test_a_table_with_all_its_rows_may_lack_its_last_newline(folder: Path) -> None:
    path = folder / "translations.csv"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))

    assert len(rows_of(load(folder))) == len(GOOD_ROWS)


@pytest.mark.parametrize("kept", [0, 2, len(GOOD_ROWS) - 1])
def test_a_table_that_is_cut_at_a_line_end_is_refused(folder: Path, kept: int) -> None:
    path = folder / "translations.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: kept + 1]))

    with pytest.raises(CaptureError, match=rf"rows {hex(kept)}: the manifest says {len(GOOD_ROWS)}"):
        rows_of(load(folder))


def test_rows_that_the_manifest_does_not_count_are_warned_of(folder: Path) -> None:
    path = folder / "translations.csv"
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[-1])

    with capture_logs() as logs:
        assert len(rows_of(load(folder))) == len(GOOD_ROWS) + 1

    assert [(entry["event"], entry["rows"], entry["manifest_says"]) for entry in logs] == [("capture.rows", 8, 7)]
