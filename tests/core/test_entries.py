"""Entry layouts, held against tables that were captured and against what others said of accesses through them."""

from __future__ import annotations

import csv
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import frozen

from viommu.entries import entry_layout
from viommu.spec import amd_v1, riscv, vmsav8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.layout import Descriptor

DATA = Path(__file__).parents[1] / "data"


@cache
def pages(capture: str) -> dict[int, bytes]:
    with np.load(DATA / capture / "memory.npz") as memory:
        return {int(gpa): page.tobytes() for gpa, page in zip(memory["gpa"], memory["page"], strict=True)}


def load(capture: str, address: int) -> int:
    word: int = struct.unpack_from("<Q", pages(capture)[address & ~0xFFF], address & 0xFFF)[0]
    return word


@cache
def rows(capture: str, table: str) -> list[dict[str, str]]:
    with (DATA / capture / f"{table}.csv").open() as file:
        return list(csv.DictReader(file))


def layout_of(format_name: str, verdict: str, level: int, raw: int = 0) -> type[Descriptor]:
    layout = entry_layout(format_name, verdict, level, raw)
    assert layout is not None
    return layout


def what_is_set(format_name: str, verdict: str, level: int, raw: int) -> dict[str, int]:
    layout = layout_of(format_name, verdict, level)
    entry = layout.decode(raw)
    assert not entry.reserved_set
    return {name: value for name in layout.fields if (value := getattr(entry, name))}


# Entries that kernels and generators wrote, read by hand.


@pytest.mark.parametrize(
    ("raw", "level", "verdict", "expected"),
    [
        (0x40ED5003, 3, "table", {"Type": vmsav8.UpperType.TABLE, "Address": 0x40ED5000}),
        (
            0x40ED9F47,
            0,
            "leaf",
            {
                "Type": vmsav8.LastType.PAGE,
                "AttrIndx": 1,
                "AP": vmsav8.AP.RW,
                "SH": vmsav8.SH.INNER,
                "AF": 1,
                "nG": 1,
                "Address": 0x40ED9000,
            },
        ),
        (
            0x80000F45,
            2,
            "leaf",
            {
                "Type": vmsav8.UpperType.BLOCK,
                "AttrIndx": 1,
                "AP": vmsav8.AP.RW,
                "SH": vmsav8.SH.INNER,
                "AF": 1,
                "nG": 1,
                "Address": 0x80000000,
            },
        ),
    ],
)
def test_arm_stage_1_entries_of_a_kernel(raw: int, level: int, verdict: str, expected: dict[str, int]) -> None:
    assert what_is_set("ArmStage1", verdict, level, raw) == expected


def test_arm_stage_2_entries_of_a_kernel() -> None:
    assert what_is_set("ArmStage2", "table", 3, 0x48C60003) == {"Type": vmsav8.UpperType.TABLE, "Address": 0x48C60000}
    assert what_is_set("ArmStage2", "leaf", 1, 0x45E007FD) == {
        "Type": vmsav8.UpperType.BLOCK,
        "MemAttr": 15,
        "S2AP": vmsav8.S2AP.READ_WRITE,
        "SH": vmsav8.SH.INNER,
        "AF": 1,
        "Address": 0x45E00000,
    }


def test_first_stage_entries_of_a_kernel() -> None:
    present = {"P": 1, "RW": 1, "US": 1, "A": 1}

    assert what_is_set("X86", "table", 3, 0x1450A7227) == {**present, "Bits9_8": 2, "Address": 0x1450A7000}
    assert what_is_set("X86", "leaf", 0, 0x100800067) == {**present, "D": 1, "Address": 0x100800000}
    assert what_is_set("X86", "leaf", 1, 0x132A000E7) == {**present, "D": 1, "PS": 1, "Address": 0x132A00000}
    assert what_is_set("X86", "leaf", 2, 0x1000000E7) == {**present, "D": 1, "PS": 1, "Address": 0x100000000}


def test_second_stage_entries_of_a_kernel() -> None:
    assert what_is_set("VtdSecondStage", "table", 3, 0x144B5E403) == {
        "R": 1,
        "W": 1,
        "Bit10": 1,
        "Address": 0x144B5E000,
    }
    assert what_is_set("VtdSecondStage", "leaf", 0, 0x1455BF003) == {"R": 1, "W": 1, "Address": 0x1455BF000}
    assert what_is_set("VtdSecondStage", "leaf", 1, 0x141C00083) == {"R": 1, "W": 1, "PS": 1, "Address": 0x141C00000}


def test_amd_entries_of_a_kernel() -> None:
    rights = {"PR": 1, "IR": 1, "IW": 1}

    assert what_is_set("AmdV1", "table", 5, 0x60000001454AEA01) == {
        **rights,
        "NextLevel": amd_v1.NextLevel.LEVEL_5,
        "Address": 0x1454AE000,
    }
    assert what_is_set("AmdV1", "leaf", 1, 0x7000000141800001) == {**rights, "FC": 1, "Address": 0x141800000}
    assert what_is_set("AmdV1", "leaf", 0, 0x5000000100800E01) == {  # 8 KiB at 0x100800000, write-only
        "PR": 1,
        "IW": 1,
        "NextLevel": amd_v1.NextLevel.PAGE_SIZE_IN_ADDRESS,
        "FC": 1,
        "Address": 0x100800000,
    }


