"""The layouts, held against bytes that Linux wrote and against the printed tables, quadword by quadword."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from viommu_vtd.spec import LAYOUTS
from viommu_vtd.spec.faults import FRCD, FaultReason
from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.registers import CAP, ECAP, GSTS, RTADDR
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry, ScalableRootEntry

if TYPE_CHECKING:
    from viommu.layout import Descriptor

PRINTED: dict[str, dict[str, tuple[int, int, int]]] = {
    "RootEntry": {"P": (0, 0, 0), "CTP": (0, 63, 12)},
    "ScalableRootEntry": {"LP": (0, 0, 0), "LCTP": (0, 63, 12), "UP": (1, 0, 0), "UCTP": (1, 63, 12)},
    "ContextEntry": {
        "P": (0, 0, 0), "FPD": (0, 1, 1), "TT": (0, 3, 2), "SSPTPTR": (0, 63, 12),
        "AW": (1, 2, 0), "Available": (1, 6, 3), "DID": (1, 23, 8),
    },
    "ScalableContextEntry": {
        "P": (0, 0, 0), "FPD": (0, 1, 1), "DTE": (0, 2, 2), "PASIDE": (0, 3, 3), "PRE": (0, 4, 4),
        "PDTS": (0, 11, 9), "PASIDDIRPTR": (0, 63, 12), "RID_PASID": (1, 19, 0), "RID_PRIV": (1, 20, 20),
    },
    "PasidDirectoryEntry": {"P": (0, 0, 0), "FPD": (0, 1, 1), "SMPTBLPTR": (0, 63, 12)},
    "PasidTableEntry": {
        "P": (0, 0, 0), "FPD": (0, 1, 1), "AW": (0, 4, 2), "PGTT": (0, 8, 6), "SSADE": (0, 9, 9),
        "SSPTPTR": (0, 63, 12), "DID": (1, 15, 0), "PWSNP": (1, 23, 23), "PGSNP": (1, 24, 24),
        "CD": (1, 25, 25), "EMTE": (1, 26, 26), "PAT": (1, 63, 32), "SRE": (2, 0, 0), "FSPM": (2, 3, 2),
        "WPE": (2, 4, 4), "Unused": (2, 6, 5), "EAFE": (2, 7, 7), "FSPTPTR": (2, 63, 12),
    },
    "FRCD": {
        "FI": (0, 63, 12), "SID": (1, 15, 0), "T2": (1, 28, 28), "PRIV": (1, 29, 29), "EXE": (1, 30, 30),
        "PP": (1, 31, 31), "FR": (1, 39, 32), "PASID": (1, 59, 40), "AT": (1, 61, 60), "T": (1, 62, 62),
        "F": (1, 63, 63),
    },
}  # fmt: skip
"""Quadword, high bit and low bit of every field."""


@pytest.mark.parametrize("name", PRINTED)
def test_every_field_lies_where_the_specification_prints_it(name: str) -> None:
    masks = {field: spec.mask for field, spec in LAYOUTS[name].fields.items()}

    assert masks == {
        field: (1 << high + 1) - (1 << low) << 64 * quadword for field, (quadword, high, low) in PRINTED[name].items()
    }


def test_what_no_table_prints_is_reserved() -> None:
    assert RootEntry.reserved_mask == 0xFFFF_FFFF_FFFF_FFFF_0000_0000_0000_0FFE
    assert ContextEntry.reserved_mask == 0xFFFF_FFFF_FF00_0080_0000_0000_0000_0FF0
    assert ScalableContextEntry.reserved_mask & (1 << 128) - 1 == 0xFFFF_FFFF_FFE0_0000_0000_0000_0000_01E0
    assert ScalableContextEntry.reserved_mask >> 128 == (1 << 128) - 1
    assert PasidDirectoryEntry.reserved_mask == 0xFFC
    assert PasidTableEntry.reserved_mask & (1 << 64) - 1 == 0xC20
    assert PasidTableEntry.reserved_mask >> 64 & (1 << 64) - 1 == 0xF87F_0000
    assert PasidTableEntry.reserved_mask >> 128 & (1 << 64) - 1 == 0xF02
    assert PasidTableEntry.reserved_mask >> 192 == (1 << 320) - 1


@pytest.mark.parametrize(
    ("layout", "raw", "fields"),
    [
        (RootEntry, "01708d43010000000000000000000000", {"P": 1, "CTP": 0x1_438D_7000}),
        # The device's mappings are flushed as those of domain 9.
        (
            ContextEntry,
            "0100c144010000000209000000000000",
            {"P": 1, "FPD": 0, "TT": 0, "SSPTPTR": 0x1_44C1_0000, "AW": 2, "Available": 0, "DID": 9},
        ),
        # The next one is passed through, in the domain that Linux keeps for that.
        (
            ContextEntry,
            "09000000000000000201000000000000",
            {"P": 1, "FPD": 0, "TT": 2, "SSPTPTR": 0, "AW": 2, "Available": 0, "DID": 1},
        ),
        (
            ScalableRootEntry,
            "01506b430100000001f06b4301000000",
            {"LP": 1, "LCTP": 0x1_436B_5000, "UP": 1, "UCTP": 0x1_436B_F000},
        ),
        (
            ScalableContextEntry,
            "01e46b4301000000" + "00" * 24,
            {"P": 1, "FPD": 0, "DTE": 0, "PASIDE": 0, "PRE": 0, "PDTS": 2, "PASIDDIRPTR": 0x1_436B_E000,
             "RID_PASID": 0, "RID_PRIV": 0},
        ),
        (PasidDirectoryEntry, "01e06f4301000000", {"P": 1, "FPD": 0, "SMPTBLPTR": 0x1_436F_E000}),
    ],
)  # fmt: skip
def test_structures_that_linux_wrote_decode(layout: type[Descriptor], raw: str, fields: dict[str, int]) -> None:
    entry = layout.decode(bytes.fromhex(raw))

    assert {name: getattr(entry, name) for name in layout.fields} == fields
    assert entry.reserved_set == 0
    assert layout(**fields).encode().hex() == raw


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        ("89a01345010000000900000000000000" + "00" * 48,
         {"P": 1, "AW": 2, "PGTT": 2, "SSPTPTR": 0x1_4513_A000, "DID": 9}),
        ("490000000000000009000000000000000080b54401000000" + "00" * 40,
         {"P": 1, "AW": 2, "PGTT": 1, "DID": 9, "FSPTPTR": 0x1_44B5_8000}),
        ("09010000000000000100000000000000" + "00" * 48, {"P": 1, "AW": 2, "PGTT": 4, "DID": 1}),
    ],
    ids=["second stage", "first stage", "pass-through"],
)  # fmt: skip
def test_pasid_table_entries_that_linux_wrote_decode(raw: str, fields: dict[str, int]) -> None:
    entry = PasidTableEntry.decode(bytes.fromhex(raw))

    assert {name: value for name in PasidTableEntry.fields if (value := getattr(entry, name))} == fields
    assert entry == PasidTableEntry(**fields)


def test_capabilities_read_as_the_recorded_machine_was_configured() -> None:
    cap, ecap = CAP.decode(0x80D2_008C_222F_0606), ECAP.decode(0xF0_0F4E)

    assert (cap.ND, cap.SAGAW, cap.MGAW + 1, cap.FRO << 4, cap.SSLPS) == (6, 0b110, 48, 0x220, 0b11)
    assert (cap.PSI, cap.NFR + 1, cap.MAMV, cap.DWD, cap.DRD, cap.ESRTPS) == (1, 1, 18, 1, 1, 1)
    assert (cap.CM, cap.FL1GP, cap.FL5LP, cap.PI) == (0, 0, 0, 0)
    assert (ecap.QI, ecap.DT, ecap.IR, ecap.PT, ecap.IRO << 4, ecap.MHMV) == (1, 1, 1, 1, 0xF0, 15)
    assert (ecap.C, ecap.SC, ecap.SMTS, ecap.PASID) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("value", "names"), [(0x4800_80F0_0F4E, {"SRS", "SMTS", "SSTS"}), (0x8800_00F0_0F4E, {"SMTS", "FSTS"})]
)
def test_capabilities_of_scalable_mode_read_as_the_recorded_machines_were_configured(
    value: int, names: set[str]
) -> None:
    ecap = ECAP.decode(value)

    assert {name for name in ECAP.fields if ECAP.fields[name].low > 23 and getattr(ecap, name)} == names


def test_status_and_root_register_read_as_recorded() -> None:
    status, root = GSTS.decode(0xC700_0000), RTADDR.decode(0x1_436A_E400)

    assert {name for name in GSTS.fields if getattr(status, name)} == {"TES", "RTPS", "QIES", "IRES", "IRTPS"}
    assert (root.TTM, root.RTA) == (1, 0x1_436A_E000)


def test_a_fault_record_that_was_written_decodes() -> None:
    record = FRCD.decode(bytes.fromhex("00000010630000008800000006000040"))

    assert record == FRCD(FI=0x63_1000_0000, SID=0x88, FR=FaultReason.READ_DENIED, T=1)
    assert record.F == 0  # seen before hardware had set it


def test_reason_codes_are_those_of_the_table() -> None:
    codes = [
        *range(0x01, 0x0F), *range(0x20, 0x2A), *range(0x30, 0x34), 0x38, 0x39, 0x3A, *range(0x40, 0x49), 0x50, 0x51,
        0x52, *range(0x58, 0x5E), *range(0x70, 0x7E), *range(0x80, 0x8A), 0x90, 0x91,
    ]  # fmt: skip

    assert [int(reason) for reason in FaultReason] == codes
