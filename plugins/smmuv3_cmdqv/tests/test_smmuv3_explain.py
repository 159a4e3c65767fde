"""Bytes and log lines in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu_smmuv3_cmdqv import driver
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as cmdqv
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId, OperationClass
from viommu_smmuv3_cmdqv.spec.page_requests import PageRequestRecord
from viommu_smmuv3_cmdqv.spec.queue_registers import CMDQ_CONS, GERROR
from viommu_smmuv3_cmdqv.spec.stream_table import STE

if TYPE_CHECKING:
    from viommu.layout import Descriptor

KINDS = driver.viommu_kinds()

EVENT_LINES = """\
{0}arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:
{0}arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000001000005810
{0}arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000020800000000
{0}arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000000dead0000
{0}arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000000000000000"""
OURS, CMDQV = "arm-smmu-v3 a.b: ", "arm-smmu-v3 NVDA200C:00: tegra241_cmdqv: "
EVENT = RECORDS[EventId.F_TRANSLATION](
    ID=EventId.F_TRANSLATION, SID=0x10, SSV=1, SSID=5, RnW=1, CLASS=OperationClass.IN, InputAddr=0xDEAD_0000
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_bytes_of_any_kind_are_explained_and_given_back(kind: str, data: st.DataObject) -> None:
    for size in KINDS[kind]:
        raw = data.draw(st.binary(min_size=size, max_size=size))

        decoded = driver.viommu_decode(kind, raw)

        assert decoded.descriptor.encode() == raw
        assert (decoded.kind, bool(decoded.name), bool(decoded.meaning)) == (kind, True, True)
        assert set(decoded.field_aliases.values()) <= set(decoded.descriptor.fields)


@pytest.mark.parametrize("opcode", CommandOpcode)
def test_every_command_has_a_meaning_of_its_own(opcode: CommandOpcode) -> None:
    decoded = driver.viommu_decode("command", COMMANDS[opcode](Opcode=opcode).encode())

    assert decoded.name == opcode.name
    assert type(decoded.descriptor) is COMMANDS[opcode]


@pytest.mark.parametrize("event", EventId)
def test_every_event_has_a_meaning_and_names_its_causes(event: EventId) -> None:
    decoded = driver.viommu_decode("event", RECORDS[event](ID=event, SID=7).encode())

    assert decoded.name == event.name
    assert "stream 0x7" in decoded.meaning
    assert decoded.causes or event is EventId.E_PAGE_REQUEST
    assert not decoded.complaints


@pytest.mark.parametrize(
    ("opcode", "fields", "meaning"),
    [
        ("TLBI_NH_VA", {"VMID": 1, "ASID": 2, "Address": 0x5000}, "VMID 0x1, ASID 0x2, at 0x5000"),
        (
            "TLBI_NH_VA",
            {"Address": 0x1_1000, "TG": 1, "NUM": 3, "SCALE": 5, "TTL": 3, "Leaf": 1},
            "from 0x11000 to 0x90fff (128 x 4 KB), leaves of level 3, last level only",
        ),
        ("TLBI_S2_IPA", {"VMID": 1, "TG": 3, "NUM": 7, "SCALE": 2}, "from 0x0 to 0x1fffff (32 x 64 KB)"),
        ("CFGI_STE_RANGE", {"SID": 0x15, "Range": 3}, "streams 0x10 to 0x1f"),
        ("CFGI_STE_RANGE", {"Range": 31}, "CFGI_ALL"),
        ("ATC_INV", {"SID": 1, "SSV": 1, "SSID": 2, "Size": 1, "Address": 0x3000}, "0x2000 to 0x3fff"),
        ("ATC_INV", {"SID": 1, "Size": 52}, "everything, of any substream"),
        ("PRI_RESP", {"SID": 1, "PRGIndex": 3, "Resp": 2}, "group 0x3 of stream 0x1: success"),
        ("RESUME", {"SID": 1, "STAG": 3, "Ac": 1, "Ab": 1}, "try it again"),
        ("RESUME", {"SID": 1, "STAG": 3, "Ab": 1}, "end it with an abort"),
        ("SYNC", {"CS": 1, "MSIAddress": 0x1000, "MSIData": 7}, "write 0x7 to 0x1000"),
        ("SYNC", {"CS": 1}, "raise the wired interrupt"),
    ],
)
def test_a_command_says_what_it_reaches(opcode: str, fields: dict[str, int], meaning: str) -> None:
    command = COMMANDS[CommandOpcode[opcode]](Opcode=CommandOpcode[opcode], **fields)

    assert meaning in driver.viommu_decode("command", command.encode()).meaning


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    [
        ("command", COMMANDS[CommandOpcode.SYNC](Opcode=0x46, CS=3).encode(), "CS 0x3 is reserved: CERROR_ILL"),
        ("command", COMMANDS[CommandOpcode.SYNC](Opcode=0x46, SSec=1).encode(), "SSec 1"),
        ("command", COMMANDS[CommandOpcode.TLBI_NH_VA](Opcode=0x12, TG=1).encode(), "NUM, SCALE and TTL all 0"),
        ("command", COMMANDS[CommandOpcode.ATC_INV](Opcode=0x40, Size=60).encode(), "Size 60"),
        ("command", COMMANDS[CommandOpcode.TLBI_EL3_ALL](Opcode=0x18).encode(), "EL3"),
        ("command", (0x46 | 1 << 9 | 0b11 << 126).to_bytes(16, "little"), "reserved bits are set: 127:126, 9"),
        ("ste", STE(V=1, Config=6, S2AA64=1, S2T0SZ=24, S2SL0=1, S2TG=3).encode(), "S2TG"),
        ("ste", STE(V=1, Config=1).encode(), "Config 0x1 is reserved"),
        ("cd", CD(V=1, AA64=1, T0SZ=50, EPD1=1).encode(), "T0SZ 50"),
        ("l1std", (20).to_bytes(8, "little"), "SPAN 20"),
        ("pte-s1-l3", (1).to_bytes(8, "little"), "reserved at level 3"),
        ("event", b"\xff" + bytes(31), "ID 0xff is reserved"),
    ],
)
def test_what_hardware_refuses_is_complained_of(kind: str, value: bytes, complaint: str) -> None:
    assert any(complaint in said for said in driver.viommu_decode(kind, value).complaints)


@pytest.mark.parametrize(
    ("kind", "value", "meaning"),
    [
        ("ste", STE().encode(), "not valid"),
        ("ste", STE(V=1, Config=5, S1ContextPtr=0x4000).encode(), "one CD at 0x4000"),
        ("ste", STE(V=1, Config=7, S1CDMax=3, S1ContextPtr=0x4000).encode(), "8 CDs at IPA 0x4000"),
        (
            "cd",
            CD(V=1, T0SZ=16, EPD1=1, TTB0=0x5000, S=1).encode(),
            "TTB0 at 0x5000 for 48 bits",
        ),
        ("l1std", (0x8000_0009).to_bytes(8, "little"), "256 STEs at 0x80000000"),
        ("l1cd", (0x8000_0001).to_bytes(8, "little"), "CDs at 0x80000000"),
        ("pte-s1-l2", (0x8000_0003).to_bytes(8, "little"), "level-3 table at 0x80000000"),
        ("pte-s1-l2", (0x8000_0401).to_bytes(8, "little"), "maps 2 MB (4K granule) to 0x80000000"),
        ("pte-s2-l3", (0x8000_04C3).to_bytes(8, "little"), "READ_WRITE"),
        ("pte-s2-l3", (0x8000_00C3).to_bytes(8, "little"), "access flag clear"),
        ("pte-s1-l0", bytes(8), "not valid"),
        ("cmdq_cons", CMDQ_CONS(RD=5, ERR=1).encode(), "CERROR_ILL"),
        ("cr0", (5).to_bytes(4, "little"), "SMMUEN, EVTQEN"),
    ],
)
def test_a_structure_says_what_it_does(kind: str, value: bytes, meaning: str) -> None:
    assert meaning in driver.viommu_decode(kind, value).meaning


def test_a_fault_behind_stage_2_names_that_as_its_first_cause() -> None:
    record = EVENT.replace(S2=1, CLASS=OperationClass.TT)

    assert "stage-1 table" in driver.viommu_decode("event", record.encode()).causes[0]


def test_active_errors_name_their_causes() -> None:
    value = GERROR(CMDQ_ERR=1, PRIQ_ABT_ERR=1).encode()

    causes = driver.viommu_decode("gerror", value).causes

    assert [cause.split()[1] for cause in causes] == ["command", "PRI"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (cmdqv.CMDQV_PARAM(VER=1, NUM_VCMDQ_LOG2=7, NUM_VINTF_LOG2=6, NUM_SID_PER_VM_LOG2=4), "64 VINTFs, 128 VCMDQs"),
        (cmdqv.VCMDQ_BASE(ADDR=0x4000, LOG2SIZE=6), "64 commands at 0x4000"),
        (cmdqv.VCMDQ_CONS_INDX(RD=3, ERR=4), "may not use the command"),
        (cmdqv.VINTF_ERR_MAP(VINTFS=0x9), "0, 3"),
        (cmdqv.VINTF_CONFIG(EN=1, VMID=5), "EN, VMID 0x5"),
    ],
)
def test_a_register_of_the_cmdqv_says_what_it_is(value: Descriptor, told: str) -> None:
    decoded = driver.viommu_decode(type(value).__name__.lower(), value.encode())

    assert told in decoded.meaning
    assert not decoded.complaints


def test_errors_of_a_vcmdq_name_their_causes() -> None:
    (cause,) = driver.viommu_decode("vcmdq_gerror", cmdqv.VCMDQ_GERROR(CMDQ_INIT_ERR=1).encode()).causes

    assert "VCMDQ_BASE is wrong" in cause


@pytest.mark.parametrize(
    "prefix",
    ["", "[   12.345678] ", "[Tue Nov 25 21:00:00 2026] ", "Nov 25 21:00:00 host kernel: ", "<3>[    1.0] "],
)
def test_an_event_in_the_kernels_log_is_recognised(prefix: str) -> None:
    assert driver.viommu_log_line(EVENT_LINES.format(prefix)) == ("event", EVENT.encode())


def test_an_event_is_recognised_once_all_its_words_are_there() -> None:
    lines = EVENT_LINES.format("").split("\n")

    assert [driver.viommu_log_line("\n".join(lines[:n])) is not None for n in range(1, 6)] == [False] * 4 + [True]
    bare = [lines[0], *(line.split("\t")[1] for line in lines[1:])]
    assert driver.viommu_log_line("\n".join(bare)) == ("event", EVENT.encode())


@pytest.mark.parametrize(
    ("line", "kind", "raw"),
    [
        (
            "\n".join(
                [f"{OURS}skipping command in error state:", f"{OURS}\t0x0000000000000046", f"{OURS}\t{0x1000:#018x}"]
            ),
            "command",
            (0x1000 << 64 | 0x46).to_bytes(16, "little"),
        ),
        (
            "arm-smmu-v3 a.b: unexpected global error reported (0x00000001), this could be serious",
            "gerror",
            GERROR(CMDQ_ERR=1).encode(),
        ),
        (
            "arm-smmu-v3 a.b: CMDQ error (cons 0x01000022): Illegal command",
            "cmdq_cons",
            CMDQ_CONS(RD=0x22, ERR=1).encode(),
        ),
        (
            "arm-smmu-v3 a.b: \tsid 0x00000010.0x00005: [3L] unprivileged RW access at iova 0x00000000dead0000",
            "page-request",
            PageRequestRecord(
                SID=0x10, SSID=5, SSID_V=1, PRGIndex=3, Last=1, Read=1, Write=1, Address=0xDEAD_0000
            ).encode(),
        ),
        (
            f"{CMDQV}unexpected error reported. vintf_map: {1:016x}, vcmdq_map {0:08x}:{0:08x}:{0:08x}:{2:08x}",
            "cmdqv-error-maps",
            (2 << 64 | 1).to_bytes(24, "little"),
        ),
        (
            f"{CMDQV}VINTF0: VCMDQ1/LVCMDQ1: GERRORN=0x0, GERROR=0x1, CONS=0x1000003",
            "vcmdq-state",
            (0x0100_0003 << 64 | 1 << 32).to_bytes(12, "little"),
        ),
    ],
)
def test_other_lines_of_our_kernel_driver_are_recognised(line: str, kind: str, raw: bytes) -> None:
    assert driver.viommu_log_line(line) == (kind, raw)
    assert driver.viommu_decode(kind, raw).kind == kind


@pytest.mark.parametrize(
    "line",
    [
        "",
        "usb 1-1: event 0x10 received:",
        "DMAR: [DMA Write NO_PASID] Request device [00:02.0] fault addr 0x0 [fault reason 0x71] ...",
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:02.0 domain=0x0 address=0x0 flags=0x0]",
        "arm-smmu-v3 a.b: allocated 65536 entries for cmdq",
        "arm-smmu-v3 a.b: sid 0x00000010.0x00005: [999L] unprivileged R access at iova 0x0000000000000000",
    ],
)
def test_lines_of_others_are_not_ours(line: str) -> None:
    assert driver.viommu_log_line(line) is None


@given(st.text(max_size=300))
def test_any_line_is_taken(line: str) -> None:
    found = driver.viommu_log_line(f"arm-smmu-v3 a: {line}")

    assert found is None or len(found[1]) in KINDS[found[0]]