def test_riscv_entries_of_a_generator() -> None:
    used = {"V": 1, "U": 1, "A": 1, "D": 1}

    assert what_is_set("Riscv", "table", 2, 0x26E55C01) == {"V": 1, "PPN": 0x9B957000}
    assert what_is_set("Riscv", "table", 3, 0x1800000005EA7C01) == {"V": 1, "PPN": 0x17A9F000, "RSW60_59": 3}
    assert what_is_set("Riscv", "leaf", 0, 0xC00115D6043660DF) == {
        **used,
        "R": 1,
        "W": 1,
        "X": 1,
        "PPN": 0x4575810D98000,
        "PBMT": riscv.PBMT.IO,
        "N": 1,
    }


def test_an_entry_made_of_fields_has_the_bytes_that_a_kernel_wrote() -> None:
    page_of_64k = amd_v1.AmdV1Leaf(
        PR=1, NextLevel=amd_v1.NextLevel.PAGE_SIZE_IN_ADDRESS, Address=0x100127000, FC=1, IR=1, IW=1
    )

    assert int(page_of_64k) == load("captures/amd-v1", 0x1456DF9B8)


# Walks by hand: from root to page through the layouts, held against the address that somebody else recorded.


@frozen
class Walk:
    """``root`` was found by hand; ``index_lg2`` are the index bits from the top level down, ``verdicts`` likewise."""

    capture: str
    format_name: str
    rid: str
    iova: str
    root: int
    verdicts: str
    index_lg2: tuple[int, ...] = (9, 9, 9, 9)
    address: str = "Address"

    def steps(self) -> Iterator[tuple[str, int, int]]:
        """Yield (verdict, level, index)."""
        shift = 12 + sum(self.index_lg2)
        for depth, bits in enumerate(self.index_lg2[: len(self.verdicts)]):
            shift -= bits
            index = int(self.iova, 16) >> shift & (1 << bits) - 1
            yield ("leaf" if self.verdicts[depth] == "l" else "table"), len(self.index_lg2) - 1 - depth, index


SIX_LEVELS = (7, 9, 9, 9, 9, 9)
SV39 = (9, 9, 9)

WALKS = [
    Walk("captures/vtd-legacy-aw48", "VtdSecondStage", "0x0080", "0x8000000000", 0x144C10000, "tttl"),
    Walk("captures/vtd-legacy-aw48", "VtdSecondStage", "0x0080", "0x503fb384ec", 0x144C10000, "ttl"),
    Walk("captures/vtd-legacy-aw48", "VtdSecondStage", "0x0080", "0x4000874110", 0x144C10000, "tl"),
    Walk("captures/vtd-scalable-ss", "VtdSecondStage", "0x0100", "0x600030b198", 0x14513A000, "tttl"),
    Walk("captures/vtd-scalable-fs", "X86", "0x0088", "0x6310000000", 0x144B58000, "tttl"),
    Walk("captures/vtd-scalable-fs", "X86", "0x0088", "0x500be67160", 0x144B58000, "ttl"),
    Walk("captures/vtd-scalable-fs", "X86", "0x0088", "0x40022e8390", 0x144B58000, "tl"),
    Walk("captures/amd-v1", "AmdV1", "0x0080", "0x10000000000", 0x1457DA000, "tttttl", SIX_LEVELS),
    Walk("captures/amd-v1", "AmdV1", "0x0080", "0x61001370e8", 0x1457DA000, "tttttl", SIX_LEVELS),
    Walk("captures/amd-v1", "AmdV1", "0x0080", "0x5000564050", 0x1457DA000, "ttttl", SIX_LEVELS),
    Walk("captures/amd-v1", "AmdV1", "0x0080", "0x402967fe6c", 0x1457DA000, "tttl", SIX_LEVELS),
    Walk("captures/amd-v1", "AmdV1", "0x0200", "0xffffc000", 0x143838000, "ttl", SV39),
    Walk("captures/smmuv3-s1", "ArmStage1", "0x100", "0xffffd000", 0x416C5000, "tttl"),
    Walk("captures/smmuv3-s1", "ArmStage1", "0x400", "0x20401238", 0x46F55000, "ttl"),
    Walk("captures/smmuv3-s1", "ArmStage1", "0x400", "0x60001238", 0x46F55000, "tl"),
    Walk(
        "captures-riscv/riscv-s1-sv39-1lvl-base",
        "Riscv",
        "0x57",
        "0xffffffc651151d50",
        0x1E3D50DB9D000,
        "ttl",
        SV39,
        "PPN",
    ),
    Walk("captures-riscv/riscv-s1-sv39-1lvl-base", "Riscv", "0x2f", "0xfffffffe02616a88", 0x576000, "tl", SV39, "PPN"),
    Walk(
        "captures-riscv/riscv-g-sv39x4-1lvl-ext", "Riscv", "0x36", "0xb9c9dc629c", 0x8FE98000, "ttl", (11, 9, 9), "PPN"
    ),
]


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: f"{walk.format_name}-{walk.iova}")
def test_the_layouts_lead_from_the_root_to_the_recorded_page(walk: Walk) -> None:
    table = walk.root
    for verdict, level, index in walk.steps():
        raw = load(walk.capture, table + 8 * index)
        entry = layout_of(walk.format_name, verdict, level).decode(raw)
        assert layout_of(walk.format_name, "fault", level, raw) is type(entry)
        assert not entry.reserved_set
        table = getattr(entry, walk.address)

    recorded = [row for row in rows(walk.capture, "translations") if (row["rid"], row["iova"]) == (walk.rid, walk.iova)]
    page_size = int(recorded[0]["page_size"], 16)
    assert table & -page_size | int(walk.iova, 16) & page_size - 1 == int(recorded[0]["pa"], 16)


