"""The oracle against tables worked out by hand, and against a few that a real kernel wrote."""

from __future__ import annotations

import pytest

from .amd_v1 import AmdV1, encoded_size
from .arm import ArmHalf, ArmStage1, ArmStage2
from .captured import DATA, load_memory, load_registers, load_rows
from .described import Described
from .memory import Memory
from .riscv import Riscv
from .stage import EXECUTE, PRIVILEGED, READ, WRITE, FaultClass, Kind
from .vtd_ss import VtdSecondStage
from .walker import Context, walk
from .x86 import X86

VA = 0x7FED_CBA9_8765
INDICES = (0xFF, 0x1B7, 0x5D, 0x98)  # of VA, top level first
TABLES = (0x1000, 0x2000, 0x3000, 0x4000)


def memory_with(words: dict[int, int]) -> Memory:
    memory = Memory()
    memory.add_pages(0x1000, 8)
    for pa, value in words.items():
        memory.put(pa, value)
    return memory


def chain(pointer: int, leaf: int) -> dict[int, int]:
    """Four levels that lead VA to ``leaf``; ``pointer`` are the other bits of a table entry."""
    entries = [table | pointer for table in TABLES[1:]] + [leaf]
    return {table + 8 * index: entry for table, index, entry in zip(TABLES, INDICES, entries, strict=True)}


def test_x86_finds_the_page_and_marks_every_entry() -> None:
    memory = memory_with(chain(7, 0x8_8000 | 7))

    result = walk(memory, Context(stage1=X86(table=0x1000, levels=4)), VA, WRITE)

    assert (result.kind, result.pa, result.page_lg2, result.rights) == (0, 0x8_8765, 12, 7)
    assert memory.stores == [
        (0x1000 + 8 * 0xFF, 0x2007, 0x2027),
        (0x2000 + 8 * 0x1B7, 0x3007, 0x3027),
        (0x3000 + 8 * 0x5D, 0x4007, 0x4027),
        (0x4000 + 8 * 0x98, 0x88007, 0x88067),
    ]


def test_x86_stops_where_a_supervisor_entry_meets_a_user_access() -> None:
    memory = memory_with(chain(3, 0x8_8000 | 7))

    result = walk(memory, Context(stage1=X86(table=0x1000, levels=4)), VA, READ)

    assert (result.kind, result.missing, result.level, result.top) == (Kind.PERMISSION, PRIVILEGED, 3, True)
    assert (result.entry_address, result.entry_value) == (0x1000 + 8 * 0xFF, 0x2003)


def test_x86_without_sign_extension_has_the_lower_half_alone() -> None:
    memory = memory_with({})
    for sign_extended, kind in ((True, Kind.TRANSLATION), (False, Kind.INPUT_SIZE)):
        context = Context(stage1=X86(table=0x1000, levels=4, sign_extended=sign_extended))
        assert walk(memory, context, 0xFFFF_8000_0000_0000, READ).kind == kind
    assert walk(memory, context, 0x8000_0000_0000, READ).kind == Kind.INPUT_SIZE


def test_vtd_second_stage_gathers_rights_until_the_leaf() -> None:
    words = chain(3, 0x8_8000 | 3)
    words[0x2000 + 8 * 0x1B7] = 0x3001  # no write from here on

    result = walk(memory_with(words), Context(stage2=VtdSecondStage(table=0x1000, levels=4)), VA, WRITE)
    assert (result.kind, result.missing, result.level) == (Kind.PERMISSION, WRITE, 0)

    legacy = VtdSecondStage(table=0x1000, levels=4, legacy_order=True)
    result = walk(memory_with(words), Context(stage2=legacy), VA, WRITE)
    assert (result.kind, result.missing, result.level) == (Kind.PERMISSION, WRITE, 2)


def test_vtd_interrupt_range_blocks_every_page_that_touches_it() -> None:
    memory = memory_with({0x1000 + 8 * 3: 0xC000_0083})
    blocked = (0xFEE0_0000, 0xFEEF_FFFF)
    context = Context(stage2=VtdSecondStage(table=0x1000, levels=3), blocked_output=blocked)

    assert walk(memory, context, 0xC000_1000, READ).kind == Kind.BLOCKED_OUTPUT


