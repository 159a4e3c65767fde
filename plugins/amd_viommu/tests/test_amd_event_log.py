"""The event log in memory: order, wrap, overflow at every size, doubles, hardware errors (AMD 48882, 2.5)."""

from __future__ import annotations

import pytest

from plugins.amd_viommu.tests.programmed import DEVICE, EVENTS, HOLE, Programmed
from viommu import Access
from viommu_amd_viommu.spec.events import AnyEvent, DevTabHardwareError, EventCode, IoPageFault
from viommu_amd_viommu.spec.registers import BufferBase, DeviceTableBase


def faults(machine: Programmed, *addresses: int) -> None:
    for address in addresses:
        machine.fault(address)


def addresses(events: list[AnyEvent]) -> list[int]:
    return [int(event) >> 64 for event in events]


def refill(machine: Programmed, free: int) -> None:
    """Make the log look as if ``free`` more entries fitted, with its tail two before the end."""
    tail = machine.queue_bytes - 32
    machine.write("EVTTAIL", tail)
    machine.write("EVTHEAD", (tail + 16 * (free + 1)) % machine.queue_bytes)


@pytest.fixture
def machine() -> Programmed:
    made = Programmed().start()
    made.device(TV=0)
    return made


def test_a_fault_is_written_at_the_tail_and_interrupts(machine: Programmed) -> None:
    machine.fault(0x1234, Access.WRITE)

    assert machine.memory.read(EVENTS, 16) == bytes.fromhex("23010000 77002020 3412000000000000")
    assert machine.read("EVTTAIL") == 16
    assert [(one.source, one.address, one.data) for one in machine.interrupts] == [("event log", 0xFEE0_0000, 0x4041)]
    assert ("amd.event", {"code": "IO_PAGE_FAULT", "logged": True, "record": "IO_PAGE_FAULT"}) in machine.observed


def test_an_interrupt_comes_again_only_once_status_was_cleared(machine: Programmed) -> None:
    faults(machine, 0x1000, 0x2000)
    assert len(machine.interrupts) == 1

    machine.write("STATUS", 2)
    machine.fault(0x3000)

    assert len(machine.interrupts) == 2


def test_an_interrupt_that_was_masked_comes_when_it_is_enabled(machine: Programmed) -> None:
    machine.switch(EventIntEn=0)
    machine.fault(0x1000)
    assert not machine.interrupts

    machine.switch(EventIntEn=1)

    assert [one.source for one in machine.interrupts] == ["event log"]


@pytest.mark.parametrize("length", range(8, 16))
def test_a_log_of_every_size_wraps_fills_and_overflows(length: int) -> None:
    machine = Programmed(length).start()
    machine.device(TV=0)
    refill(machine, free=3)

    faults(machine, 0x1000, 0x2000, 0x3000)
    assert (machine.read("EVTTAIL"), machine.status.EventOverflow) == (16, 0)
    machine.fault(0x4000)

    assert (machine.status.EventOverflow, machine.status.EventLogRun) == (1, 0)
    assert machine.read("EVTTAIL") == 16
    machine.write("EVTHEAD", machine.queue_bytes - 32)
    assert addresses(machine.events()) == [0x1000, 0x2000, 0x3000]


def test_the_largest_log_holds_one_entry_less_than_its_size() -> None:
    machine = Programmed().start()
    machine.device(TV=0)

    faults(machine, *(page << 12 for page in range(256)))

    assert machine.status.EventOverflow
    assert len(machine.events()) == 255


@pytest.mark.parametrize("length", [0, 7])
def test_a_reserved_length_is_taken_for_the_least(length: int) -> None:
    machine = Programmed(length).start()
    machine.device(TV=0)

    faults(machine, *(page << 12 for page in range(256)))

    assert machine.read("EVTTAIL") == 255 * 16


def test_an_overflow_interrupts_and_logging_stops_until_it_is_enabled_anew(machine: Programmed) -> None:
    refill(machine, free=0)
    machine.fault(0x1000)
    assert [one.source for one in machine.interrupts] == ["event log overflow"]

    machine.write("EVTHEAD", machine.read("EVTTAIL"))
    machine.fault(0x2000)
    machine.write("STATUS", 1)
    machine.fault(0x3000)
    assert machine.events() == []

    machine.switch(EventLogEn=0)
    machine.switch(EventLogEn=1)
    machine.fault(0x4000)

    assert addresses(machine.events()) == [0x4000]


def test_nothing_is_written_while_overflow_is_set(machine: Programmed) -> None:
    refill(machine, free=0)
    machine.fault(0x1000)
    machine.write("EVTHEAD", machine.read("EVTTAIL"))

    machine.switch(EventLogEn=0)
    machine.switch(EventLogEn=1)
    machine.fault(0x2000)
    machine.write("STATUS", 1)
    machine.fault(0x3000)

    assert addresses(machine.events()) == [0x3000]


def test_a_log_that_is_off_takes_nothing(machine: Programmed) -> None:
    machine.switch(EventLogEn=0)

    machine.fault(0x1000)

    assert (machine.events(), machine.interrupts) == ([], [])
    assert ("amd.event", {"code": "IO_PAGE_FAULT", "logged": False, "record": None}) in machine.observed


def test_a_log_in_a_hole_halts(machine: Programmed) -> None:
    machine.write("EVTBASE", int(BufferBase(Base=HOLE, Length=8)))

    machine.fault(0x1000)

    assert (machine.read("EVTTAIL"), machine.status.EventLogRun, machine.status.EventOverflow) == (0, 0, 0)


