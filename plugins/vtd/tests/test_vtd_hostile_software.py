"""No register value and no bytes in a queue make the unit raise or hang; what it then holds is defined."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from plugins.vtd.tests.guest import RAM, RAM_SIZE
from plugins.vtd.tests.programming import Software
from viommu.errors import BadRegister
from viommu.faults import Access
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP, declared
from viommu_vtd.spec.commands import COMMANDS, WIDE, InvalidationType
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.registers import CAP, ECAP

WORD = st.integers(0, (1 << 64) - 1)
REGISTERS = declared(FULL_CAP, FULL_ECAP)
OFFSETS = st.one_of(st.sampled_from([register.offset for register in REGISTERS.values()]), st.integers(0, 0x600))
PLAUSIBLE = st.one_of(
    WORD,
    st.integers(0, 63).map(lambda bit: 1 << bit),
    st.builds(lambda page, low: RAM + page * 0x1000 | low, st.integers(0, RAM_SIZE >> 12), st.integers(0, 0xFFF)),
    st.integers(0, 0x1FFF),
)
STORES = st.tuples(st.just("store"), OFFSETS, st.sampled_from([1, 2, 4, 8]), PLAUSIBLE)
ACCESSES = st.tuples(st.just("access"), st.integers(0, 0xFFFF), st.integers(1, 3), WORD)
REQUESTS = st.tuples(st.just("request"), st.integers(0, 0xFFFF), st.integers(0, 0x1FF), WORD)
ATS = st.tuples(st.just("ats"), st.integers(0, 0xFFFF), st.integers(1, 3), WORD)


@cache
def _filler(seed: int) -> bytes:
    """A page of entries that lead somewhere."""
    words = [RAM + (index * 7 + seed) % 256 * 0x1000 | (index * seed + 1) & 0xFFF for index in range(512)]
    return b"".join(word.to_bytes(8, "little") for word in words)


def act(software: Software, step: tuple[str, int, int, int]) -> None:
    kind, first, second, value = step
    match kind:
        case "store":
            software.machine.hardware.write(first, second, value)  # of any size, which a machine refuses
        case "access":
            software.machine.translate(first, value, Access(second), second if value & 1 else None)
        case "request":
            software.machine.device(first).request_page(value, Access.READ, second if value & 2 else None, group=second)
        case _:
            software.machine.device(first).translate(value, Access(second), 5 if value & 1 else None)
            software.machine.send_translated(first, value, Access(second))


@given(
    steps=st.lists(st.one_of(STORES, ACCESSES, REQUESTS, ATS), max_size=16),
    mode=st.integers(0, 3),
    started=st.booleans(),
    filled=st.integers(0, 3),
)
def test_any_stores_to_registers_leave_a_defined_state(
    steps: list[tuple[str, int, int, int]], mode: int, started: bool, filled: int
) -> None:
    software = Software.make()
    software.guest.mode = mode
    if filled:
        for page in range(0, RAM_SIZE, 0x1000):
            software.guest.memory.write(RAM + page, _filler(filled))
    if started:
        software.enable_queue()
        software.enable()

    for step in steps:
        act(software, step)

    for name, register in REGISTERS.items():
        assert 0 <= software.read(name) <= register.mask
    assert software.read("CAP") == int(FULL_CAP)
    assert any(software.record(index).F for index in range(FULL_CAP.NFR + 1)) == software.fsts.PPF
    assert software.read("IQH") & ~0x7_FFF0 == 0
    assert software.read("PQT") & ~0x7_FFE0 == 0


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    """Often one that hardware takes; any bits otherwise."""
    raw = draw(st.integers(0, (1 << 256) - 1))
    kind = draw(st.none() | st.sampled_from(InvalidationType))
    if kind is None:
        return raw.to_bytes(32, "little")
    reserved = 0 if draw(st.integers(0, 7)) == 0 else WIDE[kind].reserved_mask
    return int(WIDE[kind].decode(raw & ~reserved).replace(Type=kind)).to_bytes(32, "little")


@given(raw=st.lists(commands(), min_size=1, max_size=24), mode=st.sampled_from([0, 1, 3]), answers=st.booleans())
def test_any_commands_are_executed_up_to_the_first_that_is_refused(raw: list[bytes], mode: int, answers: bool) -> None:
    software = Software.make()
    software.guest.mode = mode
    software.set_root()
    software.enable_queue(wide=True)
    software.machine.device(0).answers = answers

    software.submit(*raw)
    for _ in range(len(raw)):  # each abort is of one wait descriptor
        software.write("FSTS", FSTS(ITE=1))

    head = software.read("IQH")
    assert (head == software.read("IQT")) != bool(software.fsts.IQE)
    if software.fsts.IQE:
        assert software.queue_error.IQEI in (3, 4)
        assert head < len(raw) * 32


@given(head=WORD, tail=WORD, base=PLAUSIBLE)
def test_any_pointers_end(head: int, tail: int, base: int) -> None:
    software = Software.make(IQH=head)
    software.write("IQA", base)
    software.write("IQT", tail)
    software.command(QIE=1)

    software.write("IQT", tail & 0xFFF0)

    assert software.read("IQH") == software.read("IQT") or software.fsts.IQE or software.fsts.ITE


@given(cap=WORD, ecap=WORD, steps=st.lists(st.one_of(STORES, ACCESSES, REQUESTS), max_size=8), mode=st.integers(0, 3))
def test_any_capabilities_make_a_unit_or_are_refused(
    cap: int, ecap: int, steps: list[tuple[str, int, int, int]], mode: int
) -> None:
    try:
        software = Software.make(CAP.decode(cap), ECAP.decode(ecap))
    except BadRegister:
        return
    software.machine.write_register(0x20, RAM | mode << 10, 8)
    software.machine.write_register(0x18, 1 << 30)
    software.machine.write_register(0x18, 1 << 31)

    for step in steps:
        act(software, step)


def test_the_two_widths_of_a_descriptor_have_the_same_fields() -> None:
    for kind, layout in COMMANDS.items():
        assert WIDE[kind].fields.keys() == layout.fields.keys()
        assert (WIDE[kind].width, layout.width) == (256, 128)