@pytest.mark.parametrize(
    ("field", "size_lg2"),
    [(0x10000, 13), (0x11000, 14), (0x17000, 16), (0x17F000, 20), (0x5FF000, 22), (0xBFFFF000, 31)],
)
def test_amd_page_sizes_are_encoded_by_the_lowest_zero(field: int, size_lg2: int) -> None:
    assert encoded_size(field) == size_lg2


def test_amd_skips_levels_only_over_zero_bits() -> None:
    read_write = 3 << 61
    root = {0x1000 + 8: 0x2000 | 1 << 9 | 1 | read_write}  # level 4 straight to level 1
    memory = memory_with(root | {0x2000 + 8 * 5: 0x9000 | 1 | read_write})
    context = Context(stage2=AmdV1(table=0x1000, mode=4))

    assert walk(memory, context, 1 << 39 | 0x5123, READ | WRITE).pa == 0x9123
    result = walk(memory, context, 1 << 39 | 1 << 21 | 0x5123, READ)
    assert (result.kind, result.level, result.top) == (Kind.MALFORMED, 3, True)


def test_arm_start_tables_are_concatenated() -> None:
    # 40-bit IPA from level 1: two tables of 4 KiB, the second for the upper half.
    memory = memory_with({0x2000 + 8 * 511: 0x4000_0000 | 1 << 10 | 3 << 6 | 1})
    context = Context(stage2=ArmStage2(table=0x1000, input_bits=40, granule_lg2=12, top_level=2))
    assert walk(memory, context, 0xFF_C000_0000, READ).kind == Kind.TRANSLATION, "the table is aligned to its size"

    memory = memory_with({0x3000 + 8 * 511: 0x4000_0000 | 1 << 10 | 3 << 6 | 1})
    context = Context(stage2=ArmStage2(table=0x2000, input_bits=40, granule_lg2=12, top_level=2))
    assert walk(memory, context, 0xFF_C123_4567, READ).pa == 0x4123_4567


def test_arm_clean_pages_become_dirty_on_a_write() -> None:
    leaf = 0x8_8000 | 1 << 51 | 1 << 7 | 1 << 6 | 3
    memory = memory_with(chain(3, leaf))
    half = ArmHalf(table=0x1000, input_bits=48, granule_lg2=12)
    context = Context(stage1=ArmStage1(lower=half, hardware_access=True, hardware_dirty=True))

    assert walk(memory, context, VA, WRITE).pa == 0x8_8765
    assert memory.stores == [(0x4000 + 8 * 0x98, leaf, leaf & ~(1 << 7) | 1 << 10)]

    assert walk(memory_with(chain(3, leaf)), Context(stage1=ArmStage1(lower=half)), VA, WRITE).kind == Kind.ACCESS_FLAG


def test_arm_hierarchical_bits_take_rights_away() -> None:
    words = chain(3, 0x8_8000 | 1 << 10 | 1 << 6 | 3)
    words[0x1000 + 8 * 0xFF] |= 1 << 61  # APTable: nothing for the unprivileged
    half = ArmHalf(table=0x1000, input_bits=48, granule_lg2=12)
    context = Context(stage1=ArmStage1(lower=half))

    result = walk(memory_with(words), context, VA, READ)
    assert (result.kind, result.missing, result.level) == (Kind.PERMISSION, READ, 0)
    assert walk(memory_with(words), context, VA, READ | PRIVILEGED).kind == 0


def test_arm_upper_half_starts_where_its_size_says() -> None:
    upper = ArmHalf(table=0x1000, input_bits=39, granule_lg2=12)
    half = ArmHalf(table=0x1000, input_bits=48, granule_lg2=12, walks_disabled=True)
    context = Context(stage1=ArmStage1(lower=half, upper=upper))
    memory = memory_with({})

    assert walk(memory, context, 0xFFFF_FF80_0000_0000, READ).kind == Kind.TRANSLATION
    assert walk(memory, context, 0xFFFF_FF7F_FFFF_FFFF, READ).kind == Kind.INPUT_SIZE
    assert walk(memory, context, 0, READ).kind == Kind.INPUT_SIZE


