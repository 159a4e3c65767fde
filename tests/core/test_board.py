"""What surrounds a hardware model hands on what it is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import viommu
from viommu.board import Board
from viommu.machine import Machine
from viommu.memory import PhysicalMemory
from viommu.platform import Interrupt

if TYPE_CHECKING:
    from collections.abc import Mapping


class Watcher:
    """A plugin that sees the control path and answers nothing."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @viommu.hookimpl
    def viommu_observe(self, event: str, facts: Mapping[str, object]) -> None:
        assert "event" not in facts
        self.seen.append(event)


def test_an_interrupt_message_is_stored_and_told() -> None:
    memory = PhysicalMemory()
    heard: list[Interrupt] = []
    memory.place(0x1000, bytearray(0x1000))
    board = Board(memory, heard.append)

    board.interrupt(Interrupt("events", 0x1000, 0x21))

    assert memory.load(0x1000) == 0x21
    assert heard == [Interrupt("events", 0x1000, 0x21)]


def test_an_interrupt_that_hardware_signals_to_a_guest_is_not_the_host_drivers() -> None:
    heard: list[Interrupt] = []
    handled: list[Interrupt] = []
    board = Board(PhysicalMemory(), heard.append, handler=handled.append)

    board.interrupt(Interrupt("events", guest=3))

    assert (heard, handled) == ([Interrupt("events", guest=3)], [])


def test_interrupts_count_in_an_eventfd() -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        board = Board(PhysicalMemory(), fd)
        board.interrupt(Interrupt("events"))
        board.interrupt(Interrupt("commands"))

        assert os.eventfd_read(fd) == 2
    finally:
        os.close(fd)


def test_commands_are_counted_by_kind() -> None:
    board = Board(PhysicalMemory())

    board.observe("toy.commands", {"kinds": {"FLUSH": 2}})
    board.observe("toy.commands", {"kinds": {"FLUSH": 1, "SYNC": 1}})
    board.observe("toy.fault", {"reason": "0x1"})

    assert board.command_counts == {"FLUSH": 3, "SYNC": 1}


@pytest.mark.parametrize(("driver", "offset"), [("amd_viommu", 0x18), ("vtd", 0x18), ("smmuv3_cmdqv", 0x20)])
def test_a_plugin_sees_the_control_path(driver: str, offset: int) -> None:
    watcher = Watcher()
    machine = Machine(driver, wrappers=[watcher])

    machine.write_register(offset, 1 << 26 if driver == "vtd" else 1, 4)
    machine.translate(0x8, 0x1000)

    assert watcher.seen
