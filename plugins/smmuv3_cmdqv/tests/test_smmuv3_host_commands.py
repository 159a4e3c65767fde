"""What the host's invalidations cover: at least the addresses that were unmapped, of the right address space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from viommu_smmuv3_cmdqv.host.commands import AddressSpace, Span, forget_in_device
from viommu_smmuv3_cmdqv.spec.commands import ATC_INV, TLBI_NH_ASID, TLBI_NH_VA, TLBI_S2_IPA, CommandOpcode

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.spec.commands import Command

SPACE = AddressSpace(asid=7)


def covered(command: Command) -> tuple[int, int]:
    """First byte and end of a TLBI by address, from the words alone (4.4.1.1)."""
    low, high = int(command) & (1 << 64) - 1, int(command) >> 64
    address, tg = high >> 12 << 12, high >> 10 & 3
    if not tg:
        return address, address + 1  # one entry of any size that holds it
    number, scale, ttl = low >> 12 & 31, low >> 20 & 31, high >> 8 & 3
    assert number or scale or ttl, "a reserved encoding"
    return address, address + (number + 1 << scale + 10 + 2 * tg)


@given(st.sampled_from([12, 14, 16]), st.integers(0, 1 << 20), st.integers(1, 5000), st.booleans())
def test_ranges_cover_what_was_unmapped_and_little_more(granule_lg2: int, first: int, pages: int, leaf: bool) -> None:
    start, length = first << granule_lg2, pages << granule_lg2
    commands = list(Span(start, length, granule_lg2, granule_lg2, leaf, ranges=True).commands(SPACE))
    reached = start
    for command in commands:
        begin, end = covered(command)
        assert begin == reached
        assert int(command) & 0xFF == CommandOpcode.TLBI_NH_VA
        reached = end
    assert start + length <= reached <= start + length + (1 << granule_lg2)
    assert len(commands) <= 3


@given(st.sampled_from([12, 21]), st.integers(0, 1 << 10), st.integers(1, 700))
def test_without_ranges_each_leaf_is_named_or_all_goes(page_lg2: int, first: int, leaves: int) -> None:
    start, length = first << page_lg2, leaves << page_lg2
    commands = list(Span(start, length, page_lg2, 12, leaf=True, ranges=False).commands(SPACE))
    if leaves >= 512:
        assert [type(command) for command in commands] == [TLBI_NH_ASID]
    else:
        assert [covered(command)[0] for command in commands] == list(range(start, start + length, 1 << page_lg2))
        assert all(isinstance(command, TLBI_NH_VA) for command in commands)


def test_stage_2_is_invalidated_by_vmid() -> None:
    (command,) = Span(0x1000, 0x1000, 12, 12, leaf=True, ranges=False).commands(AddressSpace(vmid=9))
    assert command == TLBI_S2_IPA(Opcode=CommandOpcode.TLBI_S2_IPA, VMID=9, Address=0x1000, Leaf=1)


@given(st.integers(0, (1 << 40) - 1), st.integers(0, (1 << 22)))
def test_a_device_forgets_the_smallest_aligned_power_of_two_that_holds_a_range(start: int, more: int) -> None:
    last = start + more
    command = forget_in_device(3, None, start, last)
    assert isinstance(command, ATC_INV)
    size = 4096 << command.Size
    assert command.Address % size == 0
    assert command.Address <= start <= last < command.Address + size
    half = size // 2
    assert command.Size == 0 or start // half != last // half