def test_riscv_napot_pages_are_64k() -> None:
    def pte(address: int, flags: int) -> int:
        return address >> 12 << 10 | flags

    leaf = pte(0x8_8000, 0xDF) | 1 << 63
    words = {0x1000: pte(0x2000, 1), 0x2000: pte(0x3000, 1), 0x3000 + 8 * 7: leaf}
    memory = memory_with(words)
    context = Context(stage1=Riscv(table=0x1000, levels=3))

    result = walk(memory, context, 0x7123, READ)
    assert (result.pa, result.page_lg2) == (0x8_7123, 16)

    memory.put(0x3000 + 8 * 7, leaf ^ pte(0x1000, 0))
    assert walk(memory, context, 0x7123, READ).kind == Kind.TRANSLATION


def test_riscv_supervisors_never_execute_user_pages() -> None:
    memory = memory_with({0x1000: 0xDF})
    context = Context(stage1=Riscv(table=0x1000, levels=3, supervisor_user_access=True))

    assert walk(memory, context, 0, READ | PRIVILEGED).kind == 0
    result = walk(memory, context, 0, EXECUTE | PRIVILEGED)
    assert (result.kind, result.missing) == (Kind.PERMISSION, EXECUTE | PRIVILEGED)


def test_a_described_format_can_be_sv39() -> None:
    described = Described(
        table=0x1000,
        granule_lg2=12,
        index_lg2=(9, 9, 9),
        sign_extended=True,
        address_mask=((1 << 44) - 1) << 10,
        address_shift=2,
        present_mask=1,
        present_value=1,
        leaf_mask=2,
        leaf_value=2,
        leaf_levels=7,
        read_mask=2,
        write_mask=4,
        execute_mask=8,
        user_mask=16,
        hierarchical=False,
        accessed_mask=64,
        dirty_mask=128,
    )
    memory = memory_with({0x1000: 0x2000 >> 2 | 1, 0x2000 + 8: 0x20_0000 >> 2 | 0x13})

    result = walk(memory, Context(stage1=described), 0x20_0456, READ)
    assert (result.pa, result.page_lg2, result.rights) == (0x20_0456, 21, READ)
    assert memory.stores == [(0x2008, 0x20_0000 >> 2 | 0x13, 0x20_0000 >> 2 | 0x53)]


def test_stage_2_is_asked_for_every_stage_1_entry() -> None:
    # Stage 2 maps IPA pages 0x11000..0x14000 to 0x1000..0x4000, read-only.
    stage2 = {0x6000: 0x7003} | {0x7000 + 8 * page: (page - 16) << 12 | 1 for page in range(17, 21)}
    memory = memory_with(
        {0x5000: 0x6003}
        | stage2
        | {pa: value + 0x1_0000 for pa, value in chain(7, 0).items()}
        | {0x4000 + 8 * 0x98: 0x1_1007}
    )
    second = VtdSecondStage(table=0x5000, levels=3)
    context = Context(stage1=X86(table=0x1_1000, levels=4, accessed=False, dirty=False), stage2=second)

    result = walk(memory, context, VA, READ)
    assert (result.kind, result.pa, result.ipa) == (0, 0x1765, 0x1_1765)

    context = Context(stage1=X86(table=0x1_1000, levels=4), stage2=second)
    result = walk(memory, context, VA, READ)
    assert (result.kind, result.stage, result.missing) == (Kind.PERMISSION, 2, WRITE)
    assert (result.fault_class, result.for_top, result.for_update) == (FaultClass.TABLE, True, True)
    assert result.ipa == 0x1_1000 + 8 * 0xFF


def test_a_hole_aborts_the_walk() -> None:
    memory = memory_with({0x1000: 0xDEAD_0007})

    result = walk(memory, Context(stage1=X86(table=0x1000, levels=4)), 0x3000_1234, READ)

    assert (result.kind, result.level, result.top) == (Kind.EXTERNAL_ABORT, 2, False)
    assert (result.entry_address, result.entry_value) == (0xDEAD_0000, 0)


