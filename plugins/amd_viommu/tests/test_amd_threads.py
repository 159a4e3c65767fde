"""What happens at the same time: no record is lost, no command is left, no interrupt is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugins.amd_viommu.tests.programmed import COMMANDS, DEVICE, RAM, Programmed
from viommu import Access
from viommu_amd_viommu.spec.commands import CompletionWait, Opcode

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    AtOnce: TypeAlias = Callable[[int, Callable[[int], object]], None]

THREADS, EACH = 4, 400
SEMAPHORE = RAM + 0x70_0000


def test_devices_that_fault_at_the_same_time_lose_no_event(at_once: AtOnce) -> None:
    machine = Programmed(length=11).start()
    for number in range(THREADS):
        machine.device(DEVICE + number, TV=0)

    at_once(THREADS, lambda number: [machine.fault(0x1000 * n, requester=DEVICE + number) for n in range(EACH)])

    told = [(int(event) & 0xFFFF, int(event) >> 64) for event in machine.events()]
    assert sorted(told) == [(DEVICE + number, 0x1000 * n) for number in range(THREADS) for n in range(EACH)]
    assert machine.status.EventLogInt


def test_devices_that_ask_for_pages_at_the_same_time_lose_no_request(at_once: AtOnce) -> None:
    machine = Programmed(length=11).start()
    devices = [machine.machine.device(DEVICE + number) for number in range(THREADS)]
    for number in range(THREADS):
        machine.device(DEVICE + number, PPR=1)

    def ask(number: int) -> None:
        for n in range(EACH):
            devices[number].request_page(0x1000 * n, Access.READ, group=n)

    at_once(THREADS, ask)

    told = sorted((request.DeviceID, request.Address) for request in machine.page_requests())
    assert told == [(DEVICE + number, 0x1000 * n) for number in range(THREADS) for n in range(EACH)]


def test_a_doorbell_that_is_rung_while_hardware_finishes_is_heard(at_once: AtOnce) -> None:
    machine = Programmed(length=15).start()
    done = CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, i=1, Address=SEMAPHORE, Data=1)
    assert machine.memory.write(COMMANDS, done.encode() * (THREADS * EACH))
    tails = iter(range(1, THREADS * EACH + 1))

    def ring(_: int) -> None:
        for _ in range(EACH):
            machine.write("CMDTAIL", 16 * next(tails))

    at_once(THREADS, ring)

    assert machine.idle
    assert machine.machine.command_counts["COMPLETION_WAIT"] == machine.read("CMDTAIL") // 16


def test_a_log_that_is_read_while_it_is_written_gives_each_event_once(at_once: AtOnce) -> None:
    machine = Programmed(length=11).start()
    for number in range(1, THREADS):
        machine.device(DEVICE + number, TV=0)
    taken: list[tuple[int, int]] = []

    def take() -> None:
        machine.write("STATUS", 2)
        taken.extend((int(event) & 0xFFFF, int(event) >> 64) for event in machine.events())

    def act(number: int) -> None:
        for n in range(EACH):
            if number:
                machine.fault(0x1000 * n, requester=DEVICE + number)
            else:
                take()

    at_once(THREADS, act)
    take()

    assert sorted(taken) == [(DEVICE + number, 0x1000 * n) for number in range(1, THREADS) for n in range(EACH)]
    machine.fault(0, requester=DEVICE + 1)
    assert machine.status.EventLogInt
    assert len(machine.interrupts) > 1
