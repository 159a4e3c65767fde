"""Layouts against a second source: what a real kernel wrote, worked encodings, and the printed quadwords."""

from __future__ import annotations

import pytest

from viommu_amd_viommu.spec.device_table import DTE, HostAccessDirty, InterruptControl
from viommu_amd_viommu.spec.events import (
    EventCode,
    IllegalDevTableEntry,
    InvalidPprRequest,
    IoPageFault,
    PageTabHardwareError,
    decode_event,
)
from viommu_amd_viommu.spec.gcr3 import GCR3Entry
from viommu_amd_viommu.spec.registers import EFR, BufferBase, Control, DeviceTableBase, HostLevels, InvalidationTimeout

PRINTED_DTE = {
    "V": (0, 0, 0),
    "TV": (0, 1, 1),
    "HAD": (0, 8, 7),
    "Mode": (0, 11, 9),
    "HostPageTableRoot": (0, 51, 12),
    "PPR": (0, 52, 52),
    "GPRP": (0, 53, 53),
    "GIOV": (0, 54, 54),
    "GV": (0, 55, 55),
    "GLX": (0, 57, 56),
    "IR": (0, 61, 61),
    "IW": (0, 62, 62),
    "DomainID": (1, 15, 0),
    "I": (1, 32, 32),
    "SE": (1, 33, 33),
    "SA": (1, 34, 34),
    "IoCtl": (1, 36, 35),
    "Cache": (1, 37, 37),
    "SD": (1, 38, 38),
    "EX": (1, 39, 39),
    "SysMgt": (1, 41, 40),
    "SATS": (1, 42, 42),
    "IV": (2, 0, 0),
    "IntTabLen": (2, 4, 1),
    "IG": (2, 5, 5),
    "IntTableRoot": (2, 51, 6),
    "GuestPagingMode": (2, 55, 54),
    "INITPass": (2, 56, 56),
    "EIntPass": (2, 57, 57),
    "NMIPass": (2, 58, 58),
    "HPTMode": (2, 59, 59),
    "IntCtl": (2, 61, 60),
    "Lint0Pass": (2, 62, 62),
    "Lint1Pass": (2, 63, 63),
    "vImuEn": (3, 15, 15),
    "GuestDeviceID": (3, 31, 16),
    "GuestID": (3, 47, 32),
    "SoftwareAvailable": (3, 53, 53),
    "AttrV": (3, 54, 54),
    "Mode0FC": (3, 55, 55),
    "SnoopAttr": (3, 63, 56),
}
"""(quadword, high, low), as printed."""


def quadwords(*words: int) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in words)


def test_a_dte_that_linux_wrote_says_what_linux_meant() -> None:
    entry = DTE.decode(quadwords(0x6000_0001_40F7_F603, 0x3, 0x2000_0001_408F_A013, 0))

    assert (entry.V, entry.TV, entry.IR, entry.IW, entry.GV) == (1, 1, 1, 1, 0)
    assert (entry.Mode, entry.HostPageTableRoot, entry.DomainID) == (3, 0x1_40F7_F000, 3)
    assert (entry.IV, entry.IntTabLen, entry.IntCtl) == (1, 9, InterruptControl.REMAP)
    assert entry.IntTableRoot == 0x1_408F_A000
    assert entry.HAD is HostAccessDirty.NONE
    assert entry.reserved_set == 0


@pytest.mark.parametrize("name", PRINTED_DTE)
def test_a_dte_field_covers_its_printed_bits_and_no_others(name: str) -> None:
    quadword, high, low = PRINTED_DTE[name]

    assert DTE.fields[name].mask == ((1 << high - low + 1) - 1) << 64 * quadword + low


def test_the_printed_fields_and_gcr3_are_all_there_is_in_a_dte() -> None:
    assert set(DTE.fields) == {*PRINTED_DTE, "GCR3"}
    reserved = DTE.reserved_mask
    assert [reserved >> 64 * q & (1 << 64) - 1 for q in range(4)] == [
        1 << 63 | 0x7C,
        0,
        3 << 52,
        0x1F << 48 | 0x7FFF,
    ]


def test_the_gcr3_root_is_split_over_three_places() -> None:
    raw = int(DTE(GCR3=0x0001_2345_6789_A000))
    q0, q1 = raw & (1 << 64) - 1, raw >> 64 & (1 << 64) - 1

    assert q0 >> 58 & 7 == 2
    assert q1 >> 16 & 0xFFFF == 0xCF13
    assert q1 >> 43 == 0x2468A
    assert DTE.decode(raw).GCR3 == 0x0001_2345_6789_A000


def test_a_gcr3_entry_holds_a_page_address_and_ignores_the_rest() -> None:
    assert int(GCR3Entry(V=1, Address=0x1234_5000)) == 0x1234_5001
    assert GCR3Entry.reserved_mask == 0


def test_the_registers_that_a_running_linux_left() -> None:
    control, features = Control.decode(0xC_0000_0003_148F), EFR.decode(0x29D7)
    table, buffer = DeviceTableBase.decode(0x100_000F), BufferBase.decode(0x0900_0001_4023_A000)

    assert (control.IommuEn, control.EventLogEn, control.CmdBufEn, control.GTEn, control.XTEn) == (1, 1, 1, 1, 1)
    assert control.InvTimeOut == InvalidationTimeout.S_1
    assert control.reserved_set == 0
    assert (features.HATS, features.GT, features.GLX, features.NX) == (HostLevels.LEVELS_6, 1, 0, 0)
    assert (table.Base, table.Size) == (0x100_0000, 0xF)
    assert (buffer.Base, buffer.Length) == (0x1_4023_A000, 9)


def test_the_reserved_bits_of_control_are_those_listed() -> None:
    assert Control.reserved_mask == 0xF << 18 | 1 << 49 | 1 << 57


@pytest.mark.parametrize(
    ("flag", "bit"),
    {"GN": 16, "NX": 17, "US": 18, "I": 19, "PR": 20, "RW": 21, "PE": 22, "RZ": 23, "TR": 24}.items(),
)
def test_a_page_fault_flag_has_its_bit_in_the_second_dword(flag: str, bit: int) -> None:
    assert IoPageFault.fields[flag].mask == 1 << 32 + bit


def test_a_page_fault_record_in_memory_order() -> None:
    record = IoPageFault(EventCode=EventCode.IO_PAGE_FAULT, DeviceID=0x0123, DomainIDOrPASID=0x77, PR=1, PE=1, RW=1,
                         Address=0x1122_3344_5566_7788)  # fmt: skip

    assert record.encode() == bytes.fromhex("23010000 77007020 8877665544332211")


def test_addresses_of_events_drop_the_bits_that_other_fields_may_have() -> None:
    assert IllegalDevTableEntry.fields["Address"].shift == 2
    assert PageTabHardwareError.fields["Address"].shift == 3


def test_events_decode_by_their_own_code() -> None:
    raw = InvalidPprRequest(EventCode=EventCode.INVALID_PPR_REQUEST, DeviceID=8, PASID=0xA5432, Tag=3).encode()

    event = decode_event(raw)

    assert isinstance(event, InvalidPprRequest)
    assert int.from_bytes(raw[:4], "little") == 0x5432_0008
    assert int.from_bytes(raw[4:8], "little") == 0x9 << 28 | 0xA << 10 | 3
    assert event.PASID == 0xA5432


def test_an_event_of_an_unknown_code_still_decodes() -> None:
    assert decode_event(bytes(7) + b"\xf0" + bytes(8)).EventCode == 0xF
