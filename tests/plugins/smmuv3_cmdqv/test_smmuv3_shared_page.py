"""A guest's vCMDQ by a page of shared memory: what a mapping with calls does, plain loads and stores do as well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from attrs import define

from tests.plugins.smmuv3_cmdqv.program import Program
from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import (
    IOVA,
    NH_VA,
    SYNC_COMMAND,
    Queue,
    endpoint,
    guest_with_vintf,
    queue_command,
    remap,
)
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import VcmdqError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.register_watch import SharedPage

SECONDS = 10


@define(eq=False)
class StoredQueue(Queue):
    """A queue whose guest has the page in its address space, and nothing to call."""

    @property
    def page(self) -> SharedPage:
        found = self.page0.shared()
        assert found is not None
        return found

    def read(self, at: int) -> int:
        return int.from_bytes(self.page.memory[self.place + at : self.place + at + 4], "little")

    def write(self, at: int, value: int) -> None:
        memoryview(self.page.engine).cast("I")[(self.place + at) // 4] = value

    def enable(self) -> None:
        self.write(spec.VCMDQ_CONFIG_AT, 1)
        wait_for(lambda: self.read(spec.VCMDQ_STATUS_AT) == 1)

    def wait(self) -> None:
        """Poll as a driver does after a SYNC."""
        wait_for(lambda: self.consumed[0] == self.written)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(1e-5)  # a guest would spin; here that would keep the interpreter from the watcher


def made(lg2: int) -> StoredQueue:
    guest, mapping = guest_with_vintf(Program.make())
    base = guest.page()
    number = guest.program.must(queue_command(guest, base, 16 << lg2)).out_hw_queue_id
    queue = StoredQueue(guest, mapping, base, lg2, 0, number)
    queue.enable()
    return queue


@pytest.fixture
def queue() -> Iterator[StoredQueue]:
    queue = made(6)
    yield queue
    queue.guest.program.machine.close()


def test_commands_are_executed_that_nobody_was_told_of(queue: StoredQueue) -> None:
    machine = queue.guest.program.machine
    ioctls = machine.activity.ioctls.total()
    remap(queue)
    queue.submit(NH_VA, SYNC_COMMAND)
    queue.wait()
    assert endpoint(queue).dma_read(IOVA, 6) == b"after "
    assert queue.consumed == (2, VcmdqError.CERROR_NONE)
    assert machine.activity.ioctls.total() == ioctls
    assert machine.activity.guest_writes == 2


def test_a_ring_wraps_under_load() -> None:
    queue = made(3)
    for _ in range(500):
        queue.submit(NH_VA, SYNC_COMMAND, NH_VA)
        queue.wait()
    assert queue.guest.program.machine.activity.guest_commands["TLBI_NH_VA"] == 1000
    queue.guest.program.machine.close()


def test_an_error_shows_before_its_event_can_be_read(queue: StoredQueue) -> None:
    events = queue.guest.events(kind=2)
    queue.submit(bytes(16), NH_VA)
    wait_for(lambda: bool(events.read(16)))
    assert queue.consumed == (0, VcmdqError.CERROR_ILL_OPCODE)
    assert queue.read(spec.GERROR_AT) != queue.read(spec.GERRORN_AT)
    queue.guest.put(queue.base, SYNC_COMMAND)
    queue.write(spec.GERRORN_AT, queue.read(spec.GERROR_AT))
    queue.wait()


def test_a_queue_is_switched_off_and_begun_anew(queue: StoredQueue) -> None:
    queue.submit(SYNC_COMMAND)
    queue.wait()
    queue.write(spec.VCMDQ_CONFIG_AT, 0)
    wait_for(lambda: queue.read(spec.VCMDQ_STATUS_AT) == 0)
    queue.write(spec.CONS_AT, 0)
    queue.write(spec.PROD_AT, 0)
    queue.written = 0
    queue.enable()
    queue.submit(NH_VA, SYNC_COMMAND)
    queue.wait()
    assert queue.guest.program.machine.activity.guest_commands == {"SYNC": 2, "TLBI_NH_VA": 1}


def test_what_hardware_alone_sets_cannot_be_stored(queue: StoredQueue) -> None:
    queue.write(spec.CONS_AT, 5)
    queue.write(spec.VCMDQ_STATUS_AT, 0)
    queue.write(spec.GERROR_AT, 7)
    wait_for(lambda: [queue.read(at) for at in (spec.CONS_AT, spec.VCMDQ_STATUS_AT, spec.GERROR_AT)] == [0, 1, 0])


def test_the_host_that_takes_a_queue_away_shows(queue: StoredQueue) -> None:
    assert queue.guest.program.destroy(queue.number) == 0
    wait_for(lambda: queue.read(spec.VCMDQ_STATUS_AT) == queue.read(spec.VCMDQ_CONFIG_AT) == 0)


def test_calls_and_memory_are_one_page(queue: StoredQueue) -> None:
    queue.guest.put(queue.base, SYNC_COMMAND)
    queue.page0.write(spec.PROD_AT, b"\1\0\0\0")
    assert queue.read(spec.CONS_AT) == 1
    queue.guest.put(queue.base + 16, SYNC_COMMAND)
    queue.write(spec.PROD_AT, 2)
    assert queue.page0.read(spec.CONS_AT, 4) == b"\2\0\0\0"


def test_the_memory_goes_with_the_last_mapping(queue: StoredQueue) -> None:
    page, second = queue.page, queue.page0.again()
    queue.page0.close()
    assert second.shared() is page
    second.close()
    assert second.region.page is None
    queue.guest.put(queue.base, SYNC_COMMAND)
    memoryview(page.engine).cast("I")[spec.PROD_AT // 4] = 1
    page.settle()
    assert queue.guest.program.machine.activity.guest_commands == {}
