"""Register files, bit by bit: what an access of any size and place reads, stores and clears."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.errors import BadRegister
from viommu.hookspecs import Registers
from viommu.layout import Bits, Descriptor
from viommu.registers import Register, RegisterFile


class Narrow(Descriptor, width=32):
    """A register of 32 bits; the highest four are reserved."""

    Value = Bits(27, 0)


class Wide(Descriptor, width=64):
    """A register of 64 bits."""

    Value = Bits(63, 0)


DECLARED = {
    "B": Register(4, Narrow),
    "A": Register(0, Narrow, writable=0x00FF_00FF),
    "WIDE": Register(8, Wide),
    "STATUS": Register(16, Narrow, writable=0xF, clears=0xFF00),
    "CLEARED": Register(24, Wide, writable=0, clears=(1 << 64) - 1),
    "READ_ONLY": Register(36, Narrow, writable=0),
}
OFFSETS = [-8, -4, *range(0, 48, 2), 1 << 40]
SETS, CLEARS, KEEPS = "sets", "clears", "keeps"

accesses = st.tuples(st.sampled_from(OFFSETS), st.sampled_from([1, 2, 4, 8, 16]))
values = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, (1 << 64) - 1, 1 << 70])


def rule_of(name: str, bit: int) -> str:
    register = DECLARED[name]
    if register.clears >> bit & 1:
        return CLEARS
    writable = (1 << 28) - 1 if name == "B" else register.writable
    return SETS if writable is None or writable >> bit & 1 else KEEPS


def place_of(bit: int) -> tuple[str, int] | None:
    """The register and its bit that lie at a bit of the register page."""
    for name, register in DECLARED.items():
        if 0 <= bit - register.offset * 8 < register.layout.width:
            return name, bit - register.offset * 8
    return None


def legal(offset: int, size: int) -> bool:
    return size in {4, 8} and offset >= 0 and offset % size == 0


def file_of(initial: dict[str, int]) -> RegisterFile:
    """Make a file whose hardware has set its registers to anything, cut to their width."""
    made = RegisterFile(DECLARED)
    for name, value in initial.items():
        made[name] = value
    return made


@given(initial=st.dictionaries(st.sampled_from(sorted(DECLARED)), values), access=accesses)
def test_an_access_reads_the_registers_that_lie_there(initial: dict[str, int], access: tuple[int, int]) -> None:
    offset, size = access
    file = file_of(initial)

    wanted = 0
    for bit in range(size * 8 if legal(offset, size) else 0):
        place = place_of(offset * 8 + bit)
        if place is not None:
            wanted |= (initial.get(place[0], 0) >> place[1] & 1) << bit

    assert file.read(offset, size) == wanted


@given(initial=st.dictionaries(st.sampled_from(sorted(DECLARED)), values), access=accesses, value=values)
def test_an_access_stores_bit_by_bit(initial: dict[str, int], access: tuple[int, int], value: int) -> None:
    offset, size = access
    file = file_of(initial)
    wanted = {name: file[name] for name in DECLARED}
    touched: set[str] = set()
    for bit in range(size * 8 if legal(offset, size) else 0):
        place = place_of(offset * 8 + bit)
        if place is None:
            continue
        name, own = place
        touched.add(name)
        written = value >> bit & 1
        match rule_of(name, own):
            case "sets":
                wanted[name] = wanted[name] & ~(1 << own) | written << own
            case "clears":
                wanted[name] &= ~(written << own)

    before = {name: file[name] for name in DECLARED}
    stores = file.write(offset, size, value)

    assert {name: file[name] for name in DECLARED} == wanted
    assert {store.name for store in stores} == touched
    assert [DECLARED[store.name].offset for store in stores] == sorted(DECLARED[name].offset for name in touched)
    assert all(store.before == before[store.name] and store.after == wanted[store.name] for store in stores)
    assert all(store.changed == store.before ^ store.after for store in stores)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"A": 1, "WIDTH": 5}, r"register WIDTH 0x5: .* that name \(did you mean WIDE\? it has 6\)"),
        ({"nonsense": 5}, r"register nonsense 0x5: no register of this hardware has that name \(it has 6\)"),
        ({"STATUS": 1 << 32}, "register STATUS 0x100000000: a value of 32 bits"),
        ({"WIDE": -1}, "register WIDE -0x1: a value of 64 bits"),
    ],
)
def test_values_that_no_register_can_have_are_refused_by_name(values: dict[str, int], message: str) -> None:
    with pytest.raises(BadRegister, match=message):
        RegisterFile.of(DECLARED, Registers(values))


def test_a_store_tells_what_software_gave() -> None:
    file = RegisterFile.of(DECLARED, Registers({"WIDE": 0x1111_2222_3333_4444, "STATUS": 0xFF0F}))

    assert file.write(12, 4, 0xAAAA_BBBB)[0].written == 0xAAAA_BBBB_3333_4444
    assert file.write(16, 4, 0x0105)[0].written == 0x0105
    assert file["STATUS"] == 0xFE05
