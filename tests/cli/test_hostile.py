"""Whatever a capture holds, the command ends with 0, 1 or 2, and with at most one line of complaint."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.core.captured import RECORDINGS, write_table
from viommu.cli import main

FAMILIES = ("vtd-legacy-aw48", "vtd-scalable-fs", "amd-v1", "smmuv3-s1", "smmuv3-nested-4k-48")
FILES = (
    "manifest.json",
    "memory.npz",
    "translations.csv",
    "disputed.csv",
    "commands.csv",
    "faults.csv",
    "mutations.csv",
)
ROWS = 25
"""Rows of each table, spread over the whole of it."""


@cache
def short(family: str) -> dict[str, bytes]:
    """Read a recording with few rows, as the bytes of its files."""
    files = {}
    for name in FILES:
        path = RECORDINGS / family / name
        if path.exists():
            files[name] = path.read_bytes() if path.suffix != ".csv" else _shortened(path)
    manifest = json.loads(files["manifest.json"])
    manifest["counts"] = {}
    return files | {"manifest.json": json.dumps(manifest).encode()}


def _shortened(path: Path) -> bytes:
    header, *rows = path.read_text().splitlines(keepends=True)
    return "".join([header, *rows[:: len(rows) // ROWS + 1]]).encode()


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def ends_well(*arguments: object) -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert code in {0, 1, 2}, err.getvalue()
    assert "internal error" not in err.getvalue()
    if code == 2:
        assert (out.getvalue(), err.getvalue().count("\n")) == ("", 1)
    elif "--json" in arguments:
        json.loads(out.getvalue())


def replay_and_walk(files: dict[str, bytes], rid: int = 0x80, iova: int = 0x70_0000_0340) -> None:
    with TemporaryDirectory() as name:
        folder = written(Path(name), files)
        ends_well("replay", folder, "--json", "--limit-mismatches", 3)
        ends_well("walk", folder, "--rid", rid, hex(iova))


families = st.sampled_from(FAMILIES)


@given(families, st.data())
def test_bytes_that_were_changed(family: str, data: st.DataObject) -> None:
    files = dict(short(family))
    name = data.draw(st.sampled_from(sorted(files)))
    raw = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.integers(0, 8))
        raw[at : at + length] = data.draw(st.binary(max_size=8))
    files[name] = bytes(raw)

    replay_and_walk(files)


@given(families, st.data())
def test_files_that_were_cut_or_lost(family: str, data: st.DataObject) -> None:
    files = dict(short(family))
    name = data.draw(st.sampled_from(sorted(files)))
    if data.draw(st.booleans()):
        files[name] = files[name][: data.draw(st.integers(0, len(files[name])))]
    else:
        del files[name]

    replay_and_walk(files)


@given(families, st.data())
def test_registers_of_any_value(family: str, data: st.DataObject) -> None:
    files = dict(short(family))
    manifest = json.loads(files["manifest.json"])
    for name in data.draw(st.lists(st.sampled_from(sorted(manifest["registers"])), min_size=1, max_size=4)):
        bit_or_value = st.integers(0, 63).map(lambda bit: 1 << bit) | st.integers(0, (1 << 64) - 1)
        value = int(manifest["registers"][name]["value"], 0) ^ data.draw(bit_or_value)
        manifest["registers"][name]["value"] = hex(value)
    files["manifest.json"] = json.dumps(manifest).encode()

    replay_and_walk(files)


@given(families, st.data())
def test_fields_of_any_kind(family: str, data: st.DataObject) -> None:
    files = dict(short(family))
    manifest = json.loads(files["manifest.json"])
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=5,
    )
    manifest[data.draw(st.sampled_from(sorted(manifest)))] = data.draw(anything)
    files["manifest.json"] = json.dumps(manifest).encode()

    replay_and_walk(files)


@given(families, st.data())
def test_cells_of_any_text(family: str, data: st.DataObject) -> None:
    files = dict(short(family))
    name = data.draw(st.sampled_from(sorted(name for name in files if name.endswith(".csv"))))
    header, *rows = csv.reader(files[name].decode().splitlines())
    row = data.draw(st.sampled_from(rows))
    number = st.integers(-1, 1 << 65).map(hex)
    row[data.draw(st.integers(0, len(header) - 1))] = data.draw(number | st.text(max_size=12))
    with TemporaryDirectory() as folder:
        write_table(Path(folder) / name, rows, header)
        files[name] = (Path(folder) / name).read_bytes()

    replay_and_walk(files)


@given(families, st.data())
def test_tables_of_any_content(family: str, data: st.DataObject) -> None:
    files = dict(short(family))
    with np.load(io.BytesIO(files["memory.npz"])) as archive:
        gpa, page = archive["gpa"], archive["page"].copy()
    words = page.view(np.uint64)
    entries = np.flatnonzero(words).tolist()
    for at in data.draw(st.lists(st.sampled_from(entries), min_size=1, max_size=20)):
        flags, base = int(words.flat[at]) & 0xFFF, data.draw(st.sampled_from(gpa.tolist()))
        words.flat[at] = np.uint64(data.draw(st.just(base | flags) | st.integers(0, (1 << 64) - 1)))
    archived = io.BytesIO()
    np.savez(archived, gpa=gpa, page=page)
    files["memory.npz"] = archived.getvalue()

    replay_and_walk(files)


@given(families, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1), st.none() | st.integers(0, 1 << 20))
def test_any_access_is_explained_or_refused(family: str, iova: int, rid: int, pasid: int | None) -> None:
    given_pasid = () if pasid is None else ("--pasid", pasid)

    ends_well("walk", RECORDINGS / family, "--rid", rid, hex(iova), "--access", "w", "--json", *given_pasid)
    ends_well("walk", RECORDINGS / family, "--rid", rid & 0xFF, hex(iova), "--access", "x", *given_pasid)
