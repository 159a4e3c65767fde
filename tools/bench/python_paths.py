"""The paths that Python takes: through the API, and what one would write without it."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.bench import tables
from tools.bench.paths import Path
from tools.bench.tables import DATA, IPA, PAGE, RAM, RANGE, Tables
from tools.bench.toy import machine
from viommu import Iotlb
from viommu.faults import Access
from viommu.formats import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    import viommu

    Fast = Callable[[int, int, int], None]

BATCH, MILLION = 65536, 1 << 20
REQUESTER, READ = 3, Access.READ
CALLS = 8000


class Mapped:
    """One stage over so many pages, an IOTLB of twice as many slots that holds them, and rows to ask for."""

    def __init__(self, pages: int, iotlb_entries: int) -> None:
        made = Tables.roomy(pages)
        self.root = made.take(1)
        made.map(self.root, RANGE, DATA, pages)
        self.words = made.words
        self.memory = made.memory()
        self.context = Context(stage1=tables.x86(self.root))
        self.machine = machine(self.memory, self.context, Iotlb(entries=iotlb_entries))
        self.iovas = tables.shuffled(RANGE, pages, BATCH, MILLION)
        self.requesters = np.full(len(self.iovas), REQUESTER, np.uint32)
        self.accesses = np.full(len(self.iovas), READ, np.uint8)
        self.check(self.iovas)

    def check(self, iovas: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
        """Hold every path's answers against arithmetic: what is wrong is not measured."""
        right = iovas - np.uint64(RANGE) + np.uint64(DATA)
        rows = len(iovas)
        found = self.machine.translate_many(self.requesters[:rows], iovas, self.accesses[:rows])
        assert np.array_equal(found.pa, right)
        assert np.array_equal(tables.walk(self.words, self.root, iovas), right)

    def keep_hits(self, pages: int) -> None:
        """Ask for nothing but what hits: no set-associative cache holds all of as many pages as it has room for."""
        translate, counters = self.machine.translator.translate, self.machine.translator.stream_counters
        order = [int(iova) for iova in tables.shuffled(RANGE, pages, pages, pages)]
        for iova in order:
            translate(REQUESTER, iova, 1)
        kept, hits = [], counters(REQUESTER)["hits"]
        for iova in order:
            translate(REQUESTER, iova, 1)
            now = counters(REQUESTER)["hits"]
            if now != hits:
                kept.append(iova)
            hits = now
        self.iovas = np.resize(np.array(kept, np.uint64), max(len(kept), BATCH))

    def batch(self, rows: int) -> int:
        """Translate the first rows."""
        self.machine.translate_many(self.requesters[:rows], self.iovas[:rows], self.accesses[:rows])
        return rows

    def numpy_walk(self, rows: int) -> int:
        """Walk the first rows without an engine."""
        tables.walk(self.words, self.root, self.iovas[:rows])
        return rows


class DictIotlb:
    """An IOTLB as one writes it in Python: (tag, page) to (frame, rights)."""

    def __init__(self, iovas: list[int]) -> None:
        self._pages = {(0, iova >> 12): (iova - RANGE + DATA, 3) for iova in iovas}

    def translate(self, tag: int, iova: int, access: int) -> int | None:
        """Give the physical address, None where it does not hit."""
        entry = self._pages.get((tag, iova >> 12))
        if entry is None or access & ~entry[1]:
            return None
        return entry[0] | iova & 0xFFF


def struct_walk(memory: bytes, root: int, iova: int) -> int | None:
    """Walk four levels as one writes it in Python."""
    table = root
    for shift in (39, 30, 21, 12):
        (entry,) = struct.unpack_from("<Q", memory, table - RAM + (iova >> shift & 0x1FF) * 8)
        if not entry & 1:
            return None
        table = entry & 0x000F_FFFF_FFFF_F000
    return int(table | iova & 0xFFF)


def call_dict(iotlb: DictIotlb, iovas: list[int]) -> int:
    """Look each address up."""
    translate = iotlb.translate
    for iova in iovas:
        translate(0, iova, 1)
    return len(iovas)


def call_machine(machine: viommu.Machine, iovas: list[int]) -> int:
    """Translate each address by itself."""
    translate = machine.translate
    for iova in iovas:
        translate(REQUESTER, iova, READ)
    return len(iovas)


def call_translator(machine: viommu.Machine, iovas: list[int]) -> int:
    """Do the same one layer down, where the answer is the engine's own object."""
    translate = machine.translator.translate
    for iova in iovas:
        translate(REQUESTER, iova, 1)
    return len(iovas)


