"""What STE and CD fields make of an access: walks through tables written by hand."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import (
    AF,
    DBM,
    IPA,
    PAGE_OR_TABLE,
    RAM,
    READ_ONLY,
    S2_DEVICE,
    S2_LEAF,
    S2_READ,
    S2_WRITE,
    STAGE1_CD,
    STAGE2_STE,
    UNPRIVILEGED,
    USER_PAGE,
    UXN,
    VALID,
    Guest,
    ipa_of,
)
from viommu.faults import Access, FaultKind
from viommu.translation import Translation
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.registers import CR2, IDR0, IDR1, IDR3, IDR5
from viommu_smmuv3_cmdqv.spec.stream_table import StreamConfig

DATA = 0x1_2345_6000
R, W, X, P = Access.READ, Access.WRITE, Access.EXECUTE, Access.PRIVILEGED


def single_stage(guest: Guest, *, granule: int = 12, **cd: int) -> int:
    """Stage 1 with an empty root table for TTB0; gives the table."""
    root = guest.take(1 << granule)
    guest.stage1(TTB0=root, **cd)
    return root


def kind(guest: Guest, iova: int, access: Access = R) -> FaultKind:
    return guest.fault(iova, access).kind


@pytest.mark.parametrize(("tg", "granule", "start"), [(0, 12, 0), (2, 14, 0), (1, 16, 1)], ids=["4K", "16K", "64K"])
def test_stage_1_walks_tables_of_each_granule(guest: Guest, tg: int, granule: int, start: int) -> None:
    root = single_stage(guest, granule=granule, TG0=tg)
    va, page = 0x1234_5678_0000, 0x5_0000
    guest.map(root, va, page | USER_PAGE, start=start, granule=granule)

    outcome = guest.outcome(va | 0xABC)

    assert isinstance(outcome, Translation)
    assert (outcome.pa, outcome.page_size) == (page | 0xABC, 1 << granule)


@pytest.mark.parametrize(("t0sz", "start"), [(16, 0), (24, 0), (25, 1), (33, 1), (34, 2), (42, 2), (43, 3), (48, 3)])
def test_the_start_level_follows_from_the_input_size(guest: Guest, t0sz: int, start: int) -> None:
    root = single_stage(guest, T0SZ=t0sz)
    guest.map(root, 0x3000, DATA | USER_PAGE, start=start)

    assert guest.pa(0x3010) == DATA + 0x10
    assert kind(guest, 1 << 64 - t0sz) is FaultKind.INPUT_SIZE


def test_addresses_with_bit_55_set_go_through_the_upper_half(guest: Guest) -> None:
    upper = guest.take(0x1_0000)
    guest.stage1(EPD0=1, EPD1=0, TTB1=upper, T1SZ=22, TG1=3)
    guest.map(upper, (1 << 42) - 0x1_0000, 0x5_0000 | USER_PAGE, start=2, granule=16)

    assert guest.pa(0xFFFF_FFFF_FFFF_0123) == 0x5_0123
    assert kind(guest, 0x1000) is FaultKind.INPUT_SIZE
    assert kind(guest, 0xFFFF_0000_0000_0000) is FaultKind.INPUT_SIZE


@pytest.mark.parametrize("tbi", [0, 1])
def test_the_top_byte_is_ignored_where_the_cd_says_so(guest: Guest, tbi: int) -> None:
    root = single_stage(guest, TBI0=tbi)
    guest.map(root, 0x3000, DATA | USER_PAGE)

    assert isinstance(guest.outcome(0xAB00_0000_0000_3000), Translation) == bool(tbi)


@pytest.mark.parametrize(("implemented", "refused"), [(1, True), (0, False)])
def test_e0pd_shuts_out_the_unprivileged_where_it_exists(guest: Guest, implemented: int, refused: bool) -> None:
    guest.set(IDR3, E0PD=implemented)
    root = single_stage(guest, E0PD0=1)
    guest.map(root, 0x3000, DATA | USER_PAGE)

    assert isinstance(guest.outcome(0x3000), Translation) != refused
    assert isinstance(guest.outcome(0x3000, R | P), Translation)


@pytest.mark.parametrize(("had", "implemented", "allowed"), [(0, 1, False), (1, 1, True), (1, 0, False)])
def test_hierarchical_rights_count_unless_switched_off(guest: Guest, had: int, implemented: int, allowed: bool) -> None:
    guest.set(IDR3, HAD=implemented)
    root = single_stage(guest, HAD0=had)
    guest.map(root, 0x3000, DATA | USER_PAGE)
    guest.put(root, guest.word(root) | 1 << 62)

    assert isinstance(guest.outcome(0x3000, W), Translation) == allowed


@pytest.mark.parametrize(("affd", "ha", "af_after"), [(0, 0, None), (1, 0, 0), (0, 1, AF), (1, 1, AF)])
def test_a_clear_access_flag_faults_or_is_ignored_or_set(
    guest: Guest, affd: int, ha: int, af_after: int | None
) -> None:
    root = single_stage(guest, AFFD=affd, HA=ha)
    leaf = guest.map(root, 0x3000, DATA | USER_PAGE & ~AF)

    outcome = guest.outcome(0x3000)

    assert isinstance(outcome, Translation) == (af_after is not None)
    assert guest.word(leaf) & AF == (af_after or 0)


@pytest.mark.parametrize(("hd", "ha", "written"), [(1, 1, True), (0, 1, False), (1, 0, False)])
def test_dirty_state_is_stored_only_with_access_flags(guest: Guest, hd: int, ha: int, written: bool) -> None:
    root = single_stage(guest, HA=ha, HD=hd)
    leaf = guest.map(root, 0x3000, DATA | USER_PAGE | READ_ONLY | DBM)

    assert isinstance(guest.outcome(0x3000, W), Translation) == written
    assert bool(guest.word(leaf) & READ_ONLY) != written


def test_access_flags_of_tables_are_set_where_asked_for(guest: Guest) -> None:
    root = single_stage(guest, HA=1, HAFT=1)
    guest.map(root, 0x3000, DATA | USER_PAGE)

    guest.pa(0x3000)

    assert guest.word(root) & AF


def test_writable_pages_are_not_executable_where_the_cd_says_so(guest: Guest) -> None:
    root = single_stage(guest, WXN=1)
    guest.map(root, 0x3000, DATA | USER_PAGE)
    guest.map(root, 0x4000, DATA | USER_PAGE | READ_ONLY)

    assert kind(guest, 0x3000, X) is FaultKind.PERMISSION
    assert guest.pa(0x4000, X) == DATA


def test_the_privileged_keep_off_user_pages_where_the_cd_says_so(guest: Guest) -> None:
    root = single_stage(guest, PAN=1)
    guest.map(root, 0x3000, DATA | USER_PAGE)
    guest.map(root, 0x4000, DATA | USER_PAGE & ~UNPRIVILEGED)

    assert kind(guest, 0x3000, R | P) is FaultKind.PERMISSION
    assert guest.pa(0x4000, R | P) == DATA


@pytest.mark.parametrize("ips", [4, 5])
def test_outputs_beyond_the_intermediate_size_are_refused(guest: Guest, ips: int) -> None:
    root = single_stage(guest, IPS=ips)
    guest.map(root, 0x3000, 1 << 44 | USER_PAGE)

    outcome = guest.outcome(0x3000)

    assert isinstance(outcome, Translation) == (ips == 5)


def test_the_smmus_output_size_bounds_the_intermediate_size(guest: Guest) -> None:
    guest.set(IDR5, OAS=4)
    root = single_stage(guest, IPS=6)
    guest.map(root, 0x3000, 1 << 44 | USER_PAGE)

    assert kind(guest, 0x3000) is FaultKind.ADDRESS_SIZE


def test_tables_of_64k_hold_52_bit_addresses(guest: Guest) -> None:
    root = single_stage(guest, granule=16, TG0=1, T0SZ=12, IPS=6)
    va = 0xF_1234_5678_0000
    guest.map(root, va, 0x5_0000 | 0xF << 12 | USER_PAGE, start=1, granule=16)

    assert guest.pa(va) == 0xF_0000_0005_0000


def test_tables_of_4k_hold_52_bit_addresses_with_ds(guest: Guest) -> None:
    root = guest.take(0x1000)
    guest.stage1(TTB0=root, DS=1, T0SZ=12, IPS=6)
    va = 0xF_1234_5678_0000
    guest.map(root, va, 1 << 49 | 3 << 8 | 0x5000 | USER_PAGE, start=-1)

    assert guest.pa(va) == 0xE_0000_0000_5000


def test_big_endian_tables_are_read_as_such(guest: Guest) -> None:
    root = single_stage(guest, ENDI=1, T0SZ=43)
    entry = (DATA | USER_PAGE).to_bytes(8, "big")
    guest.put(root + 3 * 8, int.from_bytes(entry, "little"))

    assert guest.pa(0x3000) == DATA


# Stage 2.


@pytest.mark.parametrize(
    ("ste", "start", "granule"),
    [
        ({"S2T0SZ": 24, "S2SL0": 1}, 1, 12),
        ({"S2T0SZ": 22, "S2SL0": 1}, 1, 12),
        ({"S2T0SZ": 21, "S2SL0": 1}, 1, 12),
        ({"S2T0SZ": 16, "S2SL0": 2}, 0, 12),
        ({"S2T0SZ": 30, "S2SL0": 0}, 2, 12),
        ({"S2T0SZ": 39, "S2SL0": 3}, 3, 12),
        ({"S2T0SZ": 24, "S2SL0": 1, "S2TG": 2}, 2, 14),
        ({"S2T0SZ": 16, "S2SL0": 2, "S2TG": 2}, 1, 14),
        ({"S2T0SZ": 35, "S2SL0": 0, "S2TG": 2}, 3, 14),
        ({"S2T0SZ": 12, "S2SL0": 2, "S2TG": 1}, 1, 16),
        ({"S2T0SZ": 18, "S2SL0": 1, "S2TG": 1}, 2, 16),
        ({"S2T0SZ": 31, "S2SL0": 0, "S2TG": 1}, 3, 16),
        ({"S2T0SZ": 12, "S2SL0": 0, "S2SL0_2": 1, "S2DS": 1}, -1, 12),
        ({"S2T0SZ": 12, "S2SL0": 3, "S2TG": 2, "S2DS": 1}, 0, 14),
    ],
)
def test_stage_2_starts_where_the_ste_says_with_concatenated_tables(
    guest: Guest, ste: dict[str, int], start: int, granule: int
) -> None:
    root = guest.take(16 << granule)
    guest.stream(**(STAGE2_STE | {"Config": StreamConfig.STAGE2, "S2TTB": root, "S2PS": 6} | ste))
    last_page = (1 << 64 - ste["S2T0SZ"]) - (1 << granule)
    guest.map(root, last_page, 0x5_0000 | S2_LEAF | PAGE_OR_TABLE, start=start, granule=granule)

    assert guest.pa(last_page | 0x123) == 0x5_0123
    assert kind(guest, last_page + (1 << granule)) is FaultKind.INPUT_SIZE


def test_stage_2_rights_and_access_flags_are_its_own(guest: Guest) -> None:
    root = guest.stage2()
    guest.map(root, 0x7000_0000, 0x20_0000 | VALID | AF | S2_WRITE, at=2, start=1)
    guest.map(root, 0x7020_0000, S2_LEAF & ~AF, at=2, start=1)

    assert kind(guest, 0x7000_0000, R) is FaultKind.PERMISSION
    assert guest.pa(0x7000_0000, W) == 0x20_0000
    assert kind(guest, 0x7020_0000, R) is FaultKind.ACCESS_FLAG


@pytest.mark.parametrize(("fields", "stored"), [({"S2AFFD": 1}, 0), ({"S2HA": 1}, AF), ({"S2HA": 1, "S2AFFD": 1}, AF)])
def test_stage_2_access_flags_are_ignored_or_set_as_the_ste_says(
    guest: Guest, fields: dict[str, int], stored: int
) -> None:
    root = guest.stage2(**fields)
    leaf = guest.map(root, 0x7000_0000, S2_LEAF & ~AF, at=2, start=1)

    guest.pa(0x7000_0000)

    assert guest.word(leaf) & AF == stored


def test_stage_2_dirty_state_is_stored_as_the_ste_says(guest: Guest) -> None:
    root = guest.stage2(S2HA=1, S2HD=1)
    leaf = guest.map(root, 0x7000_0000, S2_LEAF & ~S2_WRITE | DBM, at=2, start=1)

    guest.pa(0x7000_0000, W)

    assert guest.word(leaf) & S2_WRITE


@pytest.mark.parametrize("xnx", [0, 1])
def test_stage_2_tells_privileges_apart_where_it_can(guest: Guest, xnx: int) -> None:
    guest.set(IDR3, XNX=xnx)
    root = guest.stage2()
    guest.map(root, 0x7000_0000, S2_LEAF | 1 << 53, at=2, start=1)

    assert isinstance(guest.outcome(0x7000_0000, X), Translation)
    assert isinstance(guest.outcome(0x7000_0000, X | P), Translation) != bool(xnx)


# Nested.


def nested_tables(guest: Guest, **ste: int) -> tuple[int, int]:
    """A nested stream with an empty stage 1; gives the PA of its root table and the root of stage 2."""
    table = guest.take(0x1000)
    return table, guest.nested({"TTB0": ipa_of(table)}, **ste)


def test_a_nested_access_goes_through_both_stages(guest: Guest) -> None:
    table, _ = nested_tables(guest)
    page = guest.take(0x1000)
    guest.map(ipa_of(table), 0x3000, ipa_of(page) | USER_PAGE, nested=True)

    outcome = guest.outcome(0x3008)

    assert isinstance(outcome, Translation)
    assert (outcome.pa, outcome.ipa, outcome.page_size) == (page + 8, ipa_of(page) + 8, 0x1000)


def test_the_smaller_page_of_both_stages_is_the_translations(guest: Guest) -> None:
    table, _ = nested_tables(guest)
    guest.map(ipa_of(table), 0x4000_0000, IPA | USER_PAGE & ~PAGE_OR_TABLE, at=1, nested=True)

    outcome = guest.outcome(0x4000_0000)

    assert isinstance(outcome, Translation)
    assert (outcome.pa, outcome.page_size) == (RAM, 0x20_0000)


@pytest.mark.parametrize("protected", [0, 1])
def test_stage_1_tables_in_device_memory_are_refused_where_protected(guest: Guest, protected: int) -> None:
    table, root2 = nested_tables(guest, S2PTW=protected)
    guest.map(root2, 0x7000_0000, RAM | VALID | AF | S2_READ | S2_DEVICE, at=2, start=1)
    guest.put(table, 0x7000_0000 | VALID | PAGE_OR_TABLE)

    fault = guest.fault(0x3000)

    assert fault.kind is (FaultKind.PERMISSION if protected else FaultKind.TRANSLATION)


# Worlds and tags.


def test_el2_has_one_privilege_and_one_half(guest: Guest) -> None:
    root = guest.take(0x1000)
    at = guest.put(guest.take(CD.size), CD(**(STAGE1_CD | {"TTB0": root, "EPD1": 0, "PAN": 1})))
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=at, STRW=2)
    guest.map(root, 0x3000, DATA | USER_PAGE & ~UNPRIVILEGED | UXN)

    assert guest.pa(0x3000) == DATA
    assert kind(guest, 0x3000, X | P) is FaultKind.PERMISSION
    assert kind(guest, 0xFFFF_FFFF_FFFF_F000) is FaultKind.INPUT_SIZE


def test_entries_are_tagged_by_asid_and_vmid(guest: Guest) -> None:
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=guest.stage1(ASID=0x1234), S2VMID=0x77)
    with_stage2 = guest.context()
    guest.set(IDR0, S2P=0)
    without = guest.context()

    assert (with_stage2.stage1_tag, with_stage2.stage2_tag) == (0x1234, 0x77)
    assert (without.stage1_tag, without.stage2_tag) == (0x1234, 0)


def test_stage_2_alone_is_tagged_by_vmid(guest: Guest) -> None:
    guest.stage2(S2VMID=0xBEEF)

    assert (guest.context().stage1_tag, guest.context().stage2_tag) == (0, 0xBEEF)


def test_no_world_answers_for_another(guest: Guest) -> None:
    at = guest.stage1(ASID=1)
    tags = set()
    for strw, e2h in ((0, 0), (2, 0), (2, 1)):
        guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=at, STRW=strw, S2VMID=0xFFFF)
        guest.set(CR2, E2H=e2h)
        tags.add(guest.context().stage2_tag)

    assert len(tags) == 3


def test_el2_without_asids_ignores_the_cds(guest: Guest) -> None:
    at = guest.stage1(ASID=9)
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=at, STRW=2)

    assert guest.context().stage1_tag == 0


@pytest.mark.parametrize(
    ("privcfg", "access", "allowed"), [(2, R | P, False), (3, R, True), (0, R, False), (1, R, False)]
)
def test_the_ste_can_override_the_privilege_of_an_access(
    guest: Guest, privcfg: int, access: Access, allowed: bool
) -> None:
    guest.set(IDR1, ATTR_PERMS_OVR=1)
    root = guest.take(0x1000)
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=guest.stage1(TTB0=root), PRIVCFG=privcfg)
    guest.map(root, 0x3000, DATA | USER_PAGE & ~UNPRIVILEGED)

    assert isinstance(guest.outcome(0x3000, access), Translation) == allowed


@pytest.mark.parametrize(("instcfg", "access", "allowed"), [(2, X, True), (3, R, False), (3, W, True), (0, X, False)])
def test_the_ste_can_make_reads_instruction_fetches_or_data(
    guest: Guest, instcfg: int, access: Access, allowed: bool
) -> None:
    guest.set(IDR1, ATTR_PERMS_OVR=1)
    root = guest.take(0x1000)
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=guest.stage1(TTB0=root), INSTCFG=instcfg)
    guest.map(root, 0x3000, DATA | USER_PAGE | UXN)

    assert isinstance(guest.outcome(0x3000, access), Translation) == allowed


def test_overrides_count_only_where_the_smmu_has_them(guest: Guest) -> None:
    root = guest.take(0x1000)
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=guest.stage1(TTB0=root), PRIVCFG=3, INSTCFG=3)
    guest.map(root, 0x3000, DATA | USER_PAGE & ~UNPRIVILEGED | UXN)

    assert guest.fault(0x3000).kind is FaultKind.PERMISSION
    assert guest.pa(0x3000, R | P) == DATA
