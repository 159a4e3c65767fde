"""What each invalidation makes hardware forget, and what it spares, as translations show it."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import S2_LEAF, STAGE1_CD, STAGE2_STE, USER_PAGE, ipa_of
from plugins.smmuv3_cmdqv.tests.programmed import PAGE, STREAM, Programmed
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode, RangeGranule
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.stream_table import STE, StreamConfig

OLD, NEW = 0x1_0000_0000, 0x2_0000_0000
ASID, VMID = STAGE1_CD["ASID"], STAGE2_STE["S2VMID"]
BASE = 0x4000_0000
"""IOVA of page 0. Page n leads to OLD + n pages, and after `moved` to NEW + n pages."""


@pytest.fixture
def smmu() -> Programmed:
    return Programmed()


def do(smmu: Programmed, opcode: CommandOpcode, **fields: int) -> None:
    smmu.send(COMMANDS[opcode](Opcode=opcode, **fields), COMMANDS[CommandOpcode.SYNC](Opcode=CommandOpcode.SYNC))
    assert not smmu.active_errors()


def mapped(smmu: Programmed, pages: int = 16, extra: int = 0, **cd: int) -> None:
    """Map pages, use them, and map them elsewhere: what is cached is old."""
    root = smmu.address_space(**cd)
    for n in range(pages):
        smmu.page(root, BASE + n * PAGE, OLD + n * PAGE, extra)
    used(smmu, pages)
    for n in range(pages):
        entry = smmu.page(root, BASE + n * PAGE, NEW + n * PAGE)
        smmu.put(entry, NEW + n * PAGE | USER_PAGE | extra)


def used(smmu: Programmed, pages: int = 16) -> list[int]:
    return [smmu.reach(BASE + n * PAGE) - n * PAGE for n in range(pages)]


def fresh(smmu: Programmed, pages: int = 16) -> set[int]:
    """The pages that lead to where they were moved."""
    return {n for n, to in enumerate(used(smmu, pages)) if to == NEW}


NOT_GLOBAL, GLOBAL = 0, 1 << 11
ALL = set(range(16))


def globally(smmu: Programmed) -> None:
    """Map pages whose nG is 0."""
    root = smmu.address_space()
    for n in range(16):
        smmu.map(root, BASE + n * PAGE, OLD + n * PAGE | USER_PAGE & ~GLOBAL)
    used(smmu)
    for n in range(16):
        smmu.map(root, BASE + n * PAGE, NEW + n * PAGE | USER_PAGE & ~GLOBAL)


def test_what_was_cached_stays_until_it_is_invalidated(smmu: Programmed) -> None:
    mapped(smmu)

    assert fresh(smmu) == set()


@pytest.mark.parametrize(
    ("opcode", "fields", "forgotten"),
    [
        (CommandOpcode.TLBI_NSNH_ALL, {}, ALL),
        (CommandOpcode.TLBI_NH_ALL, {"VMID": 0}, ALL),
        (CommandOpcode.TLBI_NH_ALL, {"VMID": 1}, set()),
        (CommandOpcode.TLBI_S12_VMALL, {"VMID": 0}, ALL),
        (CommandOpcode.TLBI_S12_VMALL, {"VMID": 1}, set()),
        (CommandOpcode.TLBI_NH_ASID, {"ASID": ASID}, ALL),
        (CommandOpcode.TLBI_NH_ASID, {"ASID": ASID + 1}, set()),
        (CommandOpcode.TLBI_NH_ASID, {"ASID": ASID, "VMID": 1}, set()),
        (CommandOpcode.TLBI_NH_VA, {"ASID": ASID, "Address": BASE + 3 * PAGE}, {3}),
        (CommandOpcode.TLBI_NH_VA, {"ASID": ASID + 1, "Address": BASE + 3 * PAGE}, set()),
        (CommandOpcode.TLBI_NH_VA, {"ASID": ASID, "VMID": 1, "Address": BASE + 3 * PAGE}, set()),
        (CommandOpcode.TLBI_NH_VAA, {"Address": BASE + 3 * PAGE}, {3}),
        (CommandOpcode.TLBI_NH_VAA, {"Address": BASE + 3 * PAGE, "Leaf": 1}, {3}),
        (CommandOpcode.TLBI_S2_IPA, {"Address": BASE + 3 * PAGE}, set()),
        (CommandOpcode.TLBI_EL2_ALL, {}, set()),
        (CommandOpcode.TLBI_EL2_VAA, {"Address": BASE}, set()),
        (CommandOpcode.CFGI_STE, {"SID": STREAM}, set()),
    ],
)
def test_stage_1_of_el1_is_forgotten_by_what_means_it(
    smmu: Programmed, opcode: CommandOpcode, fields: dict[str, int], forgotten: set[int]
) -> None:
    mapped(smmu)

    do(smmu, opcode, **fields)

    assert fresh(smmu) == forgotten


@pytest.mark.parametrize(
    ("opcode", "fields", "forgotten"),
    [
        (CommandOpcode.TLBI_NH_ASID, {"ASID": ASID}, set()),
        (CommandOpcode.TLBI_NH_VA, {"ASID": ASID + 1, "Address": BASE + 3 * PAGE}, {3}),
        (CommandOpcode.TLBI_NH_ALL, {}, ALL),
    ],
)
def test_global_pages_have_no_asid(
    smmu: Programmed, opcode: CommandOpcode, fields: dict[str, int], forgotten: set[int]
) -> None:
    globally(smmu)

    do(smmu, opcode, **fields)

    assert fresh(smmu) == forgotten


@pytest.mark.parametrize(
    ("fields", "forgotten"),
    [
        ({"TG": RangeGranule.KB_4, "NUM": 0, "SCALE": 1}, {4, 5}),
        ({"TG": RangeGranule.KB_4, "NUM": 2, "SCALE": 0, "TTL": 3}, {4, 5, 6}),
        ({"TG": RangeGranule.KB_4, "NUM": 2, "SCALE": 1}, {4, 5, 6, 7, 8, 9}),
        ({"TG": RangeGranule.KB_4, "NUM": 31, "SCALE": 31}, set(range(4, 16))),
        ({"TG": RangeGranule.KB_16, "NUM": 0, "SCALE": 0, "TTL": 3}, {4, 5, 6, 7}),
        ({"TG": RangeGranule.KB_64, "NUM": 0, "SCALE": 0, "TTL": 3}, ALL),
        ({"TG": RangeGranule.NONE, "NUM": 7, "SCALE": 3}, {4}),
    ],
)
def test_a_range_is_as_long_as_num_scale_and_granule_say(
    smmu: Programmed, fields: dict[str, int], forgotten: set[int]
) -> None:
    mapped(smmu)

    do(smmu, CommandOpcode.TLBI_NH_VA, ASID=ASID, Address=BASE + 4 * PAGE, **fields)

    assert fresh(smmu) == forgotten


def test_without_range_invalidation_the_range_fields_say_nothing() -> None:
    smmu = Programmed(identity={("IDR3", "RIL"): 0})
    mapped(smmu)

    do(smmu, CommandOpcode.TLBI_NH_VA, ASID=ASID, Address=BASE + 4 * PAGE, TG=1, NUM=3, SCALE=1)

    assert fresh(smmu) == {4}


def test_a_range_at_the_end_of_the_address_space_ends_there(smmu: Programmed) -> None:
    mapped(smmu)

    do(smmu, CommandOpcode.TLBI_NH_VAA, Address=(1 << 64) - PAGE, TG=1, NUM=31, SCALE=31)

    assert fresh(smmu) == set()


def test_an_address_with_a_tag_in_its_top_byte_is_forgotten_without_it(smmu: Programmed) -> None:
    root = smmu.address_space(TBI0=1)
    smmu.page(root, BASE, OLD)
    tagged = 0xAB << 56 | BASE
    assert smmu.reach(tagged) == OLD
    smmu.put(smmu.page(root, BASE), NEW | USER_PAGE)

    do(smmu, CommandOpcode.TLBI_NH_VA, ASID=ASID, Address=0x12 << 56 | BASE)

    assert smmu.reach(tagged) == NEW


def test_a_wildcard_makes_one_vmid_mean_a_group() -> None:
    smmu = Programmed()
    smmu.change("CR0", VMW=2)
    root = smmu.take(PAGE)
    cd = smmu.put(smmu.take(CD.size), CD(**STAGE1_CD | {"TTB0": root}))
    smmu.stream(Config=StreamConfig.STAGE1, S1ContextPtr=cd, S2VMID=6)
    smmu.page(root, BASE, OLD)
    used(smmu, 1)
    smmu.put(smmu.page(root, BASE), NEW | USER_PAGE)

    do(smmu, CommandOpcode.TLBI_NH_ALL, VMID=8)
    spared = fresh(smmu, 1)
    do(smmu, CommandOpcode.TLBI_NH_ALL, VMID=5)

    assert (spared, fresh(smmu, 1)) == (set(), {0})


def test_an_smmu_without_stage_2_ignores_the_vmid() -> None:
    smmu = Programmed(identity={("IDR0", "S2P"): 0})
    mapped(smmu)

    do(smmu, CommandOpcode.TLBI_NH_ALL, VMID=77)

    assert fresh(smmu) == ALL


def el2(smmu: Programmed, *, e2h: int) -> None:
    smmu.change("CR0", SMMUEN=0)
    smmu.change("CR2", E2H=e2h)
    smmu.change("CR0", SMMUEN=1)
    root = smmu.take(PAGE)
    cd = smmu.put(smmu.take(CD.size), CD(**STAGE1_CD | {"TTB0": root}))
    smmu.stream(Config=StreamConfig.STAGE1, S1ContextPtr=cd, STRW=2)
    for n in range(16):
        smmu.page(root, BASE + n * PAGE, OLD + n * PAGE)
    used(smmu)
    for n in range(16):
        smmu.put(smmu.page(root, BASE + n * PAGE), NEW + n * PAGE | USER_PAGE)


@pytest.mark.parametrize(
    ("e2h", "opcode", "fields", "forgotten"),
    [
        (0, CommandOpcode.TLBI_EL2_ALL, {}, ALL),
        (1, CommandOpcode.TLBI_EL2_ALL, {}, ALL),
        (0, CommandOpcode.TLBI_EL2_VA, {"ASID": 99, "Address": BASE + PAGE}, {1}),
        (1, CommandOpcode.TLBI_EL2_VA, {"ASID": 99, "Address": BASE + PAGE}, set()),
        (1, CommandOpcode.TLBI_EL2_VA, {"ASID": ASID, "Address": BASE + PAGE}, {1}),
        (1, CommandOpcode.TLBI_EL2_VAA, {"Address": BASE + PAGE}, {1}),
        (0, CommandOpcode.TLBI_EL2_VAA, {"Address": BASE + PAGE}, {1}),
        (1, CommandOpcode.TLBI_EL2_ASID, {"ASID": ASID}, ALL),
        (1, CommandOpcode.TLBI_EL2_ASID, {"ASID": 99}, set()),
        (0, CommandOpcode.TLBI_EL2_ASID, {"ASID": ASID}, set()),
        (0, CommandOpcode.TLBI_NH_ALL, {}, set()),
        (1, CommandOpcode.TLBI_NH_VAA, {"Address": BASE}, set()),
    ],
)
def test_el2_is_forgotten_by_its_own_commands(
    smmu: Programmed, e2h: int, opcode: CommandOpcode, fields: dict[str, int], forgotten: set[int]
) -> None:
    el2(smmu, e2h=e2h)

    do(smmu, opcode, **fields)

    assert fresh(smmu) == forgotten


def stage2_alone(smmu: Programmed) -> None:
    root = smmu.take(0x2000)
    smmu.stream(**(STAGE2_STE | {"Config": StreamConfig.STAGE2, "S2TTB": root}))
    for n in range(16):
        smmu.map(root, BASE + n * PAGE, OLD + n * PAGE | S2_LEAF | 2, start=1)
    used(smmu)
    for n in range(16):
        smmu.map(root, BASE + n * PAGE, NEW + n * PAGE | S2_LEAF | 2, start=1)


@pytest.mark.parametrize(
    ("opcode", "fields", "forgotten"),
    [
        (CommandOpcode.TLBI_S2_IPA, {"VMID": VMID, "Address": BASE + PAGE}, {1}),
        (CommandOpcode.TLBI_S2_IPA, {"VMID": VMID, "Address": BASE + PAGE, "TG": 1, "NUM": 1, "TTL": 3}, {1, 2}),
        (CommandOpcode.TLBI_S2_IPA, {"VMID": VMID + 1, "Address": BASE + PAGE}, set()),
        (CommandOpcode.TLBI_S12_VMALL, {"VMID": VMID}, ALL),
        (CommandOpcode.TLBI_NH_ALL, {"VMID": VMID}, set()),
        (CommandOpcode.TLBI_NH_VAA, {"VMID": VMID, "Address": BASE + PAGE}, set()),
        (CommandOpcode.TLBI_NSNH_ALL, {}, ALL),
    ],
)
def test_stage_2_alone_is_forgotten_by_what_means_it(
    smmu: Programmed, opcode: CommandOpcode, fields: dict[str, int], forgotten: set[int]
) -> None:
    stage2_alone(smmu)

    do(smmu, opcode, **fields)

    assert fresh(smmu) == forgotten


def test_nested_translations_outlive_stage_2_invalidation_until_stage_1_goes_too(smmu: Programmed) -> None:
    table, hidden = smmu.take(PAGE), 0x7000_0000
    stage2 = smmu.nested({"TTB0": ipa_of(table)})
    smmu.map(ipa_of(table), BASE, hidden | USER_PAGE, nested=True)
    smmu.map(stage2, hidden, OLD | S2_LEAF | 2, start=1)
    used(smmu, 1)
    smmu.map(stage2, hidden, NEW | S2_LEAF | 2, start=1)

    do(smmu, CommandOpcode.TLBI_S2_IPA, VMID=VMID, Address=hidden)
    spared = fresh(smmu, 1)
    do(smmu, CommandOpcode.TLBI_NH_ALL, VMID=VMID)

    assert (spared, fresh(smmu, 1)) == (set(), {0})


def streams(smmu: Programmed, *sids: int) -> None:
    """Let streams bypass, use that, and make them abort."""
    for sid in sids:
        smmu.stream(sid, Config=StreamConfig.BYPASS)
        assert smmu.reach(0x1234, stream=sid) == 0x1234
        smmu.stream(sid, Config=StreamConfig.ABORT)


def aborting(smmu: Programmed, *sids: int) -> set[int]:
    return {sid for sid in sids if not hasattr(smmu.machine.translate(sid, 0x1234), "pa")}


@pytest.mark.parametrize(
    ("opcode", "fields", "forgotten"),
    [
        (CommandOpcode.CFGI_STE, {"SID": 5}, {5}),
        (CommandOpcode.CFGI_STE, {"SID": 5, "Leaf": 1}, {5}),
        (CommandOpcode.CFGI_STE, {"SID": 0xFFFF_FFFF}, set()),
        (CommandOpcode.CFGI_STE_RANGE, {"SID": 5, "Range": 0}, {4, 5}),
        (CommandOpcode.CFGI_STE_RANGE, {"SID": 5, "Range": 1}, {4, 5, 6, 7}),
        (CommandOpcode.CFGI_STE_RANGE, {"SID": 9, "Range": 9}, {4, 5, 6, 7, 8}),
        (CommandOpcode.CFGI_STE_RANGE, {"SID": 0, "Range": 31}, {4, 5, 6, 7, 8}),
        (CommandOpcode.TLBI_NSNH_ALL, {}, set()),
    ],
)
def test_stream_table_entries_stay_until_they_are_invalidated(
    smmu: Programmed, opcode: CommandOpcode, fields: dict[str, int], forgotten: set[int]
) -> None:
    sids = (4, 5, 6, 7, 8)
    streams(smmu, *sids)

    do(smmu, opcode, **fields)

    assert aborting(smmu, *sids) == forgotten


@pytest.mark.parametrize(
    ("opcode", "fields", "forgotten"),
    [
        (CommandOpcode.CFGI_CD, {"SID": STREAM, "SSID": 2}, {2}),
        (CommandOpcode.CFGI_CD, {"SID": STREAM, "SSID": 2, "Leaf": 1}, {2}),
        (CommandOpcode.CFGI_CD, {"SID": STREAM, "SSID": 0}, {None}),
        (CommandOpcode.CFGI_CD, {"SID": STREAM + 1, "SSID": 2}, set()),
        (CommandOpcode.CFGI_CD_ALL, {"SID": STREAM}, {None, 1, 2}),
        (CommandOpcode.CFGI_CD_ALL, {"SID": STREAM + 1}, set()),
        (CommandOpcode.CFGI_STE, {"SID": STREAM}, {None, 1, 2}),
    ],
)
def test_context_descriptors_stay_until_they_are_invalidated(
    smmu: Programmed, opcode: CommandOpcode, fields: dict[str, int], forgotten: set[int | None]
) -> None:
    table, root = smmu.take(4 * CD.size), smmu.take(PAGE)
    smmu.page(root, BASE, OLD)
    smmu.stream(Config=StreamConfig.STAGE1, S1ContextPtr=table, S1CDMax=2, S1DSS=2)
    for n in range(3):
        smmu.put(table + n * CD.size, CD(**STAGE1_CD | {"TTB0": root}))
    substreams = (None, 1, 2)
    for ssid in substreams:
        assert smmu.reach(BASE, pasid=ssid) == OLD
    for n in range(3):
        smmu.put(table + n * CD.size, CD())

    do(smmu, opcode, **fields)

    assert {ssid for ssid in substreams if not hasattr(smmu.machine.translate(STREAM, BASE, pasid=ssid), "pa")} == (
        forgotten
    )


def test_a_new_stream_table_takes_effect_when_configuration_is_forgotten(smmu: Programmed) -> None:
    mapped(smmu, 1)
    elsewhere = smmu.take(256 * STE.size)
    smmu.change("CR0", SMMUEN=0)
    smmu.change("STRTAB_BASE", ADDR=elsewhere)
    smmu.change("CR0", SMMUEN=1)

    assert smmu.machine.report(smmu.miss(BASE)).reason == "C_BAD_STE"