def call_nothing(function: Fast, iovas: list[int]) -> int:
    """Call what takes three integers and does nothing."""
    for iova in iovas:
        function(REQUESTER, iova, 1)
    return len(iovas)


def call_walk(memory: bytes, root: int, iovas: list[int]) -> int:
    """Walk each address in Python."""
    for iova in iovas:
        struct_walk(memory, root, iova)
    return len(iovas)


def hits(pages: int) -> list[Path]:
    """Give the paths of a batch of hits, and who is beside it."""
    world = Mapped(pages, 2 * pages)
    world.keep_hits(pages)
    rows = len(world.iovas)
    some = [int(iova) for iova in world.iovas[:CALLS]]
    iotlb = DictIotlb([int(iova) for iova in world.iovas])
    return [
        Path("batch of hits, Python", partial(world.batch, rows)),
        Path("NumPy walk", partial(world.numpy_walk, rows)),
        Path("Python dict", partial(call_dict, iotlb, some)),
    ]


def small_batches(fast: Fast | None) -> list[Path]:
    """Give batches of few rows, and calls for one."""
    world = Mapped(1024, 2048)
    world.keep_hits(1024)
    some = [int(iova) for iova in world.iovas[:CALLS]]
    iotlb = DictIotlb([int(iova) for iova in world.iovas])

    def batches(rows: int) -> int:
        columns = world.requesters[:rows], world.iovas[:rows], world.accesses[:rows]  # at hand, as a call's numbers are
        times = max(1, 8192 // rows)
        for _ in range(times):
            world.machine.translate_many(*columns)
        return times * rows

    paths = [Path(f"batch of {rows}", partial(batches, rows)) for rows in (1, 8, 16, 256, 4096, BATCH)]
    paths += [
        Path("translate", partial(call_machine, world.machine, some)),
        Path("translator.translate", partial(call_translator, world.machine, some)),
        Path("Python dict", partial(call_dict, iotlb, some)),
    ]
    if fast is not None:
        paths.append(Path("empty METH_FASTCALL", partial(call_nothing, fast, some)))
    return paths


def cold(pages: int) -> list[Path]:
    """Give the walks that Python and NumPy do, and the engine's from Python."""
    world = Mapped(pages, 1024)
    rows = len(world.iovas)
    some = [int(iova) for iova in world.iovas[:CALLS]]
    memory = world.words.tobytes() if pages <= MILLION else b""
    return [
        Path("cold batch, Python", partial(world.batch, rows), world.machine.translator.invalidate_all),
        Path("NumPy walk", partial(world.numpy_walk, rows)),
        Path("Python walk", partial(call_walk, memory, world.root, some)),
    ]


class Nested:
    """A guest's tables in its memory, which begins at 0 and lies at `RAM`; its pages lie a range further on."""

    def __init__(self, pages: int) -> None:
        made = Tables.roomy(2 * pages + 4096, roots=16)
        size = made.words.nbytes
        second_tables = Tables.roomy(size // PAGE)
        made.words = np.concatenate([made.words, second_tables.words])
        self.first, self.second = made.take(1), made.take(1)
        made.map(self.second, 0, RAM, made.words.nbytes // PAGE)
        made.map(self.second, IPA, DATA, pages)
        made.map(self.first, RANGE, IPA, pages, shift=-RAM)
        self.words = made.words
        self.iovas = tables.shuffled(RANGE, pages, BATCH, MILLION)
        right = self.iovas - np.uint64(RANGE) + np.uint64(DATA)
        assert np.array_equal(tables.walk_nested(self.words, self.first - RAM, self.second, self.iovas), right)

    def numpy_walk(self) -> int:
        """Walk every row."""
        tables.walk_nested(self.words, self.first - RAM, self.second, self.iovas)
        return len(self.iovas)


def nested(pages: int) -> list[Path]:
    """Give the nested walk that NumPy does."""
    return [Path("NumPy nested walk", Nested(pages).numpy_walk)]


def groups(fast: Fast | None) -> dict[str, Callable[[], list[Path]]]:
    """Give every group of this process; ``fast`` is an empty METH_FASTCALL function, if one was built."""
    return {
        "hits, 1k pages": partial(hits, 1024),
        "hits, 16k pages": partial(hits, 16384),
        "hits, 1M pages": partial(hits, MILLION),
        "small batches": partial(small_batches, fast),
        "cold, 16k pages": partial(cold, 16384),
        "cold, 1M pages": partial(cold, MILLION),
        "nested, 16k pages": partial(nested, 16384),
        "nested, 1M pages": partial(nested, MILLION),
    }
