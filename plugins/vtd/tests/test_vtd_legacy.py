"""Legacy mode: root table, context table, second stage."""

from __future__ import annotations

import pytest

from plugins.vtd.tests.guest import HOLE, Guest, Log, R, W
from viommu.faults import Access, Fault
from viommu.translation import Translation
from viommu_vtd.spec.registers import CAP
from viommu_vtd.spec.root_context import ContextEntry, RootEntry

RID = 0x3A10
PAGE = 0x2345_6000


def second_stage(guest: Guest, *, levels: int = 4, **fields: int) -> int:
    """Give the device an empty second stage; gives its top table."""
    table = guest.page()
    guest.legacy(RID, ContextEntry(P=1, AW=levels - 2, DID=5, SSPTPTR=table).replace(**fields))
    return table


def test_everything_passes_while_translation_is_off(guest: Guest) -> None:
    guest.enabled = 0

    for pasid in (None, 7):
        found = guest.access(RID, 0xFFFF_FFFF_FFFF_F123, Access.WRITE, pasid)
        assert isinstance(found, Translation)
        assert found.untranslated
        assert found.pa == 0xFFFF_FFFF_FFFF_F123


def test_the_root_table_is_indexed_by_bus_and_the_context_table_by_devfn(guest: Guest) -> None:
    address = guest.legacy(RID, ContextEntry(P=1, TT=2, AW=3))
    log = Log()

    guest.configured(RID, log=log)

    assert log.read == [("RootEntry", guest.root + 0x3A0), ("ContextEntry", address)]
    assert address & 0xFFF == 0x100


@pytest.mark.parametrize("levels", [3, 4, 5])
@pytest.mark.parametrize(("leaf_level", "size"), [(0, 1 << 12), (1, 1 << 21), (2, 1 << 30)], ids=["4K", "2M", "1G"])
def test_second_stage_has_the_levels_of_aw_and_large_leaves(
    guest: Guest, levels: int, leaf_level: int, size: int
) -> None:
    iova = (1 << 12 + 9 * levels) - size
    ps = 1 << 7 if leaf_level else 0
    guest.map(second_stage(guest, levels=levels), levels, iova, 0x12_4000_0000 | ps | R | W, leaf_level=leaf_level)

    found = guest.access(RID, iova + 0x123, Access.WRITE)

    assert isinstance(found, Translation)
    assert (found.pa, found.page_size) == (0x12_4000_0123, size)
    assert found.rights >= Access.READ | Access.WRITE
    assert guest.reason(RID, 1 << 12 + 9 * levels) == "0x4"


def test_tags_are_the_domain_alone(guest: Guest) -> None:
    second_stage(guest)

    context = guest.context(RID)

    assert (context.stage1, context.stage2_tag) == (None, 5)


def test_nothing_is_ever_stored_into_legacy_tables(guest: Guest) -> None:
    leaf = guest.map(second_stage(guest), 4, PAGE, 0x5000 | R | W)

    guest.access(RID, PAGE, Access.WRITE)

    assert guest.memory.load(leaf) == 0x5000 | R | W


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        (0, "0x1"),
        (0xFFE, "0x1"),  # what is not present has no reserved bits
        (int(RootEntry(P=1, CTP=HOLE)), "0x9"),
        (int(RootEntry(P=1, CTP=HOLE)) | 1 << 1, "0xa"),
        (int(RootEntry(P=1, CTP=HOLE)) | 1 << 11, "0xa"),
        (int(RootEntry(P=1, CTP=HOLE)) | 1 << 64, "0xa"),
        (int(RootEntry(P=1, CTP=HOLE)) | 1 << 127, "0xa"),
        (int(RootEntry(P=1, CTP=1 << 46)), "0xa"),
    ],
)
def test_a_root_entry_is_read_then_present_then_free_of_reserved_bits(guest: Guest, root: int, reason: str) -> None:
    guest.put(guest.root + 0x3A0, RootEntry.decode(root))

    assert guest.reason(RID) == reason


