"""First stage, alone and nested on second stage."""

from __future__ import annotations

import mmap

import pytest

from plugins.vtd.tests.guest import HOLE, PS, RAM, RW, US, USED, A, D, Guest, P, R, W
from viommu.faults import Access
from viommu.formats import X86
from viommu.translation import Translation
from viommu_vtd.spec.pasid import PasidTableEntry

RID = 0x0008
PASID = 0x155
PAGE = 0x7FED_CBA9_8000
GPA = 0x8000_0000
"""Where the guest's tables lie, as second stage translates it."""

READ_ONLY = 0x9000_0000
PRIVILEGED_WRITE = Access.WRITE | Access.PRIVILEGED
SS_ALL = R | W | 1 << 8 | 1 << 9


def first_stage(guest: Guest, **fields: int) -> int:
    """Give a PASID an empty first stage; gives its top table."""
    table = guest.page()
    guest.pasid(RID, PASID, PasidTableEntry(P=1, PGTT=1, DID=6, PWSNP=1, FSPTPTR=table).replace(**fields))
    return table


def nested(guest: Guest, *, second_leaf: int = SS_ALL, **fields: int) -> tuple[int, int]:
    """Give a PASID both stages: RAM is seen at GPA; gives the first stage's top table (its PA) and the second's.

    ``second_leaf``: what the second stage's leaves hold.
    """
    first, second = guest.page(), guest.page()
    seen = GPA + first - RAM
    entry = PasidTableEntry(P=1, PGTT=3, AW=2, DID=6, PWSNP=1, FSPTPTR=seen, SSPTPTR=second)
    guest.pasid(RID, PASID, entry.replace(**fields))
    for page in range(0, 0x10_0000, 0x1000):
        guest.map(second, 4, GPA + page, RAM + page | second_leaf, link=SS_ALL)
    return first, second


def guest_map(guest: Guest, first: int, leaf: int, *, levels: int = 4, link: int = USED) -> None:
    """Write a path of first-stage entries whose addresses are GPAs."""
    table = first
    for level in range(levels - 1, 0, -1):
        below = guest.page()
        guest.put(table + (PAGE >> 12 + 9 * level & 0x1FF) * 8, GPA + below - RAM | link)
        table = below
    guest.put(table + (PAGE >> 12 & 0x1FF) * 8, leaf)


@pytest.mark.parametrize(("level", "size"), [(0, 1 << 12), (1, 1 << 21), (2, 1 << 30)], ids=["4K", "2M", "1G"])
def test_first_stage_has_large_leaves(guest: Guest, level: int, size: int) -> None:
    ps = PS if level else 0
    guest.map(first_stage(guest), 4, PAGE, 0x12_4000_0000 | USED | D | ps, leaf_level=level, link=USED)

    found = guest.access(RID, PAGE + 0x765, Access.WRITE, PASID)

    assert isinstance(found, Translation)
    assert found.pa == 0x12_4000_0000 + (PAGE + 0x765) % size
    assert found.page_size == size


def test_first_stage_is_tagged_by_domain_and_pasid(guest: Guest) -> None:
    first_stage(guest)

    context = guest.context(RID, PASID)

    assert isinstance(context.stage1, X86)
    assert (context.stage1_tag, context.stage2, context.stage2_tag) == (PASID, None, 6)


@pytest.mark.parametrize(("fspm", "sign_bit"), [(0, 47), (1, 56)], ids=["4 levels", "5 levels"])
def test_an_address_must_be_canonical(guest: Guest, fspm: int, sign_bit: int) -> None:
    first_stage(guest, FSPM=fspm)

    for address in ((1 << sign_bit) - 1, (1 << 64) - (1 << sign_bit)):
        assert guest.reason(RID, address, pasid=PASID) == "0x71"
    for address in (1 << sign_bit, (1 << 64) - (1 << sign_bit) - 1):
        assert guest.reason(RID, address, pasid=PASID) == "0x80"


def test_five_levels_translate_both_halves(guest: Guest) -> None:
    table = first_stage(guest, FSPM=1)
    guest.map(table, 5, 0xFF80_0000_0000_0000, 0x9000 | USED, link=USED)

    found = guest.access(RID, 0xFF80_0000_0000_0010, pasid=PASID)

    assert isinstance(found, Translation)
    assert found.pa == 0x9010