def test_log_b_is_written_where_it_is_chosen(machine: Programmed) -> None:
    machine.switch(DualEventLogEn=1)

    machine.fault(0x1000)

    assert (machine.events(), addresses(machine.events("EVTB"))) == ([], [0x1000])
    assert machine.status.EventActive


def test_logs_swap_when_one_is_full(machine: Programmed) -> None:
    machine.switch(DualEventLogEn=2)
    refill(machine, free=1)

    faults(machine, 0x1000, 0x2000, 0x3000)

    status = machine.status
    assert (status.EventOverflow, status.EventOverflowB, status.EventActive, status.EventLogRun) == (1, 0, 1, 1)
    assert addresses(machine.events("EVTB")) == [0x2000, 0x3000]


def test_logs_swap_back_once_software_has_cleared_the_first(machine: Programmed) -> None:
    machine.switch(DualEventLogEn=2)
    refill(machine, free=0)
    machine.fault(0x1000)
    machine.write("EVTHEAD", machine.read("EVTTAIL"))
    machine.write("STATUS", 1)
    machine.write("EVTBHEAD", 32)

    faults(machine, 0x2000)

    assert (machine.status.EventOverflowB, machine.status.EventActive) == (1, 0)
    assert addresses(machine.events()) == [0x2000]


def test_logging_halts_when_both_logs_are_full(machine: Programmed) -> None:
    machine.switch(DualEventLogEn=2)
    refill(machine, free=0)
    machine.write("EVTBHEAD", 16)

    machine.fault(0x1000)

    status = machine.status
    assert (status.EventOverflow, status.EventOverflowB, status.EventLogRun) == (1, 1, 0)


def test_hardware_without_a_second_log_does_not_swap() -> None:
    machine = Programmed(features={"HATS": 2}).start(DualEventLogEn=1)
    machine.device(TV=0)

    machine.fault(0x1000)

    assert addresses(machine.events()) == [0x1000]


def test_hardware_errors_are_kept_in_registers_too(machine: Programmed) -> None:
    machine.write("DEVTAB", int(DeviceTableBase(Base=HOLE, Size=0xFF)))
    for requester in (DEVICE + 1, DEVICE + 2):
        machine.fault(0x1000, requester=requester)

    (first, last) = machine.events()

    assert isinstance(first, DevTabHardwareError)
    assert machine.read("HWEVTHI") | machine.read("HWEVTLO") << 64 == int(last)
    assert machine.read("HWEVTSTATUS") == 0b11
    machine.write("HWEVTSTATUS", 0b11)
    assert machine.read("HWEVTSTATUS") == 0


def test_hardware_errors_are_not_kept_where_there_are_no_such_registers() -> None:
    machine = Programmed(features={}).start()
    machine.write("DEVTAB", int(DeviceTableBase(Base=HOLE, Size=0xFF)))

    machine.fault(0x1000)

    assert machine.read("HWEVTSTATUS") == 0


def test_se_lets_one_fault_of_each_device_through(machine: Programmed) -> None:
    machine.device(TV=0, SE=1)
    machine.device(DEVICE + 1, TV=0, SE=1)

    faults(machine, 0x1000, 0x2000)
    machine.fault(0x3000, requester=DEVICE + 1)

    events = machine.events()
    assert [type(event) for event in events] == [IoPageFault, IoPageFault]
    assert addresses(events) == [0x1000, 0x3000]


def test_sa_lets_none_through_and_spares_other_events(machine: Programmed) -> None:
    machine.device(TV=0, SA=1)
    machine.device(DEVICE + 1, Mode=7, SA=1)

    machine.fault(0x1000)
    machine.fault(0x2000, requester=DEVICE + 1)

    assert [event.EventCode for event in machine.events()] == [EventCode.ILLEGAL_DEV_TABLE_ENTRY]


def test_a_batch_logs_its_faults_in_the_order_of_its_rows(machine: Programmed) -> None:
    machine.machine.translate_many(DEVICE, [0x3000, 0x1000, 0x2000], int(Access.READ))

    assert addresses(machine.events()) == [0x3000, 0x1000, 0x2000]


def test_interrupts_go_where_the_xt_registers_say(machine: Programmed) -> None:
    machine.write("XTEVTINT", 1 << 2 | 0x34_5678 << 8 | 0x41 << 32 | 0x12 << 56)
    machine.switch(XTEn=1, IntCapXTEn=1)

    machine.fault(0x1000)

    assert (machine.interrupts[0].address, machine.interrupts[0].data) == (0x12_3456 << 40 | 0xFEE7_8004, 0x41)


def test_without_an_enabled_message_status_alone_tells(machine: Programmed) -> None:
    machine.write("MSICAP", 0)

    machine.fault(0x1000)

    assert not machine.interrupts
    assert machine.status.EventLogInt


def test_of_several_messages_the_number_is_in_the_data() -> None:
    machine = Programmed(vectors=3 | 1 << 27).start()
    machine.device(TV=0)
    machine.write("MSICAP", 1 << 16 | 2 << 20)

    machine.fault(0x1000)

    assert machine.interrupts[0].data == 0x4043


def test_a_message_is_stored_where_memory_has_its_address(machine: Programmed) -> None:
    machine.message(EVENTS + 0x8000, 0x1234)

    machine.fault(0x1000)

    assert machine.memory.load(EVENTS + 0x8000) == 0x1234


def test_reports_are_pure(machine: Programmed) -> None:
    machine.device(TV=0, SE=1)
    fault = machine.fault(0x1000)

    assert machine.machine.report(fault) == machine.machine.report(fault)
    assert len(machine.events()) == 1
