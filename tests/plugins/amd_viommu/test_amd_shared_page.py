"""A guest's VF page as shared memory: plain loads and stores do what calls on its mapping do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from attrs import define

from tests.plugins.amd_viommu.program import HARDWARE, PAGE, Program
from tests.plugins.amd_viommu.vm import IOVA, STATUS, Vm, pages
from viommu.faults import Access
from viommu_amd_viommu.spec.commands import CompletionWait, Opcode
from viommu_amd_viommu.spec.events import IllegalCommandError, IoPageFault
from viommu_amd_viommu.spec.registers import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu_amd_viommu.spec.commands import AnyCommand

SECONDS = 10
HEAD, TAIL = 0x00, 0x08
EVENT_HEAD, EVENT_TAIL = 0x10, 0x18


@define(eq=False)
class StoringVm(Vm):
    """A guest that has the page in its address space, and nothing to call."""

    @property
    def words(self) -> memoryview:
        page = self.page.shared()
        assert page is not None
        return memoryview(page.engine).cast("Q")

    def load(self, offset: int) -> int:
        return int(self.words[offset // 8])

    def store(self, offset: int, value: int) -> None:
        self.words[offset // 8] = value

    def give(self, *commands: AnyCommand | bytes) -> bool:
        super().give(*commands)
        wait_for(lambda: self.load(HEAD) == self.load(TAIL) or not self.status.CmdBufRun)
        return self.load(HEAD) == self.load(TAIL)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(1e-5)  # a guest would spin; here that would keep the interpreter from the watcher


@pytest.fixture
def vm() -> Iterator[StoringVm]:
    program = Program.make(HARDWARE, sanitize=False)
    yield StoringVm(program)
    program.machine.close()


def test_commands_are_executed_that_nobody_was_told_of(vm: StoringVm) -> None:
    vm.look()
    vm.guest.map(IOVA, b"new")
    calls = vm.program.machine.activity.host_calls
    assert vm.give(pages())
    assert vm.look() == b"new"
    assert vm.program.machine.activity.host_calls == calls


def test_a_buffer_wraps_under_load(vm: StoringVm) -> None:
    for _ in range(400):
        assert vm.give(pages(), pages(), pages())
    assert vm.program.machine.activity.guest_commands["INVALIDATE_IOMMU_PAGES"] == 1200


def test_an_illegal_command_shows_in_status_and_in_the_guests_log(vm: StoringVm) -> None:
    assert not vm.give(bytes(16), pages())
    assert not vm.status.CmdBufRun
    (event,) = vm.events
    assert isinstance(event, IllegalCommandError)


def test_an_event_of_a_device_shows_without_a_call(vm: StoringVm) -> None:
    assert vm.load(EVENT_TAIL) == 0
    vm.endpoint.translate(IOVA + PAGE, Access.READ)
    wait_for(lambda: vm.load(EVENT_TAIL) == 16)
    assert vm.status.EventLogInt
    (event,) = vm.events
    assert isinstance(event, IoPageFault)
    assert vm.page.read(EVENT_HEAD, 8) == (16).to_bytes(8, "little")


def test_bits_of_status_are_cleared_by_a_mask(vm: StoringVm) -> None:
    vm.give(CompletionWait(Opcode=Opcode.COMPLETION_WAIT, i=1))
    wait_for(lambda: bool(vm.status.ComWaitInt))
    vm.store(STATUS, int(Status(ComWaitInt=1)))
    wait_for(lambda: bool(vm.status.CmdBufRun))
    assert not vm.status.ComWaitInt
    assert vm.give(pages())