@pytest.mark.parametrize(
    ("leaf", "access", "reason"),
    [
        (0x5000 | USED & ~P, Access.READ, "0x71"),
        (0x5000 | USED & ~US, Access.READ, "0x81"),
        (0x5000 | USED & ~RW, Access.READ, None),
        (0x5000 | USED & ~RW, Access.WRITE, "0x85"),
        (0x5000 | USED | 1 << 63, Access.READ, None),
        (0x5000 | USED | 1 << 63, Access.READ | Access.EXECUTE, "0x82"),
        (0x5000 | USED | 1 << 46, Access.READ, "0x72"),
        (0x5000 | USED | 1 << 46 | 1 << 63, Access.READ | Access.EXECUTE, "0x82"),
        (0x5000 | USED & ~RW & ~US, Access.WRITE, "0x81"),
        (0x5000 | USED & ~US, Access.READ | Access.PRIVILEGED, None),
        (0x5000 | USED & ~US & ~RW | D, PRIVILEGED_WRITE, None),
        (0x5000 | USED | 0x7FF << 52 | 1 << 11 | 1 << 9, Access.READ, None),
    ],
)
def test_each_entry_is_present_then_allowed_then_free_of_reserved_bits(
    guest: Guest, leaf: int, access: Access, reason: str | None
) -> None:
    guest.map(first_stage(guest, SRE=1), 4, PAGE, leaf, link=USED)

    assert guest.reason(RID, PAGE, access, PASID) == reason


def test_write_protection_holds_for_the_privileged_where_the_entry_says_so(guest: Guest) -> None:
    guest.map(first_stage(guest, SRE=1, WPE=1), 4, PAGE, 0x5000 | USED & ~RW | D, link=USED)

    assert guest.reason(RID, PAGE, PRIVILEGED_WRITE, PASID) == "0x85"


@pytest.mark.parametrize(
    ("rid_priv", "sre", "access", "reason"),
    [
        (0, 1, Access.READ, "0x81"),
        (0, 1, Access.READ | Access.PRIVILEGED, "0x81"),  # it cannot say so
        (1, 1, Access.READ, None),
        (1, 0, Access.READ, "0x5d"),
    ],
)
def test_the_context_entry_says_whether_requests_without_pasid_are_privileged(
    guest: Guest, rid_priv: int, sre: int, access: Access, reason: str | None
) -> None:
    table = guest.page()
    guest.pasid(RID, 0, PasidTableEntry(P=1, PGTT=1, SRE=sre, FSPTPTR=table), RID_PRIV=rid_priv)
    guest.map(table, 4, PAGE, 0x5000 | USED & ~US, link=USED)

    assert guest.reason(RID, PAGE, access) == reason


def test_1g_pages_need_their_capability(guest: Guest) -> None:
    guest.map(first_stage(guest), 4, PAGE, 0x4000_0000 | USED | PS, leaf_level=2, link=USED)
    assert guest.reason(RID, PAGE, pasid=PASID) is None

    guest.cap = guest.cap.replace(FL1GP=0)

    assert guest.reason(RID, PAGE, pasid=PASID) == "0x72"


def test_tables_that_are_not_there_are_access_errors_of_the_top_level_or_a_deeper_one(guest: Guest) -> None:
    guest.map(first_stage(guest), 4, PAGE, HOLE | USED, leaf_level=3)
    assert guest.reason(RID, PAGE, pasid=PASID) == "0x70"

    first_stage(guest, FSPTPTR=HOLE)
    assert guest.reason(RID, PAGE, pasid=PASID) == "0x73"


def test_no_page_may_touch_the_interrupt_range(guest: Guest) -> None:
    guest.map(first_stage(guest), 4, PAGE, 0xFEE0_1000 | USED, link=USED)

    assert guest.reason(RID, PAGE, pasid=PASID) == "0x87"


def test_flags_are_stored_without_being_enabled(guest: Guest) -> None:
    table = first_stage(guest)
    leaf = guest.map(table, 4, PAGE, 0x5000 | P | RW | US, link=P | RW | US)

    assert guest.reason(RID, PAGE, Access.WRITE, PASID) is None

    assert guest.memory.load(leaf) == 0x5000 | P | RW | US | A | D
    assert (guest.memory.load(table + (PAGE >> 39) * 8) or 0) & (A | D) == A


def test_the_extended_accessed_flag_is_stored_where_the_entry_enables_it(guest: Guest) -> None:
    leaf = guest.map(first_stage(guest, EAFE=1), 4, PAGE, 0x5000 | USED, link=USED)

    guest.access(RID, PAGE, pasid=PASID)

    assert guest.memory.load(leaf) == 0x5000 | USED | 1 << 10


def test_a_flag_that_must_be_stored_without_snooping_is_refused(guest: Guest) -> None:
    guest.map(first_stage(guest, PWSNP=0), 4, PAGE, 0x5000 | USED, link=USED)

    assert guest.reason(RID, PAGE, pasid=PASID) is None
    assert guest.reason(RID, PAGE, Access.WRITE, PASID) == "0x90"


def test_a_flag_that_memory_does_not_take_is_refused(guest: Guest) -> None:
    page = mmap.mmap(-1, 0x1000)
    page[0:8] = (0x5000 | P | RW | US).to_bytes(8, "little")
    guest.memory.place(READ_ONLY, page, writable=False)
    guest.map(first_stage(guest), 4, 0, READ_ONLY | USED, leaf_level=1, link=USED)

    assert guest.reason(RID, 0, pasid=PASID) == "0x91"