def test_a_root_table_that_is_not_there_is_an_access_error(guest: Guest) -> None:
    guest.root = HOLE

    fault = guest.access(RID, 0)

    assert isinstance(fault, Fault)
    assert fault.refusal is not None
    assert (fault.refusal.reason, fault.refusal.address) == ("0x8", HOLE + 0x3A0)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (ContextEntry(AW=7, TT=3), "0x2"),
        (ContextEntry(P=1, AW=2, SSPTPTR=1 << 46), "0xb"),
        (ContextEntry.decode(int(ContextEntry(P=1, AW=2)) | 1 << 4), "0xb"),
        (ContextEntry.decode(int(ContextEntry(P=1, AW=2)) | 1 << 71), "0xb"),
        (ContextEntry.decode(int(ContextEntry(P=1, AW=2)) | 1 << 88), "0xb"),
        (ContextEntry.decode(int(ContextEntry(P=1, AW=0)) | 1 << 88), "0xb"),  # before what makes it invalid
        (ContextEntry(P=1, AW=2, TT=3), "0x3"),
        (ContextEntry(P=1, AW=0), "0x3"),
        (ContextEntry(P=1, AW=4), "0x3"),
        (ContextEntry(P=1, AW=2, TT=2), "0x3"),  # pass-through wants the widest
        (ContextEntry(P=1, AW=2, Available=0xF, SSPTPTR=HOLE), "0x3"),
        (ContextEntry(P=1, AW=3, TT=2, Available=0xF), None),
        (ContextEntry(P=1, AW=2, TT=1, SSPTPTR=HOLE), "0x3"),
    ],
)
def test_a_context_entry_is_present_then_free_of_reserved_bits_then_valid(
    guest: Guest, entry: ContextEntry, reason: str | None
) -> None:
    guest.legacy(RID, entry)

    assert guest.reason(RID) == reason


@pytest.mark.parametrize(
    ("entry", "lacks"), [(ContextEntry(P=1, AW=3, TT=1), "DT"), (ContextEntry(P=1, AW=3, TT=2), "PT")]
)
def test_a_translation_type_needs_its_capability(guest: Guest, entry: ContextEntry, lacks: str) -> None:
    guest.legacy(RID, entry.replace(SSPTPTR=guest.page()))
    assert guest.reason(RID) != "0x3"

    guest.ecap = guest.ecap.replace(**{lacks: 0})

    assert guest.reason(RID) == "0x3"


def test_a_width_needs_its_bit_in_sagaw(guest: Guest) -> None:
    second_stage(guest, levels=3)
    assert guest.reason(RID) == "0x6"

    guest.cap = guest.cap.replace(SAGAW=0b1100)

    assert guest.reason(RID) == "0x3"


def test_requests_with_pasid_do_not_exist(guest: Guest) -> None:
    second_stage(guest)

    assert guest.reason(RID, pasid=0) == "0x31"


def test_pass_through_is_identity_as_far_as_the_host_address_width(guest: Guest) -> None:
    guest.legacy(RID, ContextEntry(P=1, AW=3, TT=2, DID=1))

    found = guest.access(RID, (1 << 46) - 1, Access.WRITE)

    assert isinstance(found, Translation)
    assert (found.pa, found.untranslated) == ((1 << 46) - 1, True)
    assert guest.reason(RID, 1 << 46) == "0x4"


def test_an_address_beyond_mgaw_is_refused_though_aw_holds_it(guest: Guest) -> None:
    guest.cap = guest.cap.replace(MGAW=39)
    second_stage(guest)

    assert guest.reason(RID, (1 << 40) - 1) == "0x6"
    assert guest.reason(RID, 1 << 40) == "0x4"


@pytest.mark.parametrize(
    ("link", "leaf", "read", "write"),
    [
        (R | W, 0x5000, "0x6", "0x5"),
        (R | W, 0x5000 | R, None, "0x5"),
        (R | W, 0x5000 | W, "0x6", None),
        (R, 0x5000 | R | W, None, "0x5"),
        (W, 0x5000 | R | W, "0x6", None),
    ],
)
def test_a_missing_right_and_a_missing_entry_are_the_same(
    guest: Guest, link: int, leaf: int, read: str | None, write: str | None
) -> None:
    guest.map(second_stage(guest), 4, PAGE, leaf, link=link)

    assert guest.reason(RID, PAGE, Access.READ) == read
    assert guest.reason(RID, PAGE, Access.WRITE) == write


