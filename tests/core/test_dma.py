"""DMA, which the engine does in one go, comes to what one access after the other comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

import viommu
from tests.core.hosted_toy import RecordingHardware
from tests.core.toy import Guest, Hardware, ToyDriver
from viommu import Access, Fault, Iotlb, Machine
from viommu._engine import NO_PASID
from viommu.backing import AddressSpace
from viommu.drivers import bind_plugin
from viommu.errors import BadValue, OutOfRange
from viommu.machine import BusAbort

if TYPE_CHECKING:
    from viommu.backing import BufferLike
    from viommu.faults import ConfigurationLog, Refusal, Report
    from viommu.formats import Context
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform

PAGE, LARGE = 1 << 12, 1 << 21
PAGES = 12
BASE = 0x4020_0000 - PAGES * PAGE
"""Small pages, which end where a large one begins."""
LARGE_AT, LARGE_BACKED = 1 << 40, 4 * PAGE
"""Where the large page leads, and how much memory is there."""
READ_ONLY_AT, HOLE_AT = 1 << 41, 1 << 42
KINDS = ("ram", "ram", "ram", "ram", "read-only leaf", "unmapped", "hole", "read-only memory", "remote")
PASID = 5


class Recorder(RecordingHardware):
    """The toy's configuration, with hardware that writes faults down."""

    def __init__(self, memory: PhysicalMemory, registers: Registers, platform: Platform) -> None:
        super().__init__(memory, platform)
        self._toy = Hardware(memory, registers)
        self.recorded: list[Fault] = []

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        return self._toy.configure(requester, pasid, log)

    def record(self, fault: Fault) -> Report:
        self.recorded.append(fault)
        return self.report(fault)


class RecorderToy(ToyDriver):
    """Makes a `Recorder`, and keeps it."""

    made: Recorder

    @viommu.hookimpl
    def viommu_hardware(  # type: ignore[override]
        self, memory: PhysicalMemory, registers: Registers, platform: Platform
    ) -> HardwareModel:
        self.made = Recorder(memory, registers, platform)
        return self.made


