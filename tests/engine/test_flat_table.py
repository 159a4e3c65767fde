"""Pages that a flat table takes over from stage 2."""

from __future__ import annotations

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from viommu import _engine
from viommu._engine import EXECUTE, READ, WRITE, Context, FlatForm, FlatTable, Iotlb, Memory, Riscv, Translator
from viommu.faults import FaultKind, Stage

SIZE = 1 << 20
ROOT, FIRST_ROOT, TABLE = 0x4000, 0x8000, 0x1_0000
IDENTITY = 0b1101_1111
"""A leaf of 1 GiB at address 0: V R W X U A D."""
COMPARED, PATTERN, INDEXED = 0xF_FFF0_0FF0, 0x20, 0xF_F00F
"""Pages 0x20 to 0x2f, and those that differ from them in bits 19:12."""
ENTRIES = 1 << 12
PRESENT, PLAIN, ELSEWHERE, RESERVED = 1, 2, 4, 8
FORMS = (
    FlatForm(mask=6, value=PLAIN, reserved=(RESERVED, 0), address_mask=0xFFFF_F000, rights=READ | WRITE, attrs=5),
    FlatForm(
        mask=6,
        value=ELSEWHERE,
        reserved=(0, RESERVED),
        address_word=1,
        address_mask=0xFFFF_F000,
        rights=READ,
        attrs=9,
        memory=False,
    ),
)
PAGES = st.builds(lambda high, low: high << 12 | 0x20 | low, st.integers(0, 2), st.integers(0, 15))
WORDS = st.builds(
    lambda page, flags: page << 12 | flags,
    st.integers(0, 0x1FF),
    st.sampled_from([0, 1, 3, 3, 3, 5, 5, 7, 11, 13]),
)


@frozen
class Answer:
    kind: int
    pa: int = 0
    elsewhere: bool = False


@pytest.fixture
def guest() -> Guest:
    return Guest()


class Guest:
    """Memory with an identity stage 2, and a flat table in it; ``swapped``: both are big-endian."""

    def __init__(self, *, swapped: bool = False, first: bool = False) -> None:
        self.swapped = swapped
        self.bytes = bytearray(SIZE)
        self.memory = Memory()
        self.memory.map(0, self.bytes)
        self.put(ROOT, IDENTITY)
        self.put(FIRST_ROOT, IDENTITY)
        self.context = Context(
            stage1=Riscv(table=FIRST_ROOT, levels=3, big_endian=swapped) if first else None,
            stage2=Riscv(table=ROOT, levels=3, guest_stage=True, big_endian=swapped),
            stage1_tag=1,
            stage2_tag=7,
            flat=self.table(),
        )

    def table(self, output_bits: int = 20) -> FlatTable:
        return FlatTable(
            table=TABLE,
            compared=COMPARED,
            pattern=PATTERN,
            indexed=INDEXED,
            words=2,
            present_mask=PRESENT,
            present_value=PRESENT,
            forms=FORMS,
            output_bits=output_bits,
            big_endian=self.swapped,
        )

    def put(self, pa: int, value: int) -> None:
        assert self.memory.write(pa, value.to_bytes(8, "big" if self.swapped else "little"))

    def entry(self, page: int, *words: int) -> None:
        for at, word in enumerate(words):
            self.put(TABLE + 16 * index_of(page) + 8 * at, word)


def index_of(page: int) -> int:
    """Bits 19:12 and 3:0 of the page number, put together."""
    return (page >> 12 & 0xFF) << 4 | page & 15


def expected(words: tuple[int, int], address: int, access: int) -> Answer:
    """What an entry says, read by hand."""
    first, second = words
    form, frame, rights, reserved = first & 6, first, READ | WRITE, first & RESERVED
    if form == ELSEWHERE:
        frame, rights, reserved = second, READ, second & RESERVED
    if not first & PRESENT:
        return Answer(FaultKind.TRANSLATION)
    if form not in {PLAIN, ELSEWHERE}:
        return Answer(FaultKind.MALFORMED)
    if reserved:
        return Answer(FaultKind.RESERVED)
    if access & ~rights:
        return Answer(FaultKind.PERMISSION)
    frame &= 0xFFFF_F000
    if frame >> 20:
        return Answer(FaultKind.ADDRESS_SIZE)
    return Answer(FaultKind.NONE, frame | address & 0xFFF, form == ELSEWHERE)


