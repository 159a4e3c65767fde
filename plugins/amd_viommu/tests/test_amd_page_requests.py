"""Page requests: the PPR log, its overflow and warnings, automatic responses, refusals (AMD 48882, 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.amd_viommu.tests.programmed import DEVICE, FEATURES, HOLE, PPRS, Programmed
from viommu import Access
from viommu.platform import ResponseCode
from viommu_amd_viommu.spec.commands import CompletePprRequest, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import EventCode, InvalidPprRequest
from viommu_amd_viommu.spec.registers import BufferBase, DeviceTableBase

if TYPE_CHECKING:
    from viommu.devices import Device

READ, WRITE = Access.READ, Access.WRITE


@pytest.fixture
def machine() -> Programmed:
    made = Programmed().start()
    made.device(PPR=1, GPRP=1)
    return made


@pytest.fixture
def device(machine: Programmed) -> Device:
    return machine.machine.device(DEVICE)


def fill(machine: Programmed, log: str = "PPR") -> None:
    machine.write(f"{log}HEAD", 16)


def codes(device: Device) -> list[tuple[int | None, int, ResponseCode]]:
    return [(one.pasid, one.group, one.code) for one in device.responses]


def test_a_request_is_written_at_the_tail_and_interrupts(machine: Programmed, device: Device) -> None:
    device.request_page(0x7FFF_1234_5678, READ | WRITE, pasid=0xA_BCDE, group=0x42)

    assert machine.memory.read(PPRS, 16) == bytes.fromhex("2301debc 422a6411 005034 12ff7f0000".replace(" ", ""))
    assert machine.read("PPRTAIL") == 16
    assert [(one.source, one.data) for one in machine.interrupts] == [("PPR log", 0x4041)]
    assert codes(device) == []


def test_a_request_says_what_it_wants(machine: Programmed, device: Device) -> None:
    device.request_page(0x1000, Access.EXECUTE | Access.PRIVILEGED, group=1, last=False)
    device.request_page(0x2000, WRITE, pasid=7, group=1)

    first, second = machine.page_requests()

    assert (first.EXEC, first.READ, first.WRITE, first.US, first.GN, first.Tag) == (1, 0, 0, 0, 0, 1)
    assert (second.EXEC, second.READ, second.WRITE, second.US, second.GN, second.PASID) == (0, 0, 1, 1, 1, 7)
    assert (second.Tag, second.Type, second.Address) == (0x201, 1, 0x2000)


def test_software_answers_a_group(machine: Programmed, device: Device) -> None:
    device.request_page(0x1000, READ, pasid=7, group=3)
    (entry,) = machine.page_requests()

    machine.submit(
        CompletePprRequest(
            Opcode=Opcode.COMPLETE_PPR_REQUEST, DeviceID=entry.DeviceID, PASID=entry.PASID, GN=1, Tag=entry.Tag & 0x1FF
        )
    )

    assert codes(device) == [(7, 3, ResponseCode.SUCCESS)]


@pytest.mark.parametrize("length", range(8, 16))
def test_a_log_of_every_size_wraps_fills_and_overflows(length: int) -> None:
    machine = Programmed(length).start()
    machine.device(PPR=1)
    device = machine.machine.device(DEVICE)
    machine.write("PPRTAIL", machine.queue_bytes - 32)
    machine.write("PPRHEAD", 32)

    for page in range(4):
        device.request_page(page << 12, READ, group=page)

    assert (machine.read("PPRTAIL"), machine.status.PPROverflow, machine.status.PPRRun) == (16, 1, 0)
    assert codes(device) == []  # nobody answers what was lost: the device's own time-out ends it
    machine.write("PPRHEAD", machine.queue_bytes - 32)
    assert [entry.Address >> 12 for entry in machine.page_requests()] == [0, 1, 2]


def test_a_log_that_overflowed_is_restarted_by_software(machine: Programmed, device: Device) -> None:
    fill(machine)
    device.request_page(0x1000, READ, group=1)
    machine.write("PPRHEAD", 0)
    device.request_page(0x2000, READ, group=2)
    assert machine.page_requests() == []

    machine.switch(PPRLogEn=0)
    machine.write("STATUS", 1 << 5)
    machine.switch(PPRLogEn=1)
    device.request_page(0x3000, READ, group=3)

    assert [entry.Address for entry in machine.page_requests()] == [0x3000]


def test_an_overflow_interrupts(machine: Programmed, device: Device) -> None:
    fill(machine)

    device.request_page(0x1000, READ, group=1)

    assert machine.status.PPROverflow
    assert [one.source for one in machine.interrupts] == ["PPR log overflow"]


def test_hardware_answers_what_the_log_cannot_take(machine: Programmed, device: Device) -> None:
    machine.write("PPRAUTORSP", 1)
    machine.switch(PPRAutoRspEn=1)
    device.request_page(0x1000, READ, pasid=7, group=1)
    fill(machine)
    machine.write("PPRTAIL", 0)

    device.request_page(0x2000, READ, pasid=7, group=2, last=False)
    assert codes(device) == []
    device.request_page(0x3000, READ, pasid=7, group=2)

    assert codes(device) == [(7, 2, ResponseCode.INVALID)]


@pytest.mark.parametrize(
    ("value", "gprp", "expected"),
    [
        (0x0, 1, (7, ResponseCode.SUCCESS)),
        (0xF, 1, (7, ResponseCode.FAILURE)),
        (0x10, 1, (None, ResponseCode.SUCCESS)),
        (0x0, 0, (None, ResponseCode.SUCCESS)),
    ],
)
def test_always_on_automatic_responses_log_nothing(
    machine: Programmed, device: Device, value: int, gprp: int, expected: tuple[int | None, ResponseCode]
) -> None:
    machine.device(PPR=1, GPRP=gprp)
    machine.write("PPRAUTORSP", value)
    machine.switch(PPRAutoRspEn=1, PPRAutoRspAon=1)

    device.request_page(0x1000, READ, pasid=7, group=1)

    assert [(pasid, code) for pasid, _, code in codes(device)] == [expected]
    assert machine.page_requests() == []


def test_hardware_warns_before_the_log_is_full(machine: Programmed, device: Device) -> None:
    machine.write("PPREARLY", 1 << 31 | 1 << 30 | 2)

    device.request_page(0x1000, READ, group=1)
    assert not machine.status.PPROverflowEarly
    device.request_page(0x2000, READ, group=2)

    assert machine.status.PPROverflowEarly
    assert [one.source for one in machine.interrupts] == ["PPR log", "PPR log nearly full"]


@pytest.mark.parametrize(("value", "feature"), [(1 << 30 | 1, 1), (1 << 31 | 1 << 30 | 1, 0)])
def test_hardware_that_is_not_asked_or_not_able_does_not_warn(value: int, feature: int) -> None:
    machine = Programmed(features=FEATURES | {"PPROverflowEarly": feature}).start()
    machine.device(PPR=1)
    machine.write("PPREARLY", value)

    machine.machine.device(DEVICE).request_page(0x1000, READ, group=1)

    assert not machine.status.PPROverflowEarly


def test_the_second_log_takes_over_when_the_first_is_full(machine: Programmed, device: Device) -> None:
    machine.switch(DualPPRLogEn=2)
    machine.write("PPREARLYB", 1 << 31 | 1)
    fill(machine)

    device.request_page(0x1000, READ, group=1)

    status = machine.status
    assert (status.PPROverflow, status.PPRActive, status.PPRRun, status.PPROverflowEarlyB) == (1, 1, 1, 1)
    assert [entry.Address for entry in machine.page_requests("PPRB")] == [0x1000]


def test_a_log_in_a_hole_halts_and_loses_the_request(machine: Programmed, device: Device) -> None:
    machine.write("PPRBASE", int(BufferBase(Base=HOLE, Length=8)))

    device.request_page(0x1000, READ, group=1)

    assert (machine.read("PPRTAIL"), machine.status.PPRRun, machine.status.PPROverflow) == (0, 0, 0)


@pytest.mark.parametrize("fields", [{"PPR": 0}, {"V": 0, "PPR": 1}])
def test_a_device_that_may_not_ask_is_told_so(machine: Programmed, device: Device, fields: dict[str, int]) -> None:
    machine.device(**fields)

    device.request_page(0x1234, READ, pasid=0xA_BCDE, group=1, last=False)
    device.request_page(0x5678, WRITE, pasid=0xA_BCDE, group=1)

    first, second = machine.events()
    assert isinstance(first, InvalidPprRequest)
    assert isinstance(second, InvalidPprRequest)
    assert (first.DeviceID, first.PASID, first.Tag, first.READ, first.GN) == (DEVICE, 0xA_BCDE, 1, 1, 1)
    assert (second.Tag, second.WRITE, second.Address) == (0x201, 1, 0x5678)
    assert codes(device) == [(0xA_BCDE, 1, ResponseCode.INVALID)]
    assert machine.page_requests() == []


def test_no_device_may_ask_where_page_requests_are_off(machine: Programmed, device: Device) -> None:
    machine.switch(PPREn=0)

    device.request_page(0x1000, READ, group=1)

    assert [event.EventCode for event in machine.events()] == [EventCode.INVALID_PPR_REQUEST]


def test_a_request_of_a_device_with_a_bad_entry_tells_of_the_entry(machine: Programmed, device: Device) -> None:
    assert machine.memory.write(
        machine.read("DEVTAB") // 4096 * 4096 + DEVICE * 32, (int(DTE(V=1, PPR=1)) | 1 << 3).to_bytes(32, "little")
    )
    device.request_page(0x1000, READ, group=1)
    machine.write("DEVTAB", int(DeviceTableBase(Base=HOLE, Size=0xFF)))
    device.request_page(0x1000, READ, group=2)
    machine.write("DEVTAB", int(DeviceTableBase(Base=HOLE)))
    device.request_page(0x1000, READ, group=3)

    assert [event.EventCode for event in machine.events()] == [
        EventCode.ILLEGAL_DEV_TABLE_ENTRY,
        EventCode.DEV_TAB_HW_ERROR,
        EventCode.ILLEGAL_DEV_TABLE_ENTRY,
    ]
    assert [code for _, _, code in codes(device)] == [ResponseCode.INVALID] * 3


def test_an_iommu_that_is_off_logs_nothing(machine: Programmed, device: Device) -> None:
    machine.switch(IommuEn=0)

    device.request_page(0x1000, READ, group=1)

    assert (machine.events(), machine.page_requests()) == ([], [])
    assert codes(device) == [(None, 1, ResponseCode.INVALID)]


def test_page_request_interrupts_have_a_message_of_their_own() -> None:
    machine = Programmed(vectors=2 << 27 | 1).start()
    machine.device(PPR=1)
    machine.write("MSICAP", 1 << 16 | 3 << 20)
    device = machine.machine.device(DEVICE)
    device.request_page(0x1000, READ, group=1)
    machine.write("STATUS", 1 << 6)
    machine.write("XTPPRINT", 0x77 << 32 | 5 << 8)
    machine.switch(XTEn=1, IntCapXTEn=1)

    device.request_page(0x2000, READ, group=2)

    assert [(one.address, one.data) for one in machine.interrupts] == [(0xFEE0_0000, 0x4042), (0xFEE0_5000, 0x77)]
