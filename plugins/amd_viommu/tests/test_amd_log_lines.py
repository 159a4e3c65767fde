"""Kernel log lines: what Linux's driver prints becomes the bytes that hardware had logged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu_amd_viommu.explain import KINDS, decode, recognised
from viommu_amd_viommu.spec.events import EventCode

EVENT = "AMD-Vi: Event logged "
DTE_DUMP = "\n".join(
    f"AMD-Vi: DTE[{number}]: {word}"
    for number, word in enumerate(("6190000000000003", "0000100103fc0009", "2000000200200013", "0000000000000000"))
)


def fields(line: str) -> dict[str, int]:
    """What is set in the event that a line tells of."""
    found = recognised(line)
    assert found is not None, line
    kind, raw = found
    assert kind == "event"
    decoded = decode(kind, raw)
    assert decoded.complaints == ()
    event = decoded.descriptor
    return {name: int(spec.take(int(event))) for name, spec in event.fields.items() if spec.take(int(event))}


@pytest.mark.parametrize(
    "prefix",
    ["", "[    3.141592] ", "Nov 25 21:00:00 host kernel: ", "pcieport 0000:00:01.1: ", "<3>[1.0] iommu ivhd0: "],
)
def test_a_page_fault_with_its_device(prefix: str) -> None:
    line = f"{prefix}{EVENT}[IO_PAGE_FAULT device=0000:01:04.3 domain=0x0077 address=0xfd201234 flags=0x0070]"

    assert fields(line) == {
        "DeviceID": 0x123,
        "DomainIDOrPASID": 0x77,
        "EventCode": 2,
        "Address": 0xFD20_1234,
        "PR": 1,
        "RW": 1,
        "PE": 1,
    }


def test_a_page_fault_that_is_logged_for_a_device() -> None:
    line = f"nvme 0000:01:04.3: {EVENT}[IO_PAGE_FAULT domain=0xabcde address=0x1000 flags=0x0001]"

    told = fields(line)

    assert (told["DeviceID"], told["PASIDHigh"], told["DomainIDOrPASID"], told["GN"]) == (0x123, 0xA, 0xBCDE, 1)


def test_a_page_fault_of_an_older_kernel_without_segment() -> None:
    assert fields(f"{EVENT}[IO_PAGE_FAULT device=01:04.3 domain=0x0001 address=0x0 flags=0x0]")["DeviceID"] == 0x123


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        (
            "ILLEGAL_DEV_TABLE_ENTRY device=0000:01:04.3 pasid=0xabcde address=0x5000 flags=0x0080",
            EventCode.ILLEGAL_DEV_TABLE_ENTRY,
            {"PASID": 0xA_BCDE, "Address": 0x5000, "RZ": 1},
        ),
        (
            "DEV_TAB_HARDWARE_ERROR device=0000:01:04.3 address=0x70002460 flags=0x0200",
            EventCode.DEV_TAB_HW_ERROR,
            {"Address": 0x7000_2460, "Type": 1},
        ),
        (
            "PAGE_TAB_HARDWARE_ERROR device=0000:01:04.3 pasid=0x0077 address=0x70000008 flags=0x0220",
            EventCode.PAGE_TAB_HW_ERROR,
            {"DomainIDOrPASID": 0x77, "Address": 0x7000_0008, "Type": 1, "RW": 1},
        ),
        (
            "IOTLB_INV_TIMEOUT device=0000:01:04.3 address=0x100e0a490",
            EventCode.IOTLB_INV_TIMEOUT,
            {"Address": 0x1_00E0_A490},
        ),
        (
            "INVALID_DEVICE_REQUEST device=0000:01:04.3 pasid=0x00005 address=0xfffffffdf8000000 flags=0x0b01",
            EventCode.INVALID_DEVICE_REQUEST,
            {"PASID": 5, "Address": 0xFFFF_FFFD_F800_0000, "Type": 5, "TR": 1, "GN": 1},
        ),
        (
            "INVALID_PPR_REQUEST device=0000:01:04.3 pasid=0xabcde address=0x7f0000001000 flags=0x0104 tag=0x242",
            EventCode.INVALID_PPR_REQUEST,
            {"PASID": 0xA_BCDE, "Address": 0x7F00_0000_1000, "Tag": 0x242, "READ": 1, "GN": 1},
        ),
        (
            "RMP_PAGE_FAULT device=0000:01:04.3, vmg_tag=0x0012, gpa=0x5000, flags_rmp=0x0003, flags=0x0020",
            EventCode.RMP_FAULT,
            {"VMGTag": 0x12, "Address": 0x5000, "RMPFlags": 3, "Flags": 0x20},
        ),
        (
            "RMP_HW_ERROR device=0000:01:04.3, vmg_tag=0x0012, spa=0x5000, flags=0x0020",
            EventCode.RMP_HW_ERROR,
            {"VMGTag": 0x12, "Address": 0x5000, "Flags": 0x20},
        ),
    ],
)
def test_events_of_a_device(text: str, code: EventCode, expected: dict[str, int]) -> None:
    assert fields(f"{EVENT}[{text}]") == {"DeviceID": 0x123, "EventCode": code, **expected}


def test_the_type_of_an_invalid_request_tells_what_its_address_tells() -> None:
    """A line that machines really log: 0xfd_f8000000 is HyperTransport's interrupt range."""
    line = f"{EVENT}[INVALID_DEVICE_REQUEST device=0000:00:00.0 pasid=0x00000 address=0xfffffffdf8000000 flags=0x0a00]"
    found = recognised(line)
    assert found is not None

    assert decode(*found).meaning.endswith("that it may not: reserved interrupt range.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ILLEGAL_COMMAND_ERROR address=0x100123450", {"EventCode": 5, "Address": 0x1_0012_3450}),
        ("COMMAND_HARDWARE_ERROR address=0x7000 flags=0x0400", {"EventCode": 6, "Address": 0x7000, "Type": 2}),
    ],
)
def test_events_of_the_command_buffer(text: str, expected: dict[str, int]) -> None:
    assert fields(f"{EVENT}[{text}]") == expected


