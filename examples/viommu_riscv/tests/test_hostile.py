"""No register value, index or byte in memory raises, hangs or grows memory."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from programmed import DEVICE, IOVA, Programmed
from viommu import Access

from viommu_riscv.spec.commands import GROUPS
from viommu_riscv.spec.registers import LAYOUTS

WORD = st.integers(0, (1 << 64) - 1)
NEARLY = st.one_of(WORD, st.sampled_from([0, 1, 0x1_0001, (1 << 64) - 1]), st.integers(0, 63).map(lambda bit: 1 << bit))


@settings(max_examples=150, deadline=None)
@given(
    writes=st.lists(
        st.tuples(st.sampled_from(sorted({offset for offset, _ in LAYOUTS.values()})), st.sampled_from([4, 8]), NEARLY),
        max_size=12,
    ),
    offset=st.integers(0, 0x1010),
)
def test_registers_take_anything(writes: list[tuple[int, int, int]], offset: int) -> None:
    iommu = Programmed()
    iommu.translated(EN_ATS=1, EN_PRI=1)
    for at, size, value in writes:
        iommu.machine.write_register(at, value, size)
        iommu.machine.translate(DEVICE, IOVA, Access.WRITE)
        iommu.machine.device(DEVICE).request_page(IOVA, Access.READ, group=1)

    assert iommu.machine.read_register(offset, 8) >> 64 == 0
    assert iommu["IPSR"] >> 4 == 0


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(NEARLY, min_size=8, max_size=8),
    device=st.integers(0, (1 << 24) - 1) | st.just(DEVICE),
    process=st.none() | st.integers(0, (1 << 20) - 1),
    iova=WORD,
    swapped=st.booleans(),
)
def test_contexts_take_anything(words: list[int], device: int, process: int | None, iova: int, swapped: bool) -> None:
    iommu = Programmed(swapped)
    raw = b"".join(word.to_bytes(8, "little") for word in words)
    iommu.memory.write(iommu.directory + 64 * DEVICE, raw)

    first = iommu.machine.translate(device, iova, Access.WRITE, process)
    iommu.submit()

    assert type(iommu.machine.translate(device, iova, Access.WRITE, process)) is type(first)


@settings(max_examples=200, deadline=None)
@given(opcode=st.sampled_from(sorted(GROUPS)), bits=st.integers(0, (1 << 128) - 1), mask=st.integers(0, (1 << 128) - 1))
def test_commands_take_anything(opcode: int, bits: int, mask: int) -> None:
    iommu = Programmed()
    iommu.translated()
    raw = (bits & mask & ~0x7F | opcode).to_bytes(16, "little")
    iommu.memory.write(iommu.queues["C"], raw)
    iommu["CQT"] = 1

    stopped = bool(iommu["CQCSR"] & 0x700)
    assert iommu["CQH"] == (0 if stopped else 1)
