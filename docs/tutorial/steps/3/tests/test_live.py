"""Registers, commands and events."""

from __future__ import annotations

import pytest
from software import Software
from viommu import Access, Fault, Translation

DEVICE, DOMAIN = 3, 5
CTRL, CMDBASE, CMDHEAD, CMDTAIL, EVTBASE, EVTHEAD, EVTTAIL, STATUS = 0, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40
COMMANDS, EVENTS, RING_LG2 = 0x2_0000, 0x2_1000, 2
FORGET_DEVICE = 2 | DEVICE << 16
FORGET_DOMAIN = 3 | DOMAIN << 32


class Programmed(Software):
    """A device with one page, two queues of four entries each, and a list of interrupts."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.new_table()
        self.translate_by(DEVICE, self.root, DOMAIN)
        self.map(self.root, 0x5000, 0x9000)
        self.machine.write_register(CMDBASE, COMMANDS | RING_LG2, 8)
        self.machine.write_register(EVTBASE, EVENTS | RING_LG2, 8)

    def command(self, low: int, high: int = 0) -> None:
        tail = self.machine.read_register(CMDTAIL, 8)
        self.memory.store(COMMANDS + 16 * tail, low)
        self.memory.store(COMMANDS + 16 * tail + 8, high)
        self.machine.write_register(CMDTAIL, (tail + 1) % 4, 8)

    def pa(self, iova: int, access: Access = Access.READ) -> int | None:
        found = self.machine.translate(DEVICE, iova, access)
        return int(found.pa) if isinstance(found, Translation) else None


@pytest.fixture
def hardware() -> Programmed:
    return Programmed()


@pytest.mark.parametrize(
    ("low", "high"),
    [
        pytest.param(1, 0, id="all"),
        pytest.param(FORGET_DOMAIN, 0, id="domain"),
        pytest.param(4 | DOMAIN << 32, 0x5000, id="page"),
        pytest.param(4 | 9 << 8 | DOMAIN << 32, 0, id="2M"),
    ],
)
def test_a_changed_entry_counts_once_it_is_forgotten(hardware: Programmed, low: int, high: int) -> None:
    assert hardware.pa(0x5000) == 0x9000
    hardware.map(hardware.root, 0x5000, 0xA000)
    assert hardware.pa(0x5000) == 0x9000, "nobody has said that it changed"

    hardware.command(low, high)

    assert hardware.pa(0x5000) == 0xA000


def test_an_entry_of_the_device_table_counts_once_it_is_forgotten(hardware: Programmed) -> None:
    hardware.pa(0x5000)
    hardware.set_entry(DEVICE, 0)
    assert hardware.pa(0x5000) == 0x9000

    hardware.command(FORGET_DEVICE)

    assert hardware.pa(0x5000) is None


def test_the_queue_wraps(hardware: Programmed) -> None:
    for _ in range(9):
        hardware.command(FORGET_DOMAIN)

    assert hardware.machine.read_register(CMDHEAD, 8) == hardware.machine.read_register(CMDTAIL, 8) == 1


@pytest.mark.parametrize("wrong", [0, 0x77, FORGET_DEVICE | 1 << 60])
def test_a_command_that_is_none_stops_the_queue_until_software_has_seen_to_it(hardware: Programmed, wrong: int) -> None:
    hardware.command(wrong)
    hardware.command(FORGET_DOMAIN)
    assert hardware.machine.read_register(CMDHEAD, 8) == 0
    assert hardware.machine.read_register(STATUS, 8) == 1

    hardware.memory.store(COMMANDS, FORGET_DOMAIN)
    hardware.machine.write_register(STATUS, 1, 8)

    assert hardware.machine.read_register(CMDHEAD, 8) == 2
    assert hardware.machine.read_register(STATUS, 8) == 0


def test_refused_dma_is_recorded_in_memory(hardware: Programmed) -> None:
    fault = hardware.machine.translate(DEVICE, 0x7000, Access.WRITE)

    assert isinstance(fault, Fault)
    assert hardware.machine.read_register(EVTTAIL, 8) == 1
    record = hardware.memory.read(EVENTS, 16)
    assert record == hardware.machine.report(fault).record == bytes([3, 1, DEVICE, 0, 0, 0, 0, 0, 0, 0x70]) + bytes(6)


def test_events_that_find_no_room_are_lost(hardware: Programmed) -> None:
    for _ in range(5):
        hardware.pa(0x7000)

    assert hardware.machine.read_register(EVTTAIL, 8) == 3
    assert hardware.machine.read_register(STATUS, 8) == 2

    hardware.machine.write_register(EVTHEAD, 3, 8)
    hardware.pa(0x7000)
    assert hardware.machine.read_register(EVTTAIL, 8) == 0


def test_what_is_switched_off_translates_nothing(hardware: Programmed) -> None:
    hardware.machine.write_register(CTRL, 0, 8)

    assert hardware.pa(0x5000) == 0x5000
