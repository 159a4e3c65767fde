"""Whatever a program writes into a dma-tester's rings, the device answers: it neither fails nor hangs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from viommu.models import dma_tester
from viommu.models.dma_tester.device import MOST_BYTES
from viommu.models.dma_tester.work import Completion, Operation, Work
from viommu.models.plain_bus import PlainBus

if TYPE_CHECKING:
    import pytest

    from viommu.modelspecs import DeviceModel

RING, RECORDS, SIZE_LG2 = 0x1000, 0x2000, 3
IN_MEMORY = 0x8000
STATUSES, TURNS = range(10), 12
EDGES = [0, 1, 4, 8, 4095, 4096, (1 << 20) - 1, 1 << 20, 1 << 40, (1 << 64) - 1]
VALUES = st.sampled_from(EDGES) | st.integers(0, (1 << 64) - 1) | st.integers(0, 0x8000)
FIRST = st.integers(0, 12) | st.integers(0, (1 << 56) - 1) | st.integers(0, 0xFFFF).map(lambda flags: flags << 8 | 3)
DESCRIPTORS = st.builds(
    lambda first, rest: struct.pack("<8Q", first, *rest),
    FIRST,
    st.tuples(*[VALUES] * 6, st.sampled_from([0, 0, 0, 1])),
)


@define
class EmptyTlb:
    answers: bool = True
    invalidations: int = 0

    def __len__(self) -> int:
        return 0

    def clear(self) -> None:
        self.invalidations += 1


def made() -> tuple[DeviceModel, PlainBus]:
    bus = PlainBus()
    device = dma_tester.viommu_model(bus, {})
    assert device is not None
    device.reset()
    return device, bus


@given(
    descriptors=st.lists(DESCRIPTORS, min_size=1, max_size=8),
    missing=st.sets(st.integers(4, 8), max_size=2),
    stops=st.booleans(),
)
def test_no_descriptor_makes_it_fail_or_hang(descriptors: list[bytes], missing: set[int], stops: bool) -> None:
    device, bus = made()
    bus.missing = missing
    bus.write(RING, b"".join(descriptors))
    for offset, value in ((0, RING), (8, RECORDS), (0x10, SIZE_LG2), (0x18, 1)):
        device.write(0, 0x1000 + offset, 8 if offset < 0x10 else 4, value)
    device.write(0, 0x1020, 4, len(descriptors))
    bus.run(TURNS)
    done = device.read(0, 0x1028, 4)
    running, error = device.read(0, 0x101C, 4) & 1, device.read(0, 0x101C, 4) >> 8
    assert running != bool(error)
    assert done + device.read(0, 0x102C, 4) <= len(descriptors) or error
    if not error and not bus.due:
        assert done == len(descriptors)
    if stops:
        device.write(0, 0x1018, 4, 0)
        bus.run(TURNS)
        assert not bus.due


@given(
    tail=st.integers(0, (1 << 32) - 1),
    size=st.integers(0, 31),
    base=VALUES,
    records=VALUES,
    pasid=st.integers(0, 1 << 31),
)
def test_no_setting_of_a_ring_makes_it_fail_or_hang(tail: int, size: int, base: int, records: int, pasid: int) -> None:
    device, bus = made()
    for offset, width, value in ((0, 8, base), (8, 8, records), (0x10, 4, size), (0x14, 4, pasid), (0x18, 4, 1)):
        device.write(0, 0x1000 + offset, width, value)
    device.write(0, 0x1020, 4, tail)
    bus.run(TURNS)
    assert device.read(0, 0, 4) == 0x54414D44
    device.reset()
    assert device.read(0, 0x1018, 4) == 0


def test_many_large_copies_leave_room_for_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = list[int]()
    device, bus = made()
    monkeypatch.setattr(PlainBus, "copy", lambda *told, times: copied.append(told[3] * times))
    copies = [Work(Opcode=Operation.COPY, Length=1 << 30, Source=IN_MEMORY, Target=IN_MEMORY, Cookie=n) for n in (1, 2)]
    short = Work(Opcode=Operation.COPY, Length=1 << 10, Source=IN_MEMORY, Target=IN_MEMORY, Cookie=3)
    rings = (0x1000, 0x1040)
    for ring in rings:
        bus.write(16 * ring, b"".join(work.encode() for work in (*copies, short)))
        for offset, value in ((0, 16 * ring), (8, RECORDS + 4 * ring), (0x10, SIZE_LG2), (0x18, 1)):
            device.write(0, ring + offset, 8 if offset < 0x10 else 4, value)
    for ring in rings:
        device.write(0, ring + 0x20, 4, 3)
        assert sum(copied) <= 2 * MOST_BYTES
    for _ in range(3 * len(rings)):
        before = sum(copied)
        bus.run(1)
        assert sum(copied) - before <= 2 * MOST_BYTES
    for ring in rings:
        assert device.read(0, ring + 0x28, 4) == 1
        assert Completion.decode(bus.memory[RECORDS + 4 * ring :][:32]).Cookie == 3
    bus.run()
    assert [device.read(0, ring + 0x28, 4) for ring in rings] == [3, 3]
    assert sum(copied) == 2 * ((2 << 30) + (1 << 10))


def test_a_reset_device_answers_invalidations_again() -> None:
    bus = PlainBus(tlb=EmptyTlb())
    device = dma_tester.viommu_model(bus, {})
    assert device is not None
    assert bus.tlb is not None
    device.write(0, 0x10, 4, 2)
    assert not bus.tlb.answers
    device.reset()
    assert bus.tlb.answers