def test_a_page_table_that_is_not_there_makes_the_context_entry_invalid_and_a_deeper_one_an_access_error(
    guest: Guest,
) -> None:
    table = second_stage(guest)
    guest.put(table, HOLE | R | W)
    assert guest.reason(RID) == "0x7"

    second_stage(guest, SSPTPTR=HOLE)
    assert guest.reason(RID) == "0x3"


@pytest.mark.parametrize(
    ("leaf", "leaf_level", "reason"),
    [
        (0x5000 | 1 << 46, 0, "0xc"),
        (0x5000 | 1 << 51, 0, "0xc"),
        (0x5000 | 1 << 62, 0, "0xc"),
        (0x5000 | 1 << 63 | 0x3FF << 52 | 0x7FC, 0, None),  # ignored ones, PS of a 4K page among them
        (0x20_0000 | 1 << 7 | 1 << 12, 1, "0xc"),
        (0x20_0000 | 1 << 7 | 1 << 20, 1, "0xc"),
        (0x4000_0000 | 1 << 7 | 1 << 29, 2, "0xc"),
        (0x20_0000 | 1 << 7, 3, "0xc"),
    ],
)
def test_reserved_bits_of_a_present_page_table_entry_are_refused(
    guest: Guest, leaf: int, leaf_level: int, reason: str | None
) -> None:
    guest.map(second_stage(guest), 4, PAGE, leaf | R, leaf_level=leaf_level)

    assert guest.reason(RID, PAGE) == reason


def test_a_missing_right_is_told_before_reserved_bits(guest: Guest) -> None:
    guest.map(second_stage(guest), 4, PAGE, 0x5000 | R | 1 << 51)

    assert guest.reason(RID, PAGE, Access.WRITE) == "0x5"


@pytest.mark.parametrize(("level", "ps", "snoop"), [(0, 0, 1 << 11), (1, 1 << 7, 1 << 11)], ids=["4K page", "2M page"])
def test_the_snoop_bit_needs_snoop_control(guest: Guest, level: int, ps: int, snoop: int) -> None:
    guest.map(second_stage(guest), 4, PAGE, 0x40_0000 | R | ps | snoop, leaf_level=level)
    assert guest.reason(RID, PAGE) is None

    guest.ecap = guest.ecap.replace(SC=0)

    assert guest.reason(RID, PAGE) == "0xc"


@pytest.mark.parametrize(("level", "sizes"), [(1, 0b10), (2, 0b01)], ids=["2M", "1G"])
def test_a_large_page_needs_its_capability(guest: Guest, level: int, sizes: int) -> None:
    guest.map(second_stage(guest), 4, PAGE, 0x4000_0000 | R | 1 << 7, leaf_level=level)
    assert guest.reason(RID, PAGE) is None

    guest.cap = guest.cap.replace(SSLPS=sizes)

    assert guest.reason(RID, PAGE) == "0xc"


@pytest.mark.parametrize(
    ("frame", "level", "reason"),
    [
        (0xFEDF_F000, 0, None),
        (0xFEE0_0000, 0, "0xe"),
        (0xFEEF_F000, 0, "0xe"),
        (0xFEF0_0000, 0, None),
        (0xFEE0_0000, 1, "0xe"),
        (0xC000_0000, 2, "0xe"),  # the page touches the range, the address does not
    ],
)
def test_no_page_may_touch_the_interrupt_range(guest: Guest, frame: int, level: int, reason: str | None) -> None:
    leaf = frame | R | W | (1 << 7 if level else 0)
    guest.map(second_stage(guest), 4, 0, leaf, leaf_level=level)

    assert guest.reason(RID, 0, Access.WRITE) == reason


def test_the_host_address_width_is_mgaw_unless_it_is_told(guest: Guest) -> None:
    guest.cap = CAP(SAGAW=0b10, MGAW=38)
    guest.host_address_width = None
    table = second_stage(guest, levels=3)
    guest.map(table, 3, PAGE, 1 << 38 | R)
    guest.map(table, 3, PAGE + 0x1000, 1 << 39 | R)
    assert (guest.reason(RID, PAGE), guest.reason(RID, PAGE + 0x1000)) == (None, "0xc")

    guest.host_address_width = 46

    assert guest.reason(RID, PAGE + 0x1000) is None