def agrees(memory: Memory, context: Context, row: dict[str, str]) -> bool:
    result = walk(memory, context, int(row["iova"], 16), WRITE if row["access"] == "w" else READ)
    memory.undo()
    if row["outcome"] != "ok":
        return result.kind != 0
    sized = not row["page_size"] or int(row["page_size"], 16) == 1 << result.page_lg2
    return result.kind == 0 and result.pa == int(row["pa"], 16) and sized


def test_captured_amd_tables_lead_where_they_led() -> None:
    capture = DATA / "captures" / "amd-v1"
    memory = load_memory(capture)
    table = load_registers(capture)["DEVTAB"] & ~0xFFF
    seen = 0
    for row in load_rows(capture):
        entry = memory.load(table + 32 * int(row["rid"], 16)) or 0
        mode = entry >> 9 & 7
        if entry & 3 != 3 or not mode:
            continue
        context = Context(stage2=AmdV1(table=entry & 0xF_FFFF_FFFF_F000, mode=mode), rights=entry >> 61 & 3)
        assert agrees(memory, context, row), row
        seen += 1
    assert seen > 5000


def test_captured_vtd_tables_lead_where_they_led() -> None:
    capture = DATA / "captures" / "vtd-legacy-aw48"
    memory = load_memory(capture)
    root = load_registers(capture)["RTADDR"] & ~0xFFF
    seen = 0
    for row in load_rows(capture):
        rid = int(row["rid"], 16)
        bus = memory.load(root + 16 * (rid >> 8)) or 0
        at = (bus & ~0xFFF) + 16 * (rid & 0xFF)
        low, high = memory.load(at) or 0, memory.load(at + 8) or 0
        if not bus & 1 or low & 0b1101 != 1:
            continue
        second = VtdSecondStage(table=low & ~0xFFF, levels=(high & 7) + 2, legacy_order=True)
        context = Context(stage2=second, blocked_output=(0xFEE0_0000, 0xFEEF_FFFF))
        assert agrees(memory, context, row), row
        seen += 1
    assert seen > 5000


def test_captured_nested_arm_tables_lead_where_they_led() -> None:
    capture = DATA / "captures" / "smmuv3-nested-4k-48"
    memory = load_memory(capture)
    base = load_registers(capture)["STRTAB_BASE"] & 0xF_FFFF_FFFF_FFC0
    seen = 0
    for row in load_rows(capture):
        rid = int(row["rid"], 16)
        leaf = (memory.load(base + 8 * (rid >> 8)) or 0) & 0xF_FFFF_FFFF_FFC0
        ste = [memory.load(leaf + 64 * (rid & 0xFF) + 8 * word) or 0 for word in range(4)]
        if ste[0] & 0xF != 0xF:
            continue
        input_bits = 64 - (ste[2] >> 32 & 63)
        assert ste[2] >> 46 & 3 == 0, "the kernel used 4K here"
        second = ArmStage2(
            table=ste[3] & 0xF_FFFF_FFFF_FFF0,
            input_bits=input_bits,
            granule_lg2=12,
            top_level=(ste[2] >> 38 & 3) + 1,
            output_bits=44,
        )
        at = walk(memory, Context(stage2=second), ste[0] & 0xF_FFFF_FFFF_FFC0, READ).pa
        cd = [memory.load(at + 8 * word) or 0 for word in range(4)]
        lower, upper = (
            ArmHalf(
                table=cd[which + 1] & 0xF_FFFF_FFFF_FFF0,
                input_bits=64 - (cd[0] >> 16 * which & 63),
                granule_lg2=12,
                walks_disabled=bool(cd[0] >> (14 + 16 * which) & 1),
            )
            for which in (0, 1)
        )
        first = ArmStage1(lower=lower, upper=upper, output_bits=44, access_flag_faults=not cd[0] >> 35 & 1)
        assert agrees(memory, Context(stage1=first, stage2=second), row), row
        seen += 1
    assert seen > 100
