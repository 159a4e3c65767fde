"""Scalable mode: root, context and PASID tables, second stage and pass-through."""

from __future__ import annotations

import mmap

import pytest

from plugins.vtd.tests.guest import HOLE, Guest, Log, R, W
from viommu.faults import Access, Fault
from viommu.translation import Translation
from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.root_context import ScalableContextEntry, ScalableRootEntry

RID = 0x0190
PAGE = 0x2345_6000
CONTEXT = ScalableContextEntry(P=1, PASIDE=1, PASIDDIRPTR=HOLE)
PASS = PasidTableEntry(P=1, PGTT=4, DID=1)


def second_stage(guest: Guest, *, levels: int = 4, **fields: int) -> int:
    """Give the device's RID_PASID an empty second stage; gives its top table."""
    table = guest.page()
    entry = PasidTableEntry(P=1, PGTT=2, AW=levels - 2, DID=5, SSPTPTR=table, PWSNP=1)
    guest.pasid(RID, 0, entry.replace(**fields))
    return table


@pytest.mark.parametrize(("requester", "half"), [(0x0110, "LP"), (0x017F, "LP"), (0x0180, "UP"), (RID, "UP")])
def test_each_half_of_a_root_entry_serves_half_of_the_functions(guest: Guest, requester: int, half: str) -> None:
    address = guest.scalable(requester, CONTEXT)
    log = Log()

    guest.configured(requester, log=log)

    assert log.read[:2] == [("ScalableRootEntry", guest.root + 0x10), ("ScalableContextEntry", address)]
    assert address & 0xFFF == (requester & 0x7F) * 32
    assert getattr(ScalableRootEntry.decode(guest.memory.read(guest.root + 0x10, 16) or b""), half)


def test_a_pasid_indexes_directory_and_table(guest: Guest) -> None:
    address = guest.pasid(RID, 0x12345, PASS, pdts=7)
    log = Log()

    guest.configured(RID, 0x12345, log)

    (_, directory), (_, table) = log.read[2:]
    assert directory & 0xFFF == 0x2468 & 0xFFF
    assert (table, table & 0xFFF) == (address, 0x140)


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        (ScalableRootEntry(LP=1), "0x39"),
        (ScalableRootEntry(UP=1, UCTP=HOLE), "0x40"),
        (ScalableRootEntry.decode(0xFFE << 64), "0x39"),
        (ScalableRootEntry.decode(0x003 << 64), "0x3a"),
        (ScalableRootEntry(UP=1, UCTP=1 << 46), "0x3a"),
        (ScalableRootEntry.decode(int(ScalableRootEntry(UP=1, UCTP=HOLE)) | 0xFFF), "0x40"),
    ],
)
def test_only_the_half_in_use_is_checked(guest: Guest, root: ScalableRootEntry, reason: str) -> None:
    guest.mode = 1
    guest.put(guest.root + 0x10, root)

    assert guest.reason(RID) == reason


def test_a_root_table_that_is_not_there_is_an_access_error(guest: Guest) -> None:
    guest.mode, guest.root = 1, HOLE

    assert guest.reason(RID) == "0x38"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (CONTEXT.replace(P=0), "0x41"),
        (ScalableContextEntry.decode(int(CONTEXT) | 1 << 5), "0x42"),
        (ScalableContextEntry.decode(int(CONTEXT) | 1 << 85), "0x42"),
        (ScalableContextEntry.decode(int(CONTEXT) | 1 << 128), "0x42"),
        (ScalableContextEntry.decode(int(CONTEXT) | 1 << 255), "0x42"),
        (CONTEXT.replace(PASIDDIRPTR=1 << 46), "0x42"),
        (CONTEXT.replace(DTE=1, PRE=1, PASIDE=0, RID_PRIV=1), "0x50"),
        (CONTEXT.replace(RID_PASID=0x1FFF), "0x50"),
        (CONTEXT.replace(RID_PASID=0x2000), "0x48"),
        (CONTEXT.replace(RID_PASID=0x2000, PDTS=1), "0x50"),
        (CONTEXT.replace(RID_PASID=0xFFFFF, PDTS=7), "0x50"),
    ],
)
def test_a_context_entry_is_present_then_free_of_reserved_bits_then_valid(
    guest: Guest, entry: ScalableContextEntry, reason: str
) -> None:
    guest.scalable(RID, entry)

    assert guest.reason(RID) == reason