@define
class Request:
    """One DMA, as a test draws it."""

    requester: int
    offset: int
    length: int
    writes: bool
    pasid: int | None
    forget: bool
    """Whether everything cached is invalidated first."""

    @property
    def data(self) -> bytes:
        return (bytes(range(self.offset % 256, 256)) * (self.length // (256 - self.offset % 256) + 1))[: self.length]


class World:
    """A guest with pages of several kinds, and a machine in front of it."""

    def __init__(
        self, kinds: list[str], iotlb: dict[str, int | None] | None, walk_cache: int = 0, *, sanitize: bool = False
    ) -> None:
        self.guest = Guest()
        memory = self.guest.memory
        self.ram = memory.add_ram(PAGES * PAGE)
        self.large = np.arange(LARGE_BACKED, dtype=np.uint32).astype(np.uint8)
        memory.place(LARGE_AT, self.large)
        memory.place(READ_ONLY_AT, bytes(range(256)) * (PAGES * PAGE // 256), writable=False)
        self.theirs = {PAGE * page + at: at * page for page in range(PAGES) for at in range(0, PAGE, 8)}
        remote = memory.add_remote(AddressSpace("client"), 0, PAGES * PAGE, self.theirs.get, self._exchange)
        for page, kind in enumerate(kinds):
            places = {
                "hole": HOLE_AT + page * PAGE,
                "read-only memory": READ_ONLY_AT + page * PAGE,
                "remote": remote.pa(page * PAGE),
            }
            if kind != "unmapped":
                pa = places.get(kind, self.ram.pa((page * 5 % PAGES) * PAGE))
                self.guest.map(BASE + page * PAGE, pa, writable=kind != "read-only leaf")
        self.guest.map(BASE + PAGES * PAGE, LARGE_AT, level=1)
        self.driver = RecorderToy()
        self.machine = Machine(
            bind_plugin(self.driver),
            memory,
            self.guest.registers,
            iotlb=None if iotlb is None else Iotlb(**iotlb),  # type: ignore[arg-type]
            walk_cache_entries=walk_cache,
            sanitize=sanitize,
        )

    def _exchange(self, address: int, expected: int, desired: int) -> bool:
        if self.theirs[address] != expected:
            return False
        self.theirs[address] = desired
        return True

    def iova(self, request: Request) -> int:
        return request.offset + (self.ram.pa() if request.requester == 4 else BASE)

    def prepare(self, request: Request) -> int:
        if request.forget:
            self.machine.translator.invalidate_all()
            self.machine.translator.invalidate_contexts()
        return self.iova(request)

    def at_once(self, request: Request) -> tuple[object, bytes]:
        iova = self.prepare(request)
        if request.writes:
            return self.machine.dma_write(request.requester, iova, request.data, request.pasid), b""
        found = self.machine.dma_read(request.requester, iova, request.length, request.pasid)
        return (None, found) if isinstance(found, bytes) else (found, b"")

    def into(self, request: Request) -> tuple[object, bytes]:
        if request.writes:
            return self.at_once(request)
        out = np.zeros(request.length, np.uint8)
        iova = self.prepare(request)
        ended = self.machine.dma_read(request.requester, iova, request.length, request.pasid, out=out)
        return ended, out.tobytes() if ended is None else b""

    def page_by_page(self, request: Request) -> tuple[object, bytes]:
        """Translate and copy by public methods: the judge."""
        iova, read, moved = self.prepare(request), b"", 0
        access = Access.WRITE if request.writes else Access.READ
        while moved < request.length:
            at = iova + moved
            found = self.machine.translate(request.requester, at, access, request.pasid)
            if isinstance(found, Fault):
                return found, b""
            size = request.length - moved
            if found.page_size:
                size = min(size, found.page_size - at % found.page_size)
            if request.writes:
                part = request.data[moved : moved + size]
                if not self.guest.memory.write(found.pa, part):
                    return BusAbort(found.pa, size), b""
            else:
                got = self.guest.memory.read(found.pa, size)
                if got is None:
                    return BusAbort(found.pa, size), b""
                read += got
            moved += size
        return None, read

    def state(self) -> tuple[object, ...]:
        """Everything that a DMA may have changed."""
        translator = self.machine.translator
        return (
            translator.counters(),
            [translator.stream_counters(requester) for requester in (3, 4, 9)],
            len(translator),
            self.driver.made.recorded,
            self.guest.memory.read(self.guest.ram.pa(), 1 << 20),  # tables, with their accessed and dirty bits
            self.guest.memory.read(self.ram.pa(), PAGES * PAGE),
            self.large.tobytes(),
            self.theirs,
        )


REQUESTS = st.builds(
    Request,
    requester=st.sampled_from([3, 3, 3, 3, 4, 9]),
    offset=st.integers(0, PAGES * PAGE + 64) | st.sampled_from([0, PAGE, (PAGES - 1) * PAGE, PAGES * PAGE]),
    length=st.integers(0, 64) | st.integers(0, 6 * PAGE) | st.just((PAGES + 3) * PAGE),
    writes=st.booleans(),
    pasid=st.none() | st.just(PASID),
    forget=st.booleans(),
)
IOTLBS: list[dict[str, int | None] | None] = [None, {"entries": 8}, {"entries": 1024}, {"entries": None}]


@pytest.mark.parametrize("way", ["at_once", "into"])
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=PAGES, max_size=PAGES) | st.just(["ram"] * PAGES),
    requests=st.lists(REQUESTS, min_size=1, max_size=5),
    iotlb=st.sampled_from(IOTLBS),
    walk_cache=st.sampled_from([0, 0, 16]),
)
def test_a_dma_comes_to_what_its_accesses_come_to(
    way: str, kinds: list[str], requests: list[Request], iotlb: dict[str, int | None] | None, walk_cache: int
) -> None:
    one, other = World(kinds, iotlb, walk_cache), World(kinds, iotlb, walk_cache)

    for request in requests:
        assert getattr(one, way)(request) == other.page_by_page(request)
        assert one.state() == other.state()


def test_what_lies_before_a_refused_page_is_in_the_buffer() -> None:
    world = World(["ram", "unmapped"] + ["ram"] * (PAGES - 2), None)
    world.guest.memory.write(world.ram.pa(), b"\x11" * PAGE)
    out = np.full(PAGE + 8, 0xEE, np.uint8)

    fault = world.machine.dma_read(3, BASE, PAGE + 8, out=out)

    assert isinstance(fault, Fault)
    assert fault.iova == BASE + PAGE
    assert out.tolist() == [0x11] * PAGE + [0xEE] * 8
    assert world.driver.made.recorded == [fault]


def test_a_buffer_of_any_shape_is_filled() -> None:
    world = World(["ram"] * PAGES, {"entries": 64})
    data = np.arange(2 * PAGE // 4, dtype=np.uint32)
    assert world.machine.dma_write(3, BASE + 3, data.data) is None
    out = np.zeros((2, PAGE // 4), np.uint32)

    assert world.machine.dma_read(3, BASE + 3, 2 * PAGE, out=out) is None

    assert out.reshape(-1).tolist() == data.tolist()
    assert world.machine.dma_read(3, BASE, 0, out=bytearray()) is None


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (bytes(8), "out 'read-only, 0x8 bytes' is not a writable contiguous buffer of 0x8 bytes"),
        (bytearray(7), "out 'contiguous, 0x7 bytes' is not"),
        (np.zeros(16, np.uint8)[::2], "out 'strided, 0x8 bytes' is not"),
    ],
)
def test_a_buffer_that_will_not_do_is_named(out: BufferLike, message: str) -> None:
    world = World(["ram"] * PAGES, None)

    with pytest.raises(BadValue, match=message):
        world.machine.dma_read(3, BASE, 8, out=out)
    assert world.machine.translator.counters()["translations"] == 0


@pytest.mark.parametrize(
    ("requester", "iova", "pasid", "message"),
    [
        (1 << 20, BASE, None, "RID for toy"),
        (3, -1, None, "IOVA"),
        (3, (1 << 64) - 4, None, "length of a DMA"),
        (3, BASE, NO_PASID, "PASID for toy"),
        (3, BASE, -1, "PASID for toy"),
    ],
)
def test_what_no_device_can_ask_is_refused_though_all_is_cached(
    requester: int, iova: int, pasid: int | None, message: str
) -> None:
    world = World(["ram"] * PAGES, {"entries": 64})
    world.machine.dma_read(3, BASE, PAGE)

    with pytest.raises(OutOfRange, match=message):
        world.machine.dma_read(requester, iova, 8, pasid)
    with pytest.raises(OutOfRange, match=message):
        world.machine.dma_read(requester, iova, 8, pasid, out=bytearray(8))
    with pytest.raises(OutOfRange, match=message):
        world.machine.dma_write(requester, iova, bytes(8), pasid)


def test_numbers_may_be_of_numpy() -> None:
    world = World(["ram"] * PAGES, {"entries": 64})
    data = bytes(range(256)) * (3 * PAGE // 256)
    requester, iova, length, pasid = np.array([3, BASE + 8, len(data), PASID])

    assert world.machine.dma_write(requester, iova, data, pasid) is None
    assert world.machine.dma_read(requester, iova, length, pasid) == data


def test_no_memory_is_taken_for_what_cannot_be_read() -> None:
    world = World(["ram"] * PAGES, None)

    assert isinstance(world.machine.dma_read(3, 0, 1 << 62), Fault)
    assert world.machine.dma_read(4, 0, 1 << 62) == BusAbort(0, 1 << 62)
    with pytest.raises(OutOfRange, match="length of a DMA"):
        world.machine.dma_read(3, BASE, -1)


def test_a_read_of_more_than_is_taken_at_once_is_whole() -> None:
    guest = Guest()
    size = 34 << 20
    view = guest.memory.add_ram(size)
    guest.memory.write(view.pa(), np.arange(size // 4, dtype=np.uint32).tobytes())
    machine = Machine(bind_plugin(ToyDriver()), guest.memory, guest.registers)
    for page in range(size // LARGE):
        guest.map(0x4000_0000 + page * LARGE, view.pa(page * LARGE), level=1)

    read = machine.dma_read(3, 0x4000_0000 + 5, size - 5)

    assert read == guest.memory.read(view.pa(5), size - 5)
    assert machine.translator.counters()["translations"] == size // LARGE
    assert machine.dma_read(4, view.pa(), size) == guest.memory.read(view.pa(), size)


def test_who_watches_memory_sees_what_devices_write() -> None:
    world = World(["ram"] * PAGES, None)
    stores: list[int] = []
    world.guest.memory.watcher = lambda pa, _, __: stores.append(pa)

    world.machine.dma_write(3, BASE, b"\1" * 16)

    assert stores == [world.ram.pa(), world.ram.pa(8)]


def test_the_sanitizer_judges_each_page_of_a_dma() -> None:
    world = World(["ram"] * PAGES, {"entries": 64}, sanitize=True)
    world.machine.dma_read(3, BASE, 3 * PAGE)
    world.guest.map(BASE + PAGE, world.ram.pa(7 * PAGE))

    world.machine.dma_read(3, BASE, 3 * PAGE)

    assert world.machine.sanitizer is not None
    assert [use.iova for use in world.machine.sanitizer.reports] == [BASE + PAGE]
