"""Device models on a bus of plain memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from viommu.models import dma_tester
from viommu.models.plain_bus import PlainBus
from viommu.vfio.catalogue import model_named

if TYPE_CHECKING:
    from viommu.modelspecs import DeviceModel

MEMORY = 1 << 20


def made(name: str, **options: str) -> tuple[DeviceModel, PlainBus]:
    bus = PlainBus()
    device = model_named(name).make(bus, options)
    device.reset()
    return device, bus


# --- ioat


def chain(bus: PlainBus, device: DeviceModel, descriptors: list[tuple[int, int, int, int]], count: int) -> int:
    """Lay descriptors (size, control, source, target) out from 0x1000 on, let them run, and give the status."""
    for index, (size, control, source, target) in enumerate(descriptors):
        at = 0x1000 + 64 * index
        bus.write(at, struct.pack("<IIQQQ", size, control, source, target, at + 64).ljust(64, b"\0"))
    device.write(0, 0x03, 1, 0x08)
    device.write(0, 0x80 + 0x10, 8, 0x1000)
    device.write(0, 0x80 + 0x00, 2, 0x0009)
    device.write(0, 0x80 + 0x06, 2, count)
    bus.run()
    return device.read(0, 0x80 + 0x08, 8)


def test_ioat_copies_along_a_chain_and_says_how_far_it_came() -> None:
    device, bus = made("ioat")
    bus.write(0x8000, b"one" + bytes(61) + b"two")
    assert chain(bus, device, [(64, 0, 0x8000, 0x9000), (3, 1, 0x8040, 0x9040)], 2) == 0x1040 | 1
    assert bus.read(0x9000, 0x43) == bus.read(0x8000, 0x43)
    assert bus.raised == [0]


@pytest.mark.parametrize(
    ("descriptor", "error"),
    [
        ((64, 0, MEMORY, 0x9000), 0x100),
        ((64, 0, 0x8000, MEMORY), 0x200),
        ((64, 0x87 << 24, 0x8000, 0x9000), 0x400),
        ((1 << 21, 0, 0x8000, 0x9000), 0x800),
    ],
)
def test_ioat_halts_at_what_it_cannot_do(descriptor: tuple[int, int, int, int], error: int) -> None:
    device, bus = made("ioat")
    assert chain(bus, device, [descriptor], 1) & 7 == 3
    assert device.read(0, 0x80 + 0x28, 4) == error
    assert bus.raised == []
    device.write(0, 0x80 + 0x28, 4, error)
    assert device.read(0, 0x80 + 0x28, 4) == 0


def test_ioat_is_armed_by_an_address_and_writes_how_it_halted_where_it_completes() -> None:
    device, bus = made("ioat")
    device.write(0, 0x80 + 0x18, 8, 0xA000)
    device.write(0, 0x80 + 0x04, 1, 0x20)
    assert device.read(0, 0x80 + 0x08, 8) == 3
    device.write(0, 0x80 + 0x10, 8, 0x1000)
    assert device.read(0, 0x80 + 0x08, 8) == 4
    device.write(0, 0x80 + 0x18, 8, 0xA000)
    bus.write(0x1000, struct.pack("<IIQQQ", 8, 1 << 3, 0x8000, 0x9000, 0x1040))
    bus.write(0x1040, struct.pack("<IIQQQ", 8, 1 << 3, MEMORY, 0x9000, 0x1080))
    device.write(0, 0x80 + 0x00, 2, 0x0004)
    device.write(0, 0x80 + 0x06, 2, 1)
    bus.run()
    assert bus.read(0xA000, 8) == (0x1000).to_bytes(8, "little")
    device.write(0, 0x80 + 0x06, 2, 2)
    bus.run()
    assert bus.read(0xA000, 8) == (0x1000 | 3).to_bytes(8, "little")


# --- nvme

ADMIN_SQ, ADMIN_CQ, DATA = 0x10000, 0x11000, 0x20000


@define
class Driver:
    """A driver of the controller in its simplest form."""

    device: DeviceModel
    bus: PlainBus
    tails: dict[int, int] = field(factory=dict)
    queues: dict[int, tuple[int, int, int]] = field(factory=lambda: {0: (ADMIN_SQ, ADMIN_CQ, 16)})

    def enable(self) -> None:
        self.device.write(0, 0x24, 4, 15 << 16 | 15)
        self.device.write(0, 0x28, 8, ADMIN_SQ)
        self.device.write(0, 0x30, 8, ADMIN_CQ)
        self.device.write(0, 0x14, 4, 0x460001)
        assert self.device.read(0, 0x1C, 4) == 1

    def command(
        self, opcode: int, queue: int = 0, nsid: int = 0, prps: tuple[int, int] = (DATA, 0), **words: int
    ) -> int:
        """Submit one, and give its status."""
        submissions, completions, size = self.queues[queue]
        tail = self.tails.get(queue, 0)
        place = tail % size
        cdws = [words.get(f"cdw{number}", 0) for number in range(10, 16)]
        raw = struct.pack("<BBHIIIQQQ6I", opcode, 0, place, nsid, 0, 0, 0, *prps, *cdws)
        self.bus.write(submissions + 64 * place, raw)
        self.tails[queue] = tail + 1
        self.device.write(0, 0x1000 + 8 * queue, 4, (tail + 1) % size)
        entry = self.bus.read(completions + 16 * place, 16)
        assert entry is not None
        _, _, _, owner, cid, status = struct.unpack("<IIHHHH", entry)
        assert (owner, cid, status & 1) == (queue, place, 1 ^ (tail // size & 1))
        self.device.write(0, 0x1004 + 8 * queue, 4, (tail + 1) % size)
        return int(status >> 1 & 0x7FF)

    def make_queue(self) -> None:
        assert self.command(0x05, prps=(0x12000, 0), cdw10=15 << 16 | 1, cdw11=3 << 16 | 3) == 0
        assert self.command(0x01, prps=(0x13000, 0), cdw10=15 << 16 | 1, cdw11=1 << 16 | 1) == 0
        self.queues[1] = (0x13000, 0x12000, 16)


@pytest.fixture
def nvme() -> Driver:
    driver = Driver(*made("nvme", size="1M"))
    driver.enable()
    return driver


def test_nvme_says_what_it_is(nvme: Driver) -> None:
    assert nvme.command(0x06, cdw10=1) == 0
    assert nvme.bus.memory[DATA + 24 : DATA + 35] == b"viommu NVMe"
    assert nvme.command(0x06, nsid=1, cdw10=0) == 0
    assert int.from_bytes(nvme.bus.memory[DATA : DATA + 8], "little") == 2048
    assert nvme.command(0x06, nsid=2, cdw10=0) == 0x00B


def test_nvme_reads_what_was_written_through_lists_of_pages(nvme: Driver) -> None:
    nvme.make_queue()
    data = bytes(index * 7 & 0xFF for index in range(4 * 4096))
    pages = [0x40000, 0x48000, 0x44000, 0x4C000]
    for index, page in enumerate(pages):
        nvme.bus.write(page, data[4096 * index :][:4096])
    nvme.bus.write(0x50000, struct.pack("<3Q", *pages[1:]))
    assert nvme.command(0x01, 1, 1, (pages[0], 0x50000), cdw10=8, cdw12=31) == 0
    nvme.bus.write(0x50000, struct.pack("<3Q", 0x61000, 0x62000, 0x63000))
    assert nvme.command(0x02, 1, 1, (0x60000, 0x50000), cdw10=8, cdw12=31) == 0
    assert nvme.bus.memory[0x60000:0x64000] == data
    assert nvme.command(0x08, 1, 1, cdw10=8, cdw12=0) == 0
    assert nvme.command(0x02, 1, 1, (0x60000, 0), cdw10=8, cdw12=0) == 0
    assert nvme.bus.memory[0x60000:0x60200] == bytes(512)
    assert nvme.bus.raised[-1] == 3


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"opcode": 0x7F, "nsid": 1}, 0x001),
        ({"opcode": 0x02, "nsid": 2}, 0x00B),
        ({"opcode": 0x02, "nsid": 1, "cdw10": 2048}, 0x080),
        ({"opcode": 0x02, "nsid": 1, "cdw12": 0xFFFF}, 0x002),
        ({"opcode": 0x02, "nsid": 1, "prps": (MEMORY, 0)}, 0x004),
        ({"opcode": 0x02, "nsid": 1, "cdw12": 15, "prps": (0x40000, 0x40001)}, 0x004),
    ],
)
def test_nvme_refuses_with_the_status_that_says_why(nvme: Driver, words: dict[str, int], status: int) -> None:
    nvme.make_queue()
    assert nvme.command(queue=1, **words) == status  # type: ignore[arg-type]


def test_nvme_goes_round_its_queues(nvme: Driver) -> None:
    nvme.make_queue()
    for _ in range(50):
        assert nvme.command(0x00, 1, 1) == 0
    assert nvme.command(0x04, cdw10=1) == 0x10C
    assert nvme.command(0x00, cdw10=1) == 0
    assert nvme.command(0x04, cdw10=1) == 0


# --- all

ACCESSES = st.tuples(
    st.integers(0, 0x4000), st.sampled_from((1, 2, 4, 8)), st.integers(0, (1 << 64) - 1), st.booleans()
)


@pytest.mark.parametrize(
    "name", ["edu", "ioat", "nvme", str(dma_tester.__file__)], ids=["edu", "ioat", "nvme", "tester"]
)
@given(accesses=st.lists(ACCESSES, max_size=40), memory=st.binary(max_size=512))
def test_no_access_of_a_program_makes_a_model_fail(
    name: str, accesses: list[tuple[int, int, int, bool]], memory: bytes
) -> None:
    device, bus = made(name)
    bus.write(0, memory)
    for offset, size, value, stores in accesses:
        at = offset & -size
        if stores:
            device.write(0, at, size, value & ((1 << 8 * size) - 1))
        else:
            assert 0 <= device.read(0, at, size) < 1 << 8 * size
        for _ in range(min(len(bus.due), 4)):
            bus.due.pop(0)()
