"""Bytes in words: every kind, every command and event, what is wrong with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu_amd_viommu.explain import KINDS, decode
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.spec.commands import COMMANDS, CompletePprRequest, InvalidateIommuPages, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import EVENTS, EventCode, IllegalDevTableEntry, IoPageFault
from viommu_amd_viommu.spec.registers import EFR, BufferBase, Control


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_bytes_of_any_kind_are_explained_and_come_back(kind: str, data: st.DataObject) -> None:
    (size,) = KINDS[kind]
    raw = data.draw(st.binary(min_size=size, max_size=size))

    decoded = decode(kind, raw)

    assert decoded.descriptor.encode() == raw
    assert decoded.kind == kind
    assert decoded.meaning.endswith(".")
    assert "\n" not in decoded.meaning


def test_every_register_is_a_kind_of_its_size() -> None:
    assert {name.lower(): (register.size,) for name, register in REGISTERS.items()}.items() <= KINDS.items()


@pytest.mark.parametrize("opcode", Opcode)
def test_every_command_has_its_name_and_words(opcode: Opcode) -> None:
    decoded = decode("command", COMMANDS[opcode](Opcode=opcode).encode())

    assert decoded.name == opcode.name
    assert decoded.complaints == ()


@pytest.mark.parametrize("code", EventCode)
def test_every_event_has_its_name_words_and_causes(code: EventCode) -> None:
    decoded = decode("event", EVENTS[code](EventCode=code).encode())

    assert decoded.name == code.name
    assert decoded.causes


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        (
            "01802340010000108e4d010000000000",
            "Once every earlier command is done, store 0x14d8e at 0x140238000.",
        ),
        ("00000000140000300040e9ff00000000", "Forget translations of 0xffe94000 to 0xffe94fff for DomainID 0x14."),
        (
            "0500000077000030 07f0ffffffffff7f",
            "Forget translations of all addresses and cached table pointers for PASID 0x5 of DomainID 0x77.",
        ),
        (
            "2301bc202301de4a 0510010000000000",
            "Have device 01:04.3 forget what ATS told it of 0x10000 to 0x13fff of PASID 0xabcde.",
        ),
        ("2301000005000070 0400000042f00000", "Answer page-request group 0x42 of device 01:04.3, PASID 0x5: FAILURE."),
    ],
)
def test_commands_in_words(raw: str, meaning: str) -> None:
    assert decode("command", bytes.fromhex(raw)).meaning == meaning


def test_commands_that_hardware_refuses_are_complained_of() -> None:
    endless = InvalidateIommuPages(Opcode=3, S=1, Address=0xFFFF_FFFF_FFFF_F000)
    odd = CompletePprRequest(Opcode=7, Status=2)

    assert "no size has that encoding" in decode("command", endless.encode()).complaints[0]
    assert "devices see a failure" in decode("command", odd.encode()).complaints[0]
    assert decode("command", bytes(16)).complaints == ("hardware knows no such opcode",)
    assert decode("command", bytes([255] * 7) + b"\x8f" + bytes(8)).complaints[0].startswith("reserved bits are set")


@pytest.mark.parametrize(
    ("fields", "word", "cause"),
    [
        ({}, "no translation is present", "not mapped"),
        ({"GN": 1}, "no translation is present", "not mapped"),
        ({"PR": 1, "PE": 1, "RW": 1}, "grants no such access", "mapped for reading"),
        ({"PR": 1, "PE": 1, "GN": 1, "NX": 1}, "grants no such access", "instruction fetch"),
        ({"PR": 1, "RZ": 1}, "reserved bits", "reserved bits"),
        ({"PR": 1}, "impossible encoding", "NextLevel"),
        ({"I": 1}, "interrupt remapping", "RemapEn=0"),
        ({"I": 1, "PR": 1, "RZ": 1}, "interrupt remapping", "reserved"),
        ({"I": 1, "PR": 1}, "interrupt remapping", "does not allow"),
    ],
)
def test_page_faults_are_told_by_their_flags(fields: dict[str, int], word: str, cause: str) -> None:
    decoded = decode("event", IoPageFault(EventCode=2, DeviceID=0x123, Address=0x1234, **fields).encode())

    assert word in decoded.meaning
    assert "01:04.3" in decoded.meaning
    assert cause in decoded.causes[0]


def test_a_missing_gcr3_entry_is_a_cause_for_pasids_alone() -> None:
    without, with_pasid = (decode("event", IoPageFault(EventCode=2, GN=gn).encode()) for gn in (0, 1))

    assert any("GCR3" in cause for cause in with_pasid.causes)
    assert not any("GCR3" in cause for cause in without.causes)


def test_an_illegal_entry_is_told_by_rz() -> None:
    level, reserved = (decode("event", IllegalDevTableEntry(EventCode=1, RZ=rz).encode()) for rz in (0, 1))

    assert "level" in level.causes[0]
    assert "reserved bits" in reserved.causes[0]


@pytest.mark.parametrize(
    ("fields", "meaning"),
    [
        ({}, "passes untranslated"),
        ({"V": 1}, "is blocked"),
        ({"V": 1, "TV": 1, "IR": 1}, "passes untranslated, in DomainID 0x0, with reads allowed"),
        ({"V": 1, "TV": 1, "Mode": 3, "HostPageTableRoot": 0x5000}, "3-level host tables at 0x5000"),
        ({"V": 1, "TV": 1, "GV": 1, "GIOV": 1, "GCR3": 0x6000, "Mode": 4}, "GCR3 tables at 0x6000, PASID 0"),
    ],
)
def test_device_table_entries_in_words(fields: dict[str, int], meaning: str) -> None:
    decoded = decode("dte", DTE(**fields).encode())

    assert meaning in decoded.meaning
    assert decoded.complaints == ()


def test_encodings_that_hardware_refuses_are_complained_of() -> None:
    entry = DTE(V=1, TV=1, IV=1, Mode=7, HAD=2, GV=1, GLX=3, GuestPagingMode=2, IntCtl=3, IoCtl=3)
    raw = (int(entry) | 1 << 2).to_bytes(32, "little")

    told = " ".join(decode("dte", raw).complaints)

    for word in ("reserved bits", "Mode 7", "HAD 2", "GLX 3", "GuestPagingMode 2", "IntCtl 3", "IoCtl 3"):
        assert word in told


def test_the_upper_half_of_an_entry_is_not_checked_without_iv() -> None:
    raw = (int(DTE(V=1)) | 1 << 180).to_bytes(32, "little")

    assert decode("dte", raw).complaints == ()


@pytest.mark.parametrize(
    ("kind", "value", "meaning"),
    [
        ("pte-v1", 0x1234, "Not present."),
        ("pte-v1", 0x5000 | 1 | 1 << 61, "A page of its level's own size at 0x5000, granting reads."),
        ("pte-v1", 0x17000 | 7 << 9 | 1 | 3 << 61, "A page of 0x10000 bytes at 0x10000, granting reads and writes."),
        ("pte-v1", 0x6000 | 2 << 9 | 1, "Leads to the level 2 table at 0x6000, granting no access there."),
        ("pte-v2-level-1", 0x5003, "A page of 0x1000 bytes at 0x5000, granting the supervisor reads and writes."),
        ("pte-v2-level-2", 0x20_0085, "A page of 0x200000 bytes at 0x200000, granting anybody reads."),
        ("pte-v2-level-4", 0x6007, "Leads to the level 3 table at 0x6000, granting anybody reads and writes there."),
        ("gcr3-entry", 0, "Not valid: the PASIDs behind it have no guest tables."),
    ],
)
def test_table_entries_in_words(kind: str, value: int, meaning: str) -> None:
    assert decode(kind, value.to_bytes(8, "little")).meaning == meaning


def test_reserved_bits_of_table_entries_are_complained_of() -> None:
    assert decode("pte-v1", (1 | 1 << 52).to_bytes(8, "little")).complaints
    assert decode("pte-v2-level-4", (1 | 1 << 7).to_bytes(8, "little")).complaints
    assert decode("pte-v2-level-2", (1 | 1 << 7 | 1 << 13).to_bytes(8, "little")).complaints


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    [
        ("control", int(Control(DevTblSegEn=5)), "DevTblSegEn 5"),
        ("control", int(Control(DualEventLogEn=3)), "DualEventLogEn 3"),
        ("control", 1 << 49, "reserved bits"),
        ("efr", int(EFR(HATS=3)), "HATS 3"),
        ("cmdbase", int(BufferBase(Length=3)), "Length 3"),
    ],
)
def test_register_values_that_no_hardware_takes_are_complained_of(kind: str, value: int, complaint: str) -> None:
    assert complaint in decode(kind, value.to_bytes(8, "little")).complaints[0]


def test_registers_name_what_is_set() -> None:
    decoded = decode("control", int(Control(IommuEn=1, InvTimeOut=4)).to_bytes(8, "little"))

    assert decoded.meaning == "IOMMU Control Register (0x18); set: IommuEn, InvTimeOut S_1."
    assert decode("status", bytes(8)).meaning.endswith("nothing is set.")