# Reserved bits: single bits of a kernel's entries were flipped, and another implementation was asked.

CAPABILITY_BITS = {"SNP", "TM"}
"""Reserved where the machine lacks a capability, which those machines did."""

FLIPPED = [
    ("captures/vtd-legacy-aw48", 0x144C10000, "VtdSecondStage", "0xc"),
    ("captures/vtd-scalable-ss", 0x14513A000, "VtdSecondStage", "0xc"),
    ("captures/vtd-scalable-fs", 0x144B58000, "X86", "0x72"),
]


def level_of(capture: str, root: int, iova: int, entry: int) -> int:
    """Give the level at which a walk of a VT-d table for ``iova`` meets ``entry``."""
    table = root
    for level in (3, 2, 1, 0):
        address = table + 8 * (iova >> 12 + 9 * level & 511)
        if address == entry:
            return level
        table = load(capture, address) & 0xF_FFFF_FFFF_F000
    raise AssertionError(f"{entry:#x} is not on the way of {iova:#x}")


@pytest.mark.parametrize(("capture", "root", "format_name", "reserved"), FLIPPED, ids=str)
def test_a_flipped_bit_is_reserved_where_another_implementation_says_so(
    capture: str, root: int, format_name: str, reserved: str
) -> None:
    flips = [row for row in rows(capture, "mutations") if row["structure"] == "vtd-page-table"]
    for row in flips:
        level = level_of(capture, root, int(row["iova"], 16), int(row["entry"], 16))
        raw = load(capture, int(row["entry"], 16)) ^ 1 << int(row["bit"])
        entry = layout_of(format_name, "fault", level, raw).decode(raw)
        beyond_the_machine = raw >> 48 & 0xF
        lacking = any(getattr(entry, name, 0) for name in CAPABILITY_BITS)
        if row["qemu_fault"] == reserved:
            assert entry.reserved_set or beyond_the_machine or lacking, row
        else:
            assert not entry.reserved_set, row
            assert not beyond_the_machine, row
    assert len([row for row in flips if row["qemu_fault"] == reserved]) > 50


# Which layout.


@pytest.mark.parametrize(
    ("format_name", "level", "raw", "name"),
    [
        ("ArmStage1", 0, 0x0, "ArmStage1Page"),
        ("ArmStage1", 1, 0x0, "ArmStage1Table"),
        ("ArmStage2", 1, 0x1, "ArmStage2Block"),
        ("X86", 1, 0x81, "X86Page2M"),
        ("X86", 2, 0x81, "X86Page1G"),
        ("X86", 3, 0x81, "X86UpperTable"),
        ("X86", 4, 0x81, "X86UpperTable"),
        ("VtdSecondStage", 2, 0x3, "SecondStageTable"),
        ("VtdSecondStage", 3, 0x83, "SecondStageUpperTable"),
        ("AmdV1", 2, 0xE01, "AmdV1Leaf"),
        ("AmdV1", 2, 0x401, "AmdV1Table"),
        ("AmdV1", 0, 0x401, "AmdV1Leaf"),
        ("Riscv", 2, 0x5, "RiscvLeaf"),
        ("Riscv", 2, 0x0, "RiscvPointer"),
    ],
)
def test_a_faulted_entry_is_read_as_what_it_looks_like(format_name: str, level: int, raw: int, name: str) -> None:
    assert layout_of(format_name, "fault", level, raw).__name__ == name


def test_a_format_told_at_run_time_has_no_layout() -> None:
    assert entry_layout("Described", "leaf", 0) is None


def test_a_page_size_bit_where_no_page_may_be_shows_as_reserved() -> None:
    assert layout_of("X86", "fault", 3, 0x83).decode(0x83).reserved_set == 0x80
    assert layout_of("VtdSecondStage", "fault", 3, 0x83).decode(0x83).reserved_set == 0x80
