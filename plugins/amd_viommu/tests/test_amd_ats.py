"""Device TLBs: who may use ATS, how translation requests end, what translated accesses are let through."""

from __future__ import annotations

import pytest

from plugins.amd_viommu.tests.programmed import DEVICE, HOLE, HOST_PAGE, Programmed
from viommu import Access, Fault, Translation
from viommu.platform import Completion
from viommu_amd_viommu.spec.commands import InvalidateIotlbPages, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import (
    DevTabHardwareError,
    EventCode,
    IllegalDevTableEntry,
    InvalidDeviceRequest,
    PageTabHardwareError,
)
from viommu_amd_viommu.spec.registers import DeviceTableBase


@pytest.fixture
def machine() -> Programmed:
    return Programmed().start()


def event_codes(machine: Programmed) -> list[int]:
    return [event.EventCode for event in machine.events()]


def test_a_device_keeps_what_it_was_told_until_it_is_invalidated(machine: Programmed) -> None:
    table = machine.host(I=1)
    machine.store(table + 8, 0x5000 | HOST_PAGE)
    device = machine.machine.device(DEVICE)
    assert isinstance(device.translate(0x1234, Access.WRITE), Translation)
    machine.store(table + 8, 0)

    stale = device.translate(0x1234, Access.WRITE)
    assert isinstance(stale, Translation)
    assert stale.pa == 0x5234
    machine.machine.translator.invalidate_all()
    machine.submit(InvalidateIotlbPages(Opcode=Opcode.INVALIDATE_IOTLB_PAGES, DeviceID=DEVICE, Address=0x1000))

    assert device.translate(0x1234, Access.WRITE) is Completion.NO_ACCESS


def test_a_translation_request_that_would_fault_logs_nothing(machine: Programmed) -> None:
    machine.host(I=1)

    assert machine.machine.request_translation(DEVICE, 0x1000) is Completion.NO_ACCESS

    assert event_codes(machine) == []


def test_a_blocked_device_is_told_nothing_more_either(machine: Programmed) -> None:
    machine.device(TV=0)

    assert machine.machine.request_translation(DEVICE, 0x1000) is Completion.NO_ACCESS
    assert event_codes(machine) == []


def test_a_device_without_ats_may_not_ask(machine: Programmed) -> None:
    machine.host()

    assert machine.machine.request_translation(DEVICE, 0x1234, pasid=None) is Completion.UNSUPPORTED_REQUEST

    (event,) = machine.events()
    assert isinstance(event, InvalidDeviceRequest)
    assert (event.DeviceID, event.TR, event.Type, event.Address) == (DEVICE, 1, 1, 0x1234)


def test_a_device_without_ats_may_not_send_translated_accesses(machine: Programmed) -> None:
    machine.host()

    outcome = machine.machine.send_translated(DEVICE, 0x5000, pasid=7)

    assert isinstance(outcome, Fault)
    (event,) = machine.events()
    assert isinstance(event, InvalidDeviceRequest)
    assert (event.TR, event.Type, event.GN, event.PASID, event.Address) == (0, 1, 1, 7, 0x5000)


def test_a_device_with_ats_sends_translated_accesses_anywhere(machine: Programmed) -> None:
    machine.host(I=1)

    outcome = machine.machine.send_translated(DEVICE, 0x5000_1234, Access.WRITE)

    assert isinstance(outcome, Translation)
    assert outcome.pa == 0x5000_1234


def test_a_device_beyond_the_table_may_not_ask(machine: Programmed) -> None:
    machine.write("DEVTAB", machine.read("DEVTAB") & ~0x1FF)

    assert machine.machine.request_translation(DEVICE, 0x1000) is Completion.UNSUPPORTED_REQUEST
    machine.machine.send_translated(DEVICE, 0x1000)

    first, second = machine.events()
    assert isinstance(first, InvalidDeviceRequest)
    assert (first.TR, first.Type) == (1, 2)
    assert second.EventCode == EventCode.ILLEGAL_DEV_TABLE_ENTRY


def test_errors_of_a_translation_request_are_logged_as_such(machine: Programmed) -> None:
    machine.device(I=1, Mode=7)
    assert machine.machine.request_translation(DEVICE, 0x1000) is Completion.COMPLETER_ABORT
    machine.device(DEVICE + 1, I=1, Mode=3, HostPageTableRoot=HOLE)
    assert machine.machine.request_translation(DEVICE + 1, 0x1000) is Completion.COMPLETER_ABORT
    machine.write("DEVTAB", int(DeviceTableBase(Base=HOLE, Size=0xFF)))
    assert machine.machine.request_translation(DEVICE + 2, 0x1000) is Completion.COMPLETER_ABORT

    illegal, page_table, device_table = machine.events()

    assert isinstance(illegal, IllegalDevTableEntry)
    assert isinstance(page_table, PageTabHardwareError)
    assert isinstance(device_table, DevTabHardwareError)
    assert (illegal.TR, page_table.TR, device_table.TR) == (1, 1, 1)


def test_reserved_bits_come_before_the_right_to_ask(machine: Programmed) -> None:
    raw = int(DTE(V=1, TV=1)) | 1 << 3
    assert machine.memory.write(machine.read("DEVTAB") // 4096 * 4096 + DEVICE * 32, raw.to_bytes(32, "little"))

    assert machine.machine.request_translation(DEVICE, 0x1000) is Completion.COMPLETER_ABORT
    assert event_codes(machine) == [EventCode.ILLEGAL_DEV_TABLE_ENTRY]


def test_a_device_that_nothing_is_known_of_passes(machine: Programmed) -> None:
    outcome = machine.machine.request_translation(DEVICE, 0x1234)

    assert isinstance(outcome, Translation)
    assert outcome.pa == 0x1234


def test_an_iommu_that_is_off_answers_no_translation_request_and_holds_nothing_up() -> None:
    machine = Programmed()

    assert machine.machine.request_translation(DEVICE, 0x1234) is Completion.UNSUPPORTED_REQUEST
    assert isinstance(machine.machine.send_translated(DEVICE, 0x1234), Translation)
    assert machine.read("EVTTAIL") == 0