@pytest.mark.parametrize(
    ("name", "lacks"),
    [("DTE", "DT"), ("PASIDE", "PASID"), ("PRE", "PRS"), ("RID_PASID", "RPS"), ("RID_PRIV", "RPRIVS")],
)
def test_a_field_of_a_context_entry_is_reserved_without_its_capability(guest: Guest, name: str, lacks: str) -> None:
    guest.scalable(RID, ScalableContextEntry(P=1, PASIDDIRPTR=HOLE).replace(**{name: 1}))
    assert guest.reason(RID) == "0x50"

    guest.ecap = guest.ecap.replace(**{lacks: 0})

    assert guest.reason(RID) == "0x42"


def test_requests_without_pasid_take_rid_pasid_whether_or_not_pasids_are_enabled(guest: Guest) -> None:
    guest.pasid(RID, 0x1234, PASS, PASIDE=0, RID_PASID=0x1234)

    assert guest.reason(RID) is None
    assert guest.reason(RID, pasid=0x1234) == "0x45"


@pytest.mark.parametrize("pdts", [0, 3, 7])
def test_a_pasid_is_bounded_by_the_size_of_the_directory(guest: Guest, pdts: int) -> None:
    last = (1 << 13 + pdts) - 1
    guest.pasid(RID, last, PASS, pdts=pdts)

    assert guest.reason(RID, pasid=last) is None
    if pdts < 7:
        assert guest.reason(RID, pasid=last + 1) == "0x46"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (0, "0x51"),
        (0xFFC, "0x51"),
        (int(PasidDirectoryEntry(P=1, SMPTBLPTR=HOLE)), "0x58"),
        (int(PasidDirectoryEntry(P=1, SMPTBLPTR=HOLE)) | 1 << 2, "0x52"),
        (int(PasidDirectoryEntry(P=1, SMPTBLPTR=HOLE)) | 1 << 11, "0x52"),
        (int(PasidDirectoryEntry(P=1, SMPTBLPTR=1 << 46)), "0x52"),
    ],
)
def test_a_directory_entry_is_present_then_free_of_reserved_bits(guest: Guest, entry: int, reason: str) -> None:
    directory = guest.page()
    guest.put(directory, entry)
    guest.scalable(RID, CONTEXT.replace(PASIDDIRPTR=directory))

    assert guest.reason(RID) == reason


ENTRY = PasidTableEntry(P=1, PGTT=4)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (ENTRY.replace(P=0, PGTT=7), "0x59"),
        *((PasidTableEntry.decode(int(ENTRY) | 1 << bit), "0x5a") for bit in (5, 10, 11, 80, 86, 91, 95, 129, 136)),
        *((PasidTableEntry.decode(int(ENTRY) | 1 << bit), "0x5a") for bit in (192, 255, 256, 511)),
        (ENTRY.replace(SSPTPTR=1 << 46), "0x5a"),
        (ENTRY.replace(FSPTPTR=1 << 46), "0x5a"),
        (PasidTableEntry.decode(int(ENTRY.replace(PGTT=7)) | 1 << 511), "0x5a"),
        (ENTRY.replace(PGTT=0), "0x5b"),
        (ENTRY.replace(PGTT=5), "0x5b"),
        (ENTRY.replace(PGTT=7), "0x5b"),
        (ENTRY.replace(PGTT=2, AW=0), "0x5b"),
        (ENTRY.replace(PGTT=2, AW=4), "0x5b"),
        (ENTRY.replace(PGTT=3, AW=4), "0x5b"),
        (ENTRY.replace(PGTT=1, FSPM=2), "0x5b"),
        (ENTRY.replace(PGTT=3, AW=2, FSPM=3), "0x5b"),
        (ENTRY.replace(AW=7, SSADE=1, SSPTPTR=HOLE, FSPM=3, Unused=3, CD=1, EMTE=1, PAT=7), None),
    ],
)
def test_a_pasid_entry_is_present_then_free_of_reserved_bits_then_valid(
    guest: Guest, entry: PasidTableEntry, reason: str | None
) -> None:
    guest.pasid(RID, 9, entry)

    assert guest.reason(RID, pasid=9) == reason


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("SSADE", "SSADS"), ("PWSNP", "SMPWCS"), ("PGSNP", "SC"), ("CD", "MTS"), ("EMTE", "MTS"), ("PAT", "MTS"),
        ("SRE", "SRS"), ("EAFE", "EAFS"),
    ],
)  # fmt: skip
def test_a_field_of_a_pasid_entry_is_reserved_without_its_capability(guest: Guest, name: str, lacks: str) -> None:
    guest.pasid(RID, 0, ENTRY.replace(**{name: 1}))
    assert guest.reason(RID) is None

    guest.ecap = guest.ecap.replace(**{lacks: 0})

    assert guest.reason(RID) == "0x5a"