def test_nested_translation_translates_tables_and_output(guest: Guest) -> None:
    first, _ = nested(guest)
    guest_map(guest, first, GPA + 0x4_2000 | USED)

    found = guest.access(RID, PAGE + 0x321, pasid=PASID)

    assert isinstance(found, Translation)
    assert (found.ipa, found.pa, found.page_size) == (GPA + 0x4_2321, RAM + 0x4_2321, 0x1000)


def test_both_stages_may_refuse_a_right(guest: Guest) -> None:
    first, _ = nested(guest, second_leaf=R | 1 << 8)
    guest_map(guest, first, GPA + 0x4_2000 | USED | D)

    assert guest.reason(RID, PAGE, pasid=PASID) is None
    assert guest.reason(RID, PAGE, Access.WRITE, PASID) == "0x85"


@pytest.mark.parametrize(
    ("output", "reason"),
    [(0x2_0000_0000, "0x79"), (1 << 46, "0x72"), (1 << 45, "0x79")],
)
def test_an_output_that_second_stage_lacks_is_told_by_its_codes(guest: Guest, output: int, reason: str) -> None:
    first, _ = nested(guest)
    guest_map(guest, first, output | USED)

    assert guest.reason(RID, PAGE, pasid=PASID) == reason


def test_an_output_beyond_second_stage_is_told_by_its_code(guest: Guest) -> None:
    first, second = nested(guest, AW=1)
    guest_map(guest, first, 1 << 39 | USED)
    # Three levels: the table that holds GPA's gigabytes is the top now.
    below = (guest.memory.load(second) or 0) & ~0xFFF
    guest.pasid(RID, PASID, PasidTableEntry(P=1, PGTT=3, AW=1, PWSNP=1, FSPTPTR=GPA + first - RAM, SSPTPTR=below))

    assert guest.reason(RID, PAGE, pasid=PASID) == "0x84"


@pytest.mark.parametrize(("levels", "reason"), [(0, "0x75"), (1, "0x76"), (3, "0x76")])
def test_second_stage_denies_reading_a_table(guest: Guest, levels: int, reason: str) -> None:
    """``levels``: how many first-stage entries are read before the one that is denied."""
    first, second = nested(guest)
    guest_map(guest, first, GPA + 0x4_2000 | USED)
    table = first
    for level in range(3, 3 - levels, -1):
        entry = guest.memory.load(table + (PAGE >> 12 + 9 * level & 0x1FF) * 8) or 0
        table = (entry & ~0xFFF) - GPA + RAM

    for leaf in (W, 0):
        guest.map(second, 4, GPA + table - RAM, table | leaf)
        assert guest.reason(RID, PAGE, pasid=PASID) == reason


@pytest.mark.parametrize("top", [True, False])
def test_a_table_beyond_the_limit_of_second_stage_is_told(guest: Guest, top: bool) -> None:
    beyond = 1 << 40
    guest.cap = guest.cap.replace(MGAW=39)
    first, _ = nested(guest, **({"FSPTPTR": beyond} if top else {}))
    guest.put(first + (PAGE >> 39) * 8, beyond | USED)

    assert guest.reason(RID, PAGE, pasid=PASID) == "0x74"


def test_a_flag_of_first_stage_is_a_write_to_second_stage(guest: Guest) -> None:
    first, second = nested(guest, SSADE=1)
    guest_map(guest, first, GPA + 0x4_2000 | P | RW | US, link=P | RW | US)
    seen = guest.map(second, 4, GPA + first - RAM, first | R | W)

    assert guest.reason(RID, PAGE, pasid=PASID) is None
    assert (guest.memory.load(seen) or 0) & 0x300 == 0x300

    guest_map(guest, first, GPA + 0x4_2000 | P | RW | US, link=P | RW | US)
    guest.put(seen, first | R | 1 << 8)
    assert guest.reason(RID, PAGE, pasid=PASID) == "0x77"


def test_memory_that_is_missing_behind_second_stage_is_told_by_first_stage_codes(guest: Guest) -> None:
    first, second = nested(guest)
    guest.map(second, 4, GPA + first - RAM, HOLE | SS_ALL)
    assert guest.reason(RID, PAGE, pasid=PASID) == "0x73"

    first, second = nested(guest)
    guest.put(first + (PAGE >> 39) * 8, GPA | USED)
    guest.map(second, 4, GPA, HOLE | SS_ALL)
    assert guest.reason(RID, PAGE, pasid=PASID) == "0x70"


@pytest.mark.parametrize(
    ("leaf", "reason"), [(1 << 51 | R | 1 << 8, "0x7a"), (R, "0x7c")], ids=["reserved bit", "flag without snooping"]
)
def test_other_trouble_of_second_stage_under_a_table_keeps_its_code(guest: Guest, leaf: int, reason: str) -> None:
    first, second = nested(guest, SSADE=1, PWSNP=0)
    guest.map(second, 4, GPA + first - RAM, first | leaf)

    assert guest.reason(RID, PAGE, pasid=PASID) == reason
