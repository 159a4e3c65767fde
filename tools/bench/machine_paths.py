"""What a machine adds to the engine: listeners, and bytes that devices move."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tools.bench import tables
from tools.bench.paths import Path
from tools.bench.python_paths import BATCH, REQUESTER, Mapped
from tools.bench.tables import PAGE, RANGE, Tables
from tools.bench.toy import machine
from viommu import Iotlb
from viommu.formats import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MACHINES, BATCHES = 4, 3
MIB = 1 << 20
BUFFERS = 1 << 44
"""Where the pages lie that devices read and write."""


class Listener:
    """Somebody who wants to hear of everything, and counts."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, event: str, facts: Mapping[str, object]) -> None:
        """Hear of something."""
        del event, facts
        self.heard += 1


def listened(world: Mapped, iotlb_entries: int, listener: Listener) -> Mapped:
    """Give another machine on the same memory, asked the same."""
    other = copy(world)
    other.machine = machine(world.memory, world.context, Iotlb(entries=iotlb_entries), [listener])
    other.check(other.iovas)
    return other


def batches(worlds: list[Mapped], *, cold: bool) -> int:
    """Translate many batches."""
    for world in worlds:
        for _ in range(BATCHES):
            if cold:
                world.machine.translator.invalidate_all()
            world.batch(BATCH)
    return len(worlds) * BATCHES * BATCH


def listeners() -> list[Path]:
    """Give batches with nobody who listens and with somebody who does.

    Of several machines: where the host puts a machine's memory makes more of a difference than what is looked for.
    """
    paths: list[Path] = []
    listener = Listener()
    for what, entries in (("hits", 32768), ("walks", 1024)):
        alone = [Mapped(16384, entries) for _ in range(MACHINES)]
        heard = [listened(world, entries, listener) for world in alone]
        for who, worlds in (("nobody", alone), ("somebody", heard)):
            run = partial(batches, worlds, cold=what == "walks")
            paths.append(Path(f"batch of {what}, {who} listens", run))

    def calls() -> float:
        before = listener.heard
        batches(heard, cold=True)
        return float(listener.heard - before)

    return [*paths, Path("calls of a listener", figure=calls)]


class Moved:
    """1 MiB of 4 KiB pages that lie in any order, and an array beside them."""

    def __init__(self) -> None:
        pages = MIB // PAGE
        made = Tables.roomy(pages)
        root = made.take(1)
        made.map(root, RANGE, BUFFERS, pages)
        order = np.random.default_rng(2).permutation(pages)
        leaves = np.flatnonzero((made.words & tables.FRAME) >= np.uint64(BUFFERS))
        made.words[leaves] = made.words[leaves][order]
        memory = made.memory()
        self.pages = np.zeros(MIB, np.uint8)
        memory.place(BUFFERS, self.pages)
        self.machine = machine(memory, Context(stage1=tables.x86(root)), Iotlb(entries=1024))
        self.array = np.random.default_rng(3).integers(0, 256, MIB, np.uint8)
        self.out = np.zeros(MIB, np.uint8)
        self._order = order

    def read(self) -> int:
        """Let the device read all of it."""
        self.machine.dma_read(REQUESTER, RANGE, MIB)
        return 1

    def read_into(self) -> int:
        """Let the device read all of it into an array."""
        assert self.machine.dma_read(REQUESTER, RANGE, MIB, out=self.out) is None
        return 1

    def check(self) -> None:
        """Refuse to measure what moves other bytes."""
        self.write()
        assert self.machine.dma_read(REQUESTER, RANGE, MIB) == self.array.tobytes()
        self.read_into()
        assert np.array_equal(self.out, self.array)
        assert np.array_equal(self.pages.reshape(-1, PAGE)[self._order].reshape(-1), self.array)

    def write(self) -> int:
        """Let the device write all of it."""
        assert self.machine.dma_write(REQUESTER, RANGE, self.array.data) is None
        return 1

    def copy_out(self) -> int:
        """Copy the same pages into a fresh array, where they lie being known."""
        self.pages.reshape(-1, PAGE)[self._order].reshape(-1)
        return 1

    def copy_into(self) -> int:
        """Copy the same pages into an array that is there, in NumPy's quickest way."""
        np.take(self.pages.reshape(-1, PAGE), self._order, 0, self.out.reshape(-1, PAGE), "clip")
        return 1

    def copy_in(self) -> int:
        """Copy an array to the same pages."""
        self.pages.reshape(-1, PAGE)[self._order] = self.array.reshape(-1, PAGE)
        return 1


def moves() -> list[Path]:
    """Give DMA of 1 MiB beside NumPy's copies of the same pages."""
    moved = Moved()
    moved.check()
    return [
        Path("dma_read of 1 MiB", moved.read),
        Path("NumPy copies the pages out", moved.copy_out),
        Path("dma_read of 1 MiB into an array", moved.read_into),
        Path("NumPy copies the pages into an array", moved.copy_into),
        Path("dma_write of 1 MiB", moved.write),
        Path("NumPy copies the pages in", moved.copy_in),
    ]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give every group of machines."""
    return {"listeners": listeners, "moves of 1 MiB": moves}