@pytest.mark.parametrize(("translation", "lacks"), [(1, "FSTS"), (2, "SSTS"), (3, "NEST"), (4, "PT")])
def test_a_kind_of_translation_needs_its_capability(guest: Guest, translation: int, lacks: str) -> None:
    guest.pasid(RID, 0, ENTRY.replace(PGTT=translation, AW=2))
    assert guest.reason(RID) != "0x5b"

    guest.ecap = guest.ecap.replace(**{lacks: 0})

    assert guest.reason(RID) == "0x5b"


def test_five_levels_of_first_stage_need_their_capability(guest: Guest) -> None:
    guest.pasid(RID, 0, ENTRY.replace(PGTT=1, FSPM=1))
    assert guest.reason(RID) != "0x5b"

    guest.cap = guest.cap.replace(FL5LP=0)

    assert guest.reason(RID) == "0x5b"


@pytest.mark.parametrize(
    ("mode", "reason"), [(1, "0x30"), (2, "0x30"), (3, "0x30")], ids=["scalable", "reserved", "abort"]
)
def test_a_table_mode_that_the_hardware_lacks_is_refused(guest: Guest, mode: int, reason: str) -> None:
    guest.ecap = guest.ecap.replace(SMTS=0, ADMS=0)
    guest.mode = mode

    assert guest.reason(RID) == reason


def test_abort_dma_mode_refuses_everything(guest: Guest) -> None:
    second_stage(guest)
    guest.mode = 3

    assert guest.reason(RID) == guest.reason(RID, pasid=0) == "0x33"


def test_pass_through_is_identity_as_far_as_the_host_address_width(guest: Guest) -> None:
    guest.pasid(RID, 3, PASS)

    found = guest.access(RID, (1 << 46) - 1, Access.WRITE, 3)

    assert isinstance(found, Translation)
    assert found.untranslated
    assert guest.reason(RID, 1 << 46, pasid=3) == "0x83"


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_second_stage_has_the_levels_of_aw(guest: Guest, levels: int) -> None:
    top = 1 << 12 + 9 * levels
    guest.map(second_stage(guest, levels=levels), levels, top - 0x1000, 0x7000 | R)

    found = guest.access(RID, top - 1)

    assert isinstance(found, Translation)
    assert found.pa == 0x7FFF
    assert guest.reason(RID, top) == "0x84"
    guest.cap = guest.cap.replace(MGAW=38)
    assert guest.reason(RID, 1 << 39) == "0x84"


def test_second_stage_alone_is_tagged_by_domain_not_by_pasid(guest: Guest) -> None:
    second_stage(guest)

    context = guest.context(RID)

    assert (context.stage1, context.stage1_tag, context.stage2_tag) == (None, 0, 5)