@given(
    page=PAGES,
    words=st.tuples(WORDS, WORDS),
    offset=st.integers(0, 0xFFF),
    access=st.sampled_from([READ, WRITE, EXECUTE, READ | WRITE]),
    swapped=st.booleans(),
    first=st.booleans(),
)
def test_an_entry_means_what_its_form_says(
    page: int, words: tuple[int, int], offset: int, access: int, swapped: bool, first: bool
) -> None:
    guest = Guest(swapped=swapped, first=first)
    guest.entry(page, *words)
    address = page << 12 | offset
    said = expected(words, address, access)

    found = _engine.walk(guest.memory, guest.context, address, access)

    assert found.kind == said.kind
    if said.kind:
        assert found.stage == Stage.FLAT
        assert found.entry_address == TABLE + 16 * index_of(page)
        assert (found.ipa, found.entry_value) == (address, words[0])
    else:
        assert (found.pa, found.ipa, found.page_lg2) == (said.pa, address, 12)
        assert found.attrs2 == (9 if said.elsewhere else 5)
    row = Translator(guest.memory, lambda *_: guest.context, iotlb=Iotlb()).translate_many(
        np.array([1], np.uint32), np.array([address], np.uint64), np.array([access], np.uint8), None
    )
    assert (int(row.kind[0]), int(row.pa[0])) == (said.kind, said.pa)


@given(address=st.integers(0, SIZE - 1))
def test_other_pages_go_through_stage_2(address: int) -> None:
    guest = Guest()
    taken = address >> 12 & COMPARED == PATTERN

    found = _engine.walk(guest.memory, guest.context, address, READ)

    assert guest.table().takes(address) == taken
    assert (found.kind, found.stage) == ((FaultKind.TRANSLATION, Stage.FLAT) if taken else (0, 0))
    if not taken:
        assert (found.pa, found.page_lg2) == (address, 30)


def test_fetches_of_stage_1_entries_do_not_go_through_it() -> None:
    guest = Guest()
    guest.put(0x2_0000, IDENTITY)
    context = Context(
        stage1=Riscv(table=0x2_0000, levels=3),
        stage2=Riscv(table=ROOT, levels=3, guest_stage=True),
        flat=guest.table(),
    )

    assert not _engine.walk(guest.memory, context, 0x5_0000, READ).kind


def test_an_entry_beyond_memory_is_an_abort_and_one_beyond_the_output_size_none(guest: Guest) -> None:
    far = Context(stage2=Riscv(table=ROOT, levels=3, guest_stage=True), flat=guest.table(output_bits=16))
    hole = Guest()
    hole.memory.unmap(0, SIZE)
    hole.memory.map(0, hole.bytes, length=TABLE)

    assert _engine.walk(guest.memory, far, 0xFF02_0000, READ).kind == FaultKind.ADDRESS_SIZE
    assert _engine.walk(hole.memory, hole.context, 0x2_0000, READ).kind == FaultKind.EXTERNAL_ABORT


def test_a_page_is_cached_until_its_stage_2_tag_is_dropped(guest: Guest) -> None:
    translator = Translator(guest.memory, lambda *_: guest.context, iotlb=Iotlb())
    guest.entry(0x20, PLAIN | PRESENT | 0x5000)
    assert _pa(translator) == 0x5000

    guest.entry(0x20, PLAIN | PRESENT | 0x6000)
    assert _pa(translator) == 0x5000
    translator.invalidate_stage2_range(7, 0x2_0000, 0x2_0FFF)

    assert _pa(translator) == 0x6000


def test_what_leads_to_no_memory_is_neither_cached_nor_moved(guest: Guest) -> None:
    translator = Translator(guest.memory, lambda *_: guest.context, iotlb=Iotlb())
    guest.entry(0x20, ELSEWHERE | PRESENT, 0x5000)
    assert _pa(translator) == 0x5000

    assert len(translator) == 0
    stopped = _engine.dma_read(translator, 1, 0x2_0000, None, 4, 4096)
    assert isinstance(stopped, tuple)
    assert stopped[0] == b""
    assert stopped[1] is not None
    assert stopped[1].pa == 0x5000
    copied = _engine.dma_copy(translator, 1, 0x2_0000, None, 0x1000, None, 4)
    assert copied is not None
    assert copied[:2] == (0, False)


def test_each_word_of_an_entry_is_a_step_of_an_explained_walk(guest: Guest) -> None:
    guest.entry(0x2F, PLAIN | PRESENT | 0x5000, 17)

    result, steps = _engine.explain_walk(guest.memory, guest.context, 0x2_F000, READ)

    assert result.pa == 0x5000
    assert [(step.format, step.stage, step.address, step.raw) for step in steps] == [
        ("FlatTable", Stage.FLAT, TABLE + 0xF0, PLAIN | PRESENT | 0x5000),
        ("FlatTable", Stage.FLAT, TABLE + 0xF8, 17),
    ]
    assert [step.verdict for step in steps] == ["table", "leaf"]


def test_it_needs_a_stage_2(guest: Guest) -> None:
    with pytest.raises(ValueError, match="there is none"):
        Context(flat=guest.table())


def _pa(translator: Translator) -> int:
    found = translator.translate(1, 0x2_0000, READ, _engine.NO_PASID)
    assert not isinstance(found, tuple)
    return found.pa
