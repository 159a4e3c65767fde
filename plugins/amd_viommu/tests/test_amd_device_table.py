"""What the device table entry decides, before any page table is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from viommu.errors import BadRegister
from viommu.faults import Access, FaultKind, Stage
from viommu.translation import Translation
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.registers import DeviceTableBase, DeviceTableSegmentBase

if TYPE_CHECKING:
    from plugins.amd_viommu.tests.conftest import Amd

DEVICE_TABLE = 0x1000_0000


def test_a_disabled_iommu_forwards_everything(amd: Amd) -> None:
    amd.control["IommuEn"] = 0

    assert amd.pa(0x1234_5678, access=Access.WRITE) == 0x1234_5678
    assert amd.told().structures == []


def test_an_entry_that_is_not_valid_forwards_even_with_a_pasid(amd: Amd) -> None:
    amd.device(V=0, TV=0, Mode=7, IR=0, IW=0)

    assert amd.pa(0x1234_5678, access=Access.WRITE) == 0x1234_5678
    assert amd.pa(0x1234_5678, pasid=5) == 0x1234_5678


def test_without_translation_information_everything_is_blocked(amd: Amd) -> None:
    amd.device(TV=0)

    assert amd.refusal().reason == "IO_PAGE_FAULT"


@pytest.mark.parametrize("bit", [2, 6, 63])
def test_a_reserved_bit_makes_the_entry_illegal_even_without_translation_information(amd: Amd, bit: int) -> None:
    amd.device(TV=0)
    amd.store(DEVICE_TABLE + 0x123 * 32, amd.load(DEVICE_TABLE + 0x123 * 32) | 1 << bit)

    assert amd.refusal().reason == "ILLEGAL_DEV_TABLE_ENTRY"


@pytest.mark.parametrize(("IV", "translates"), [(0, True), (1, False)])
def test_reserved_bits_of_the_upper_half_count_where_it_is_valid(amd: Amd, IV: int, *, translates: bool) -> None:  # noqa: N803
    amd.device(IV=IV)
    amd.store(DEVICE_TABLE + 0x123 * 32 + 24, 1)

    assert isinstance(amd.translate(0x1000), Translation) == translates


def test_the_software_bit_of_an_entry_is_ignored(amd: Amd) -> None:
    amd.device(IV=1, SoftwareAvailable=1)

    assert amd.pa(0x1000) == 0x1000


@pytest.mark.parametrize(
    ("IR", "IW", "granted"),
    [(1, 1, "rwx"), (1, 0, "rx"), (0, 1, "w"), (0, 0, "")],
)
def test_mode_0_forwards_what_the_entry_permits(amd: Amd, IR: int, IW: int, granted: str) -> None:  # noqa: N803
    amd.device(Mode=0, IR=IR, IW=IW)

    for letter, access in {"r": Access.READ, "w": Access.WRITE, "x": Access.EXECUTE}.items():
        outcome = amd.translate(0xABCD_E123, access)
        if letter in granted:
            assert isinstance(outcome, Translation)
            assert outcome.pa == 0xABCD_E123
            assert outcome.untranslated
        else:
            assert not isinstance(outcome, Translation)
            assert (outcome.kind, outcome.stage) == (FaultKind.PERMISSION, Stage.NONE)


def test_mode_7_is_illegal(amd: Amd) -> None:
    amd.device(Mode=7)

    assert amd.refusal().reason == "ILLEGAL_DEV_TABLE_ENTRY"


@pytest.mark.parametrize(("HATS", "deepest"), [(0, 4), (1, 5), (2, 6), (3, 0)])
def test_hardware_limits_the_levels_of_host_tables(amd: Amd, HATS: int, deepest: int) -> None:  # noqa: N803
    amd.features["HATS"] = HATS

    for mode in range(1, 7):
        amd.device(Mode=mode, HostPageTableRoot=amd.page())
        fault = amd.fault(0x1000)
        assert (fault.kind is FaultKind.TRANSLATION) == (mode <= deepest)
        assert fault.refusal is None or fault.refusal.reason == "IO_PAGE_FAULT"


def test_a_device_beyond_the_table_has_no_entry(amd: Amd) -> None:
    assert amd.pa(0x1000, requester=0x1FF) == 0x1000  # the last of 512 entries: all zeros, V=0
    assert amd.refusal(requester=0x200).reason == "ILLEGAL_DEV_TABLE_ENTRY"
    assert amd.refusal(requester=0x1_0000).reason == "ILLEGAL_DEV_TABLE_ENTRY"


def test_an_entry_in_a_hole_is_a_device_table_error(amd: Amd) -> None:
    amd.others["DEVTAB"] = int(DeviceTableBase(Base=0x7000_0000, Size=3))

    refusal = amd.refusal()

    assert (refusal.reason, refusal.address) == ("DEV_TAB_HW_ERROR", 0x7000_0000 + 0x123 * 32)
    assert amd.told().structures == [(DTE, 0x7000_0000 + 0x123 * 32, None)]


def test_device_table_segments_are_chosen_by_the_top_bits(amd: Amd) -> None:
    amd.control["DevTblSegEn"] = 2
    segment = amd.page()
    amd.others["DEVTAB_SEG3"] = int(DeviceTableSegmentBase(Base=segment, Size=0))
    entry = DTE(V=1, TV=1, IR=1)
    assert amd.memory.write(segment + 5 * DTE.size, entry.encode())

    assert amd.told(requester=0xC005).structures == [(DTE, segment + 5 * DTE.size, entry.encode())]
    assert amd.refusal(requester=0xC080).reason == "ILLEGAL_DEV_TABLE_ENTRY"
    assert amd.told(requester=0x0005).structures[0][1] == DEVICE_TABLE + 5 * DTE.size


def test_more_segments_than_exist_is_no_such_hardware(amd: Amd) -> None:
    amd.control["DevTblSegEn"] = 4

    with pytest.raises(BadRegister, match="CONTROL"):
        _ = amd.hardware


def test_a_register_that_is_too_wide_is_refused_by_name(amd: Amd) -> None:
    amd.others["EFR"] = 1 << 64

    with pytest.raises(BadRegister, match="EFR 0x10000000000000000"):
        _ = amd.hardware


def test_every_structure_that_was_read_is_told(amd: Amd) -> None:
    entry = amd.device(Mode=0)

    told = amd.told()

    assert told.structures == [(DTE, DEVICE_TABLE + 0x123 * 32, entry.encode())]
    assert any("Mode=0" in note for note in told.notes)


def test_the_exclusion_range_is_told_where_it_names_the_device(amd: Amd) -> None:
    amd.others |= {"EXCLBASE": 0x8000_0001, "EXCLLIMIT": 0x8000_3000}

    amd.device(EX=0)
    assert not any("exclusion" in note for note in amd.told().notes)
    amd.device(EX=1)
    assert any("0x80000000-0x80003fff" in note for note in amd.told().notes)
    amd.device(EX=0)
    amd.others["EXCLBASE"] |= 2
    assert any("exclusion" in note for note in amd.told().notes)


def test_the_exclusion_range_is_forwarded_untranslated(amd: Amd) -> None:
    amd.others |= {"EXCLBASE": 0x8000_0001, "EXCLLIMIT": 0x8000_3000}
    amd.device(EX=1, Mode=4, IR=1, IW=1)

    assert amd.pa(0x8000_0000) == 0x8000_0000
    assert amd.pa(0x8000_3FFF) == 0x8000_3FFF
    amd.fault(0x7FFF_FFFF)
    amd.fault(0x8000_4000)


@pytest.mark.parametrize("fields", [{}, {"IV": 1, "IntCtl": 1}, {"IV": 1, "IntCtl": 2}])
def test_interrupts_are_not_translated(amd: Amd, fields: dict[str, int]) -> None:
    amd.device(**{"Mode": 3, "HostPageTableRoot": amd.page()} | fields)

    assert amd.pa(0xFEE0_1000, access=Access.WRITE) == 0xFEE0_1000
    assert amd.pa(0xFEEF_FFFC, access=Access.WRITE) == 0xFEEF_FFFC
    amd.fault(0xFEDF_FFFC, access=Access.WRITE)
    amd.fault(0xFEF0_0000, access=Access.WRITE)


def test_a_device_whose_interrupts_are_aborted_has_none(amd: Amd) -> None:
    amd.device(Mode=3, HostPageTableRoot=amd.page(), IV=1, IntCtl=0)

    amd.fault(0xFEE0_1000, access=Access.WRITE)


def test_with_a_pasid_the_interrupt_range_is_memory(amd: Amd) -> None:
    gcr3 = amd.page()
    amd.store(gcr3, amd.page() | 1)
    amd.device(GV=1, GCR3=gcr3)

    amd.fault(0xFEE0_1000, access=Access.WRITE, pasid=0)