@pytest.mark.parametrize(
    ("link", "leaf", "read", "write"),
    [
        (R | W, 0x5000, "0x79", "0x79"),
        (R | W, 0x5000 | R, None, "0x85"),
        (R | W, 0x5000 | W, "0x86", None),
        (R, 0x5000 | R | W, None, "0x85"),
        (W, 0x5000 | R | W, "0x86", None),
        (R, 0x5000 | W, "0x79", "0x79"),  # no right is left
    ],
)
def test_rights_accumulate_and_are_asked_for_after_the_leaf(
    guest: Guest, link: int, leaf: int, read: str | None, write: str | None
) -> None:
    guest.map(second_stage(guest), 4, PAGE, leaf, link=link)

    assert guest.reason(RID, PAGE, Access.READ) == read
    assert guest.reason(RID, PAGE, Access.WRITE) == write


@pytest.mark.parametrize(
    ("leaf", "level", "reason"),
    [
        (0x5000 | R | 1 << 46, 0, "0x7a"),
        (0x5000 | R | 1 << 62, 0, "0x7a"),
        (0x5000 | R | 1 << 11, 1, "0x7a"),
        (0x5000 | R | 1 << 62, 2, "0x7a"),
        (0x5000 | R | 1 << 7, 3, "0x7a"),
        (0x5000 | 1 << 46, 0, "0x79"),  # not present: the rest is ignored
        (0x5000 | R | 1 << 9 | 1 << 63 | 0x3FF << 52, 0, None),
    ],
)
def test_reserved_bits_are_told_before_a_missing_right(guest: Guest, leaf: int, level: int, reason: str | None) -> None:
    guest.map(second_stage(guest), 4, PAGE, leaf, leaf_level=level)

    assert guest.reason(RID, PAGE, Access.WRITE) == (reason or "0x85")
    assert guest.reason(RID, PAGE) == reason


def test_tables_that_are_not_there_are_access_errors_of_the_top_level_or_a_deeper_one(guest: Guest) -> None:
    table = second_stage(guest)
    guest.put(table, HOLE | R)
    assert guest.reason(RID) == "0x78"

    second_stage(guest, SSPTPTR=HOLE)
    assert guest.reason(RID) == "0x7b"


def test_no_page_may_touch_the_interrupt_range(guest: Guest) -> None:
    guest.map(second_stage(guest), 4, PAGE, 0xFEE0_0000 | R | W)

    assert guest.reason(RID, PAGE, Access.WRITE) == "0x87"


def test_accessed_and_dirty_flags_are_stored_where_the_entry_enables_them(guest: Guest) -> None:
    table = second_stage(guest, SSADE=1)
    leaf = guest.map(table, 4, PAGE, 0x5000 | R | W)

    guest.access(RID, PAGE)
    assert guest.memory.load(leaf) == 0x5000 | R | W | 1 << 8
    guest.access(RID, PAGE, Access.WRITE)

    assert guest.memory.load(leaf) == 0x5000 | R | W | 1 << 8 | 1 << 9
    assert (guest.memory.load(table) or 0) & 0x300 == 0x100


def test_a_flag_that_must_be_stored_without_snooping_is_refused(guest: Guest) -> None:
    table = second_stage(guest, SSADE=1, PWSNP=0)
    guest.map(table, 4, PAGE, 0x5000 | R | W | 1 << 8, link=R | W | 1 << 8)

    assert guest.reason(RID, PAGE) is None
    assert guest.reason(RID, PAGE, Access.WRITE) == "0x7c"


def test_a_flag_that_memory_does_not_take_is_refused(guest: Guest) -> None:
    page = mmap.mmap(-1, 0x1000)
    page[0:8] = (0x5000 | R).to_bytes(8, "little")
    guest.memory.place(0x9000_0000, page, writable=False)
    guest.map(second_stage(guest, SSADE=1), 4, 0, 0x9000_0000 | R, leaf_level=1)

    assert guest.reason(RID) == "0x7d"


def test_a_refusal_says_what_is_wrong(guest: Guest) -> None:
    guest.pasid(RID, 0, ENTRY.replace(PGTT=0))

    fault = guest.access(RID, 0)

    assert isinstance(fault, Fault)
    assert fault.refusal is not None
    assert fault.refusal.detail == "PGTT 0 is not one that ECAP has"