def test_an_unknown_event_is_taken_by_its_words() -> None:
    line = f"{EVENT}[UNKNOWN event[0]=0x00000123 event[1]=0xf0000077 event[2]=0x00001000 event[3]=0x00000001]"

    assert recognised(line) == ("event", bytes.fromhex("23010000 770000f0 00100000 01000000"))


def test_the_names_that_the_kernel_logs_are_aliases() -> None:
    found = recognised(f"{EVENT}[PAGE_TAB_HARDWARE_ERROR device=0000:01:04.3 pasid=0x0 address=0x0 flags=0x0]")
    assert found is not None

    assert decode(*found).aliases == ("PAGE_TAB_HARDWARE_ERROR",)


def test_a_dumped_device_table_entry() -> None:
    assert recognised(DTE_DUMP) == (
        "dte",
        bytes.fromhex("0300000000009061 0900fc0301100000 1300200002000020 0000000000000000"),
    )


def test_a_part_of_a_dump_is_nothing_yet() -> None:
    assert recognised(DTE_DUMP.rpartition("\n")[0]) is None


def test_a_dumped_command() -> None:
    words = ("00000001", "10000000", "00000002", "00000000")

    found = recognised("\n".join(f"AMD-Vi: CMD[{number}]: {word}" for number, word in enumerate(words)))

    assert found == ("command", bytes.fromhex("01000000 00000010 02000000 00000000"))


def test_extended_features() -> None:
    found = recognised("[    0.5] AMD-Vi: Extended features (0x246577efa2254afa, 0x10): PPR NX GT [5] IA GA PC")

    assert found == ("efr", (0x2465_77EF_A225_4AFA).to_bytes(8, "little"))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x06]",
        "arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:",
        "AMD-Vi: Completion-Wait loop timed out",
        "AMD-Vi: Event logged [SOMETHING_ELSE device=0000:00:00.0]",
        "AMD-Vi: Event logged [UNKNOWN event[0]=0x00000123]",
        "Event logged [IO_PAGE_FAULT domain=0x0 address=0x0 flags=0x0]",
    ],
)
def test_other_lines_are_nobody_s(line: str) -> None:
    assert recognised(line) is None


PIECES = (
    *(
        "AMD-Vi: ",
        "Event logged [",
        "IO_PAGE_FAULT",
        "INVALID_PPR_REQUEST",
        "UNKNOWN event[0]=",
        "DTE[0]: ",
        "CMD[3]: ",
    ),
    *(" device=", "01:1f.7", " pasid=", " address=", " flags=", " tag=", "0x", "0xffff", "f" * 16, "f" * 17, "]", "\n"),
)


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=24).map("".join))
def test_any_text_is_a_kind_of_ours_or_nothing(line: str) -> None:
    found = recognised(line)

    assert found is None or len(found[1]) in KINDS[found[0]]
