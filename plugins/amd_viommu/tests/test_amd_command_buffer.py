"""The command buffer: wrap at every size, halt and restart, what interrupts it, holes (AMD 48882, 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.amd_viommu.tests.programmed import COMMANDS, HOLE, RAM, Programmed
from viommu_amd_viommu.spec.commands import CompletionWait, InvalidateDevtabEntry, Opcode
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode
from viommu_amd_viommu.spec.registers import BufferBase, Status

if TYPE_CHECKING:
    from viommu.platform import Interrupt

SEMAPHORE = RAM + 0x70_0000


def store(data: int) -> CompletionWait:
    return CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, Address=SEMAPHORE + 8 * data, Data=data)


def stored(machine: Programmed, count: int) -> list[int]:
    return [data for data in range(1, count + 1) if machine.memory.load(SEMAPHORE + 8 * data) == data]


@pytest.mark.parametrize("length", range(8, 16))
def test_a_buffer_of_every_size_wraps(length: int) -> None:
    machine = Programmed(length).start()
    machine.switch(CmdBufEn=0)
    for name in ("CMDHEAD", "CMDTAIL"):
        machine.write(name, machine.queue_bytes - 32)
    machine.switch(CmdBufEn=1)

    machine.submit(*(store(data) for data in range(1, 6)))

    assert stored(machine, 5) == [1, 2, 3, 4, 5]
    assert machine.read("CMDHEAD") == 48


@pytest.mark.parametrize("length", [8, 11, 15])
def test_a_full_buffer_is_executed_to_its_end(length: int) -> None:
    machine = Programmed(length).start()
    entries = (1 << length) - 1
    command = InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY).encode()
    assert machine.memory.write(COMMANDS, command * (entries - 1) + store(1).encode())

    machine.write("CMDTAIL", entries * 16)

    assert stored(machine, 1) == [1]
    assert machine.observed[-1] == (
        "amd.commands",
        {"kinds": {"INVALIDATE_DEVTAB_ENTRY": entries - 1, "COMPLETION_WAIT": 1}, "head": entries * 16},
    )


def test_a_tail_beyond_the_buffer_wraps() -> None:
    machine = Programmed().start()
    assert machine.memory.write(COMMANDS, store(1).encode())

    machine.write("CMDTAIL", machine.queue_bytes + 16)

    assert machine.read("CMDHEAD") == 16
    assert stored(machine, 1) == [1]


def test_commands_wait_until_the_buffer_is_enabled() -> None:
    machine = Programmed().start(CmdBufEn=0)
    machine.submit(store(1), store(2))
    assert stored(machine, 2) == []

    machine.switch(CmdBufEn=1)

    assert stored(machine, 2) == [1, 2]


def test_an_illegal_command_halts_before_it_and_nothing_later_takes_effect() -> None:
    machine = Programmed().start()

    machine.submit(store(1), bytes(16), store(2))

    assert stored(machine, 2) == [1]
    assert (machine.read("CMDHEAD"), machine.status.CmdBufRun) == (16, 0)
    machine.submit(store(3))
    assert stored(machine, 3) == [1]
    assert [event.EventCode for event in machine.events()] == [EventCode.ILLEGAL_COMMAND_ERROR]


def test_a_bad_one_among_its_like_halts_there_as_well() -> None:
    machine = Programmed().start()

    machine.submit(store(1), store(2), (int(store(3)) | 1 << 60 - 8).to_bytes(16, "little"), store(4))

    assert stored(machine, 4) == [1, 2]
    assert machine.read("CMDHEAD") == 32


def test_software_restarts_a_halted_buffer_after_repairing_it() -> None:
    machine = Programmed().start()
    machine.submit(bytes(16), store(2))
    assert machine.memory.write(COMMANDS, store(1).encode())

    machine.switch(CmdBufEn=1)
    assert stored(machine, 2) == []
    machine.switch(CmdBufEn=0)
    machine.switch(CmdBufEn=1)

    assert stored(machine, 2) == [1, 2]
    assert machine.status.CmdBufRun


def test_software_restarts_a_halted_buffer_from_its_beginning() -> None:
    machine = Programmed().start()
    machine.submit(store(1), bytes(16), store(2))

    machine.switch(CmdBufEn=0)
    machine.write("CMDHEAD", 0)
    machine.write("CMDTAIL", 0)
    machine.switch(CmdBufEn=1)
    machine.submit(store(3))

    assert stored(machine, 3) == [1, 3]


def test_a_restart_without_repair_halts_again() -> None:
    machine = Programmed().start()
    machine.submit(bytes(16))

    machine.switch(CmdBufEn=0)
    machine.switch(CmdBufEn=1)

    assert len(machine.events()) == 2
    assert not machine.status.CmdBufRun


def test_a_buffer_in_a_hole_is_a_hardware_error() -> None:
    machine = Programmed().start()
    machine.write("CMDBASE", int(BufferBase(Base=HOLE, Length=8)))

    machine.write("CMDTAIL", 32)

    (event,) = machine.events()
    assert isinstance(event, CommandHardwareError)
    assert (event.Address, event.Type) == (HOLE, 1)
    assert (machine.read("CMDHEAD"), machine.status.CmdBufRun) == (0, 0)
    assert machine.read("HWEVTHI") >> 60 == EventCode.COMMAND_HW_ERROR


def test_a_buffer_that_runs_into_a_hole_is_executed_up_to_it() -> None:
    machine = Programmed().start()
    end = RAM + 0x80_0000
    machine.write("CMDBASE", int(BufferBase(Base=end - 0x1000, Length=9)))
    assert machine.memory.write(end - 16, store(1).encode())
    machine.switch(CmdBufEn=0)
    for name in ("CMDHEAD", "CMDTAIL"):
        machine.write(name, 0xFF0)
    machine.switch(CmdBufEn=1)

    machine.write("CMDTAIL", 0x1010)

    (event,) = machine.events()
    assert isinstance(event, CommandHardwareError)
    assert event.Address == end
    assert stored(machine, 1) == [1]
    assert machine.read("CMDHEAD") == 0x1000


def test_a_handler_may_ring_the_doorbell() -> None:
    machine = Programmed().start()

    def handler(_: Interrupt) -> None:
        machine.write("STATUS", int(Status(ComWaitInt=1)))
        if machine.memory.load(SEMAPHORE + 8) == 0:
            machine.submit(store(1), CompletionWait(Opcode=Opcode.COMPLETION_WAIT, i=1))

    machine.machine._board.on_interrupt = handler

    machine.submit(CompletionWait(Opcode=Opcode.COMPLETION_WAIT, i=1), store(2))

    assert stored(machine, 2) == [1, 2]
    assert machine.idle


def test_a_handler_may_stop_the_buffer() -> None:
    machine = Programmed().start()
    machine.machine._board.on_interrupt = lambda _: machine.switch(CmdBufEn=0)

    machine.submit(CompletionWait(Opcode=Opcode.COMPLETION_WAIT, i=1), store(1))

    assert stored(machine, 1) == []
    assert not machine.status.CmdBufRun


def test_a_handler_may_start_the_buffer_anew() -> None:
    machine = Programmed().start()

    def handler(_: Interrupt) -> None:
        machine.switch(CmdBufEn=0)
        machine.write("CMDHEAD", 0)
        machine.write("CMDTAIL", 0)
        machine.switch(CmdBufEn=1)
        machine.submit(store(2))

    machine.machine._board.on_interrupt = handler

    machine.submit(store(3), CompletionWait(Opcode=Opcode.COMPLETION_WAIT, i=1), store(1))

    assert stored(machine, 3) == [2, 3]
    assert machine.read("CMDHEAD") == 16
