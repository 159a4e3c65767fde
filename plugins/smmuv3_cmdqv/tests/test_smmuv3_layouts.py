"""Layouts against a second source: printed doublewords, worked encodings, and bytes that a real kernel was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from viommu_smmuv3_cmdqv.identity import PRESETS
from viommu_smmuv3_cmdqv.spec import LAYOUTS
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as cmdqv
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD, L1CD
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId, OperationClass, TranslationRecord
from viommu_smmuv3_cmdqv.spec.registers import IDR0, IDR5, STRTAB_BASE_CFG
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE, StreamConfig

if TYPE_CHECKING:
    from viommu.layout import Descriptor

PRINTED_STE = {  # doubleword, high and low bit in it
    "V": (0, 0, 0), "Config": (0, 3, 1), "S1Fmt": (0, 5, 4), "S1ContextPtr": (0, 51, 6), "S1CDMax": (0, 63, 59),
    "S1DSS": (1, 1, 0), "S1CIR": (1, 3, 2), "S1COR": (1, 5, 4), "S1CSH": (1, 7, 6), "S2HWU59": (1, 8, 8),
    "S2HWU62": (1, 11, 11), "DRE": (1, 12, 12), "CONT": (1, 16, 13), "DCP": (1, 17, 17), "PPAR": (1, 18, 18),
    "MEV": (1, 19, 19), "S2FWB": (1, 25, 25), "S1MPAM": (1, 26, 26), "S1STALLD": (1, 27, 27), "EATS": (1, 29, 28),
    "STRW": (1, 31, 30), "MemAttr": (1, 35, 32), "MTCFG": (1, 36, 36), "ALLOCCFG": (1, 40, 37), "SHCFG": (1, 45, 44),
    "NSCFG": (1, 47, 46), "PRIVCFG": (1, 49, 48), "INSTCFG": (1, 51, 50), "S2VMID": (2, 15, 0), "S2T0SZ": (2, 37, 32),
    "S2SL0": (2, 39, 38), "S2IR0": (2, 41, 40), "S2OR0": (2, 43, 42), "S2SH0": (2, 45, 44), "S2TG": (2, 47, 46),
    "S2PS": (2, 50, 48), "S2AA64": (2, 51, 51), "S2ENDI": (2, 52, 52), "S2AFFD": (2, 53, 53), "S2PTW": (2, 54, 54),
    "S2HD": (2, 55, 55), "S2HA": (2, 56, 56), "S2S": (2, 57, 57), "S2R": (2, 58, 58), "S2TTB": (3, 51, 4),
}  # fmt: skip
PRINTED_CD = {
    "T0SZ": (0, 5, 0), "TG0": (0, 7, 6), "IR0": (0, 9, 8), "OR0": (0, 11, 10), "SH0": (0, 13, 12), "EPD0": (0, 14, 14),
    "ENDI": (0, 15, 15), "T1SZ": (0, 21, 16), "TG1": (0, 23, 22), "IR1": (0, 25, 24), "OR1": (0, 27, 26),
    "SH1": (0, 29, 28), "EPD1": (0, 30, 30), "V": (0, 31, 31), "IPS": (0, 34, 32), "AFFD": (0, 35, 35),
    "WXN": (0, 36, 36), "UWXN": (0, 37, 37), "TBI0": (0, 38, 38), "TBI1": (0, 39, 39), "PAN": (0, 40, 40),
    "AA64": (0, 41, 41), "HD": (0, 42, 42), "HA": (0, 43, 43), "S": (0, 44, 44), "R": (0, 45, 45), "A": (0, 46, 46),
    "ASET": (0, 47, 47), "ASID": (0, 63, 48), "NSCFG0": (1, 0, 0), "HAD0": (1, 1, 1), "E0PD0": (1, 2, 2),
    "HAFT": (1, 3, 3), "TTB0": (1, 51, 4), "HWU059": (1, 60, 60), "HWU062": (1, 63, 63), "NSCFG1": (2, 0, 0),
    "HAD1": (2, 1, 1), "E0PD1": (2, 2, 2), "TTB1": (2, 51, 4), "HWU159": (2, 60, 60), "MAIR": (3, 63, 0),
    "AMAIR": (4, 63, 0),
}  # fmt: skip
PRINTED_EVENT = {
    "ID": (0, 7, 0), "SSV": (0, 11, 11), "SSID": (0, 31, 12), "SID": (0, 63, 32), "STAG": (1, 15, 0),
    "STALL": (1, 31, 31), "PnU": (1, 33, 33), "InD": (1, 34, 34), "RnW": (1, 35, 35), "NSIPA": (1, 38, 38),
    "S2": (1, 39, 39), "CLASS": (1, 41, 40), "TTRnW": (1, 44, 44), "InputAddr": (2, 63, 0), "IPA": (3, 51, 12),
}  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "printed"), [(STE, PRINTED_STE), (CD, PRINTED_CD), (TranslationRecord, PRINTED_EVENT)]
)
def test_fields_lie_where_the_doublewords_are_printed(
    layout: type[Descriptor], printed: dict[str, tuple[int, int, int]]
) -> None:
    for name, (doubleword, high, low) in printed.items():
        assert layout.fields[name].parts == ((doubleword * 64 + high, doubleword * 64 + low),), name


CMDQV_PLACES = {  # as Linux's driver and QEMU's model both have them: place, then high and low bits of fields
    "CONFIG": (0x0, {
        "EN": (0, 0), "PER_CMD_OFFSET": (3, 1), "MAX_CLK_BATCH": (11, 4), "MAX_CMD_BATCH": (19, 12),
        "CONS_DRAM_EN": (20, 20),
    }),
    "PARAM": (0x4, {
        "VER": (3, 0), "NUM_VCMDQ_LOG2": (7, 4), "NUM_VINTF_LOG2": (11, 8), "NUM_SID_PER_VM_LOG2": (15, 12),
    }),
    "STATUS": (0x8, {"ENABLED": (0, 0)}),
    "CMDQ_ALLOC": (0x200, {"ALLOC": (0, 0), "LVCMDQ": (7, 1), "VINTF": (20, 15)}),
    "VINTF_CONFIG": (0x1000, {"EN": (0, 0), "VMID": (16, 1), "HYP_OWN": (17, 17)}),
    "VINTF_STATUS": (0x1004, {"ENABLED": (0, 0), "STATUS": (3, 1), "NUM_LVCMDQ": (23, 16)}),
    "SID_MATCH": (0x1040, {"EN": (0, 0), "VIRT_SID": (20, 1)}),
    "SID_REPLACE": (0x1080, {"PHYS_SID": (19, 0)}),
    "CONS_INDX": (0x1_0000, {"RD": (19, 0), "ERR": (30, 24)}),
    "PROD_INDX": (0x1_0004, {"WR": (19, 0)}),
    "VCMDQ_CONFIG": (0x1_0008, {"EN": (0, 0)}),
    "VCMDQ_STATUS": (0x1_000C, {"EN_OK": (0, 0)}),
    "GERROR": (0x1_0010, {"CMDQ_ERR": (0, 0), "CONS_DRAM_WR_ABT_ERR": (1, 1), "CMDQ_INIT_ERR": (2, 2)}),
    "GERRORN": (0x1_0014, {"CMDQ_ERR": (0, 0), "CONS_DRAM_WR_ABT_ERR": (1, 1), "CMDQ_INIT_ERR": (2, 2)}),
    "BASE": (0x2_0000, {"LOG2SIZE": (4, 0), "ADDR": (47, 5)}),
    "CONS_INDX_BASE": (0x2_0008, {"ADDR": (47, 0)}),
}  # fmt: skip
OURS = {
    "CONFIG": (cmdqv.CMDQV_CONFIG, cmdqv.CONFIG_AT),
    "PARAM": (cmdqv.CMDQV_PARAM, cmdqv.PARAM_AT),
    "STATUS": (cmdqv.CMDQV_STATUS, cmdqv.STATUS_AT),
    "CMDQ_ALLOC": (cmdqv.CMDQV_CMDQ_ALLOC, cmdqv.CMDQ_ALLOC),
    "VINTF_CONFIG": (cmdqv.VINTF_CONFIG, cmdqv.VINTF_BANK + cmdqv.VINTF_CONFIG_AT),
    "VINTF_STATUS": (cmdqv.VINTF_STATUS, cmdqv.VINTF_BANK + cmdqv.VINTF_STATUS_AT),
    "SID_MATCH": (cmdqv.SID_MATCH, cmdqv.VINTF_BANK + cmdqv.SID_MATCH_AT),
    "SID_REPLACE": (cmdqv.SID_REPLACE, cmdqv.VINTF_BANK + cmdqv.SID_REPLACE_AT),
    "CONS_INDX": (cmdqv.VCMDQ_CONS_INDX, cmdqv.DIRECT_PAGE0 + cmdqv.CONS_AT),
    "PROD_INDX": (cmdqv.VCMDQ_PROD_INDX, cmdqv.DIRECT_PAGE0 + cmdqv.PROD_AT),
    "VCMDQ_CONFIG": (cmdqv.VCMDQ_CONFIG, cmdqv.DIRECT_PAGE0 + cmdqv.VCMDQ_CONFIG_AT),
    "VCMDQ_STATUS": (cmdqv.VCMDQ_STATUS, cmdqv.DIRECT_PAGE0 + cmdqv.VCMDQ_STATUS_AT),
    "GERROR": (cmdqv.VCMDQ_GERROR, cmdqv.DIRECT_PAGE0 + cmdqv.GERROR_AT),
    "GERRORN": (cmdqv.VCMDQ_GERRORN, cmdqv.DIRECT_PAGE0 + cmdqv.GERRORN_AT),
    "BASE": (cmdqv.VCMDQ_BASE, cmdqv.DIRECT_PAGE1 + cmdqv.BASE_AT),
    "CONS_INDX_BASE": (cmdqv.VCMDQ_CONS_INDX_BASE, cmdqv.DIRECT_PAGE1 + cmdqv.CONS_BASE_AT),
}


@pytest.mark.parametrize("name", CMDQV_PLACES)
def test_registers_of_the_cmdqv_lie_where_linux_and_qemu_both_have_them(name: str) -> None:
    (layout, at), (place, printed) = OURS[name], CMDQV_PLACES[name]

    assert at == place
    assert {field: spec.parts for field, spec in layout.fields.items()} == {
        field: (bits,) for field, bits in printed.items()
    }


def test_the_pages_and_maps_of_the_cmdqv_lie_where_linux_and_qemu_both_have_them() -> None:
    assert (cmdqv.DIRECT_PAGE0, cmdqv.DIRECT_PAGE1) == (0x1_0000, 0x2_0000)
    assert (cmdqv.VINTF_PAGE0, cmdqv.VINTF_PAGE1, cmdqv.VINTF_STRIDE) == (0x3_0000, 0x4_0000, 0x2_0000)
    assert (cmdqv.VCMDQ_STRIDE, cmdqv.VINTF_BANK_STRIDE, cmdqv.SLOTS) == (0x80, 0x100, 16)
    assert (cmdqv.VINTF_ERR_MAP_AT, cmdqv.VINTF_INT_MASK_AT, cmdqv.CMDQ_ERR_MAP) == (0x14, 0x1C, 0x24)
    assert cmdqv.LVCMDQ_ERR_MAP_AT == 0xC0
    assert [error.value for error in cmdqv.VcmdqError] == [0, 1, 2, 3, 4]


def test_the_presets_are_a_grace_and_what_qemu_shows_its_guests() -> None:
    assert PRESETS["grace"]["CMDQV_PARAM"] == 0x4671  # 128 VCMDQs, 64 VINTFs, 16 streams each, version 1
    assert PRESETS["qemu"]["CMDQV_PARAM"] == 0x4011


KERNEL_STES = [
    (
        "0b00004000000000d400000000000000",
        {"Config": 5, "S1ContextPtr": 0x4000_0000, "S1CIR": 1, "S1COR": 1, "S1CSH": 3},
    ),
    ("0b00fcffffff0f00d400000000000000", {"S1ContextPtr": 0xF_FFFF_FFFC_0000}),
    ("2b000040000000f8d700000000000000", {"S1CDMax": 31, "S1Fmt": 2, "S1DSS": 3}),
    ("0b00004000000000d400001000000000", {"EATS": 1}),
    ("0b00004000000000d400004000000000", {"STRW": 1}),
    ("0b00004000000000d400000000100000", {"SHCFG": 1}),
    ("0b00004000000000d400000800000000", {"S1STALLD": 1}),
    ("0b00004000000000d400000001000000", {"MemAttr": 1, "MTCFG": 0}),
    ("0b00004000000000d400080000000000", {"MEV": 1}),
    ("0b00004000000000d400000200000000", {"S2FWB": 1}),
    ("0b00004000000000d400000000000300", {"PRIVCFG": 3}),
    ("0d000000000000000000000000000000", {"Config": 6}),
]
"""What a test program gave to a real kernel, which judged them by these fields."""


@pytest.mark.parametrize(("words", "fields"), KERNEL_STES)
def test_an_ste_given_to_a_real_kernel_reads_as_was_meant(words: str, fields: dict[str, int]) -> None:
    ste = STE.decode(bytes.fromhex(words).ljust(STE.size, b"\0"))

    assert {name: getattr(ste, name) for name in fields} == fields
    assert ste.V == 1


def test_an_ste_and_a_cd_of_a_real_kernel_read_as_it_set_them_up() -> None:
    ste = STE.decode(
        bytes.fromhex("0f00004000000000d4000800000000000100000094354c040060374800000000").ljust(STE.size, b"\0")
    )
    cd = CD.decode(
        bytes.fromhex("103500c004e20b0000506c4100000000000000000000000044ff04f4ffffffff").ljust(CD.size, b"\0")
    )

    assert (ste.Config, ste.MEV, ste.S2VMID, ste.S2T0SZ, ste.S2SL0) == (StreamConfig.NESTED, 1, 1, 20, 2)
    assert (ste.S2PS, ste.S2AA64, ste.S2PTW, ste.S2R, ste.S2TTB) == (4, 1, 1, 1, 0x4837_6000)
    assert (cd.T0SZ, cd.EPD1, cd.V, cd.IPS, cd.AA64, cd.R, cd.A, cd.ASET, cd.ASID) == (16, 1, 1, 4, 1, 1, 1, 1, 11)
    assert (cd.TTB0, cd.MAIR) == (0x416C_5000, 0xFFFF_FFFF_F404_FF44)
    assert not ste.reserved_set
    assert not cd.reserved_set


def test_first_level_descriptors_hold_span_and_pointer() -> None:
    l1std, l1cd = L1STD.decode(0x480A_8009), L1CD.decode(0x480A_8001)

    assert (l1std.SPAN, l1std.L2PTR) == (9, 0x480A_8000)
    assert (l1cd.V, l1cd.L2PTR) == (1, 0x480A_8000)


def test_registers_of_a_recorded_smmu_read_as_it_was_configured() -> None:
    idr0, idr5, config = IDR0.decode(0x0D44_101B), IDR5.decode(0x74), STRTAB_BASE_CFG.decode(0x10210)

    assert (idr0.S1P, idr0.S2P, idr0.TTF, idr0.ASID16, idr0.VMID16) == (1, 1, 2, 1, 1)
    assert (idr0.TTENDIAN, idr0.STALL_MODEL, idr0.TERM_MODEL, idr0.ST_LEVEL) == (2, 1, 1, 1)
    assert (idr5.OAS, idr5.GRAN4K, idr5.GRAN16K, idr5.GRAN64K, idr5.VAX) == (4, 1, 1, 1, 0)
    assert (config.LOG2SIZE, config.SPLIT, config.FMT) == (16, 8, 1)


@pytest.mark.parametrize(("rnw", "doubleword_1"), [(0, 0x200_0000_0000), (1, 0x208_0000_0000)])
def test_an_event_is_encoded_as_worked_out_by_hand(rnw: int, doubleword_1: int) -> None:
    record = TranslationRecord(
        ID=EventId.F_TRANSLATION, SID=0x10, SSV=1, SSID=5, RnW=rnw, CLASS=OperationClass.IN
    ).encode()

    assert int.from_bytes(record[:8], "little") == 0x10_0000_5810
    assert int.from_bytes(record[8:16], "little") == doubleword_1


def test_every_layout_is_offered_by_the_name_that_the_specification_gives_it() -> None:
    assert {"L1STD", "STE", "L1CD", "CD", "IDR0", "STRTAB_BASE_CFG", "F_PERMISSION"} <= set(LAYOUTS)
    assert all(record.width == 256 for record in RECORDS.values())
