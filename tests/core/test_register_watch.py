"""Pages of registers that are shared memory: a store is carried out without a call, as it would have been with one."""

from __future__ import annotations

import gc
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest
from attrs import define, field
from structlog.testing import capture_logs

from viommu.register_watch import RegisterWatch, SharedPage, SharedWord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PAGE = 4096
TAIL, HEAD, SWITCH, PLAIN = 0, 4, 8, 16
WORDS = (SharedWord(TAIL), SharedWord(HEAD), SharedWord(SWITCH, stops=True), SharedWord(PLAIN, 8))
SECONDS = 10


@define(eq=False)
class Queue:
    """Hardware: it follows its tail while it is switched on, and keeps bits 0 to 15 of it."""

    registers: dict[int, int] = field(factory=lambda: dict.fromkeys((TAIL, HEAD, SWITCH, PLAIN), 0))
    stores: list[tuple[int, int]] = field(factory=list)
    broken: bool = False

    def read(self, offset: int, length: int) -> bytes:
        return self.registers[offset].to_bytes(length, "little")

    def write(self, offset: int, data: bytes) -> None:
        value = int.from_bytes(data, "little")
        self.stores.append((offset, value))
        if self.broken:
            raise RuntimeError("broken")
        if offset == TAIL:
            self.registers[TAIL] = value & 0xFFFF
        elif offset != HEAD:
            self.registers[offset] = value
        if self.registers[SWITCH]:
            self.registers[HEAD] = self.registers[TAIL]


@define(eq=False)
class Software:
    """Whoever maps the page."""

    page: SharedPage

    def load(self, offset: int) -> int:
        size = 8 if offset == PLAIN else 4
        return int.from_bytes(self.page.memory[offset : offset + size], "little")

    def store(self, offset: int, value: int) -> None:
        struct.pack_into("<Q" if offset == PLAIN else "<I", self.page.memory, offset, value)


@pytest.fixture
def watch() -> Iterator[RegisterWatch]:
    made = RegisterWatch()
    yield made
    made.close()


def page_of(registers: Queue, words: Sequence[SharedWord] = WORDS) -> SharedPage:
    return SharedPage.of(registers, PAGE, words, lambda _: None)


def watched(watch: RegisterWatch, registers: Queue) -> Software:
    page = page_of(registers)
    watch.add(page)
    return Software(page)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0001)


def test_a_doorbell_is_heard_and_answered(watch: RegisterWatch) -> None:
    software = watched(watch, Queue())
    software.store(SWITCH, 1)
    wait_for(lambda: software.page.registers.read(SWITCH, 4) == b"\1\0\0\0")
    for tail in (5, 6, 5):
        software.store(TAIL, tail)
        wait_for(lambda tail=tail: software.load(HEAD) == tail)  # type: ignore[misc]


def test_what_hardware_has_at_first_is_shown() -> None:
    queue = Queue()
    queue.registers[PLAIN] = 1 << 40
    assert Software(page_of(queue)).load(PLAIN) == 1 << 40


def test_bits_that_hardware_does_not_keep_go() -> None:
    software = Software(page_of(Queue()))
    software.store(TAIL, 0x1_0005)
    software.page.settle()
    assert software.load(TAIL) == 5


def test_what_software_cannot_set_comes_back() -> None:
    software = Software(page_of(Queue()))
    software.store(HEAD, 7)
    software.page.settle()
    assert software.load(HEAD) == 0


def test_stores_that_are_seen_together_are_carried_out_as_declared() -> None:
    queue = Queue()
    software = Software(page_of(queue))
    for offset in (PLAIN, SWITCH, TAIL):
        software.store(offset, 1)
    software.page.settle()
    assert queue.stores == [(TAIL, 1), (SWITCH, 1), (PLAIN, 1)]


def test_what_stops_hardware_comes_first() -> None:
    queue = Queue()
    queue.registers[SWITCH] = 1
    software = Software(page_of(queue))
    software.store(TAIL, 9)
    software.store(SWITCH, 0)
    software.page.settle()
    assert queue.stores == [(SWITCH, 0), (TAIL, 9)]
    assert software.load(HEAD) == 0


def test_a_store_of_what_is_shown_is_none() -> None:
    queue = Queue()
    software = Software(page_of(queue))
    software.store(TAIL, 0)
    software.page.settle()
    assert queue.stores == []


def test_what_changes_in_hardware_is_shown_once_somebody_tells(watch: RegisterWatch) -> None:
    queue = Queue()
    software = watched(watch, queue)
    queue.registers[PLAIN] = 3
    watch.observe("queue.full", {})
    wait_for(lambda: software.load(PLAIN) == 3)
    queue.registers[PLAIN] = 4
    watch.show()
    assert software.load(PLAIN) == 4


def test_what_a_store_changes_in_another_group_is_shown_once_hardware_tells(watch: RegisterWatch) -> None:
    queue = Queue()
    page = page_of(queue, (SharedWord(TAIL), SharedWord(HEAD), SharedWord(PLAIN, 8, group=1)))
    watch.add(page)
    software = Software(page)
    queue.registers[SWITCH], queue.registers[PLAIN] = 1, 9
    software.store(TAIL, 3)
    wait_for(lambda: software.load(HEAD) == 3)
    assert software.load(PLAIN) == 0
    watch.changed()
    wait_for(lambda: software.load(PLAIN) == 9)


def test_settling_does_not_wait_for_the_watcher() -> None:
    watch, queue = RegisterWatch(), Queue()
    software = watched(watch, queue)
    software.store(PLAIN, 1)
    watch.settle()
    assert queue.stores == [(PLAIN, 1)]
    watch.close()


def test_a_page_that_is_gone_is_not_carried_out(watch: RegisterWatch) -> None:
    queue = Queue()
    software = watched(watch, queue)
    watch.remove(software.page)
    software.store(TAIL, 1)
    software.page.settle()
    watch.settle()
    assert queue.stores == []


def test_a_page_whose_driver_fails_harms_no_other(watch: RegisterWatch) -> None:
    with capture_logs() as logged:
        bad = watched(watch, Queue(broken=True))
        good = watched(watch, Queue())
        bad.store(TAIL, 1)
        good.store(TAIL, 1)
        watch.settle()
        wait_for(lambda: good.page.registers.read(TAIL, 4) == b"\1\0\0\0")
        wait_for(lambda: bool(logged))


def test_no_doorbell_of_many_pages_is_lost(watch: RegisterWatch, at_once: Callable[..., None]) -> None:
    queues = [Queue() for _ in range(3)]
    pages = [watched(watch, queue) for queue in queues]
    for queue in queues:
        queue.registers[SWITCH] = 1

    def ring(number: int) -> None:
        for tail in range(1, 200):
            pages[number].store(TAIL, tail)
            wait_for(lambda tail=tail: pages[number].load(HEAD) == tail)  # type: ignore[misc]

    at_once(3, ring)
    assert [queue.stores for queue in queues] == [[(TAIL, tail) for tail in range(1, 200)]] * 3


def test_who_forgets_a_watch_leaves_no_thread() -> None:
    before = threading.active_count()
    watch = RegisterWatch()
    watched(watch, Queue())
    assert threading.active_count() == before + 1
    del watch
    gc.collect()
    assert threading.active_count() == before


def test_an_idle_page_costs_next_to_nothing(watch: RegisterWatch) -> None:
    watched(watch, Queue())
    time.sleep(1.1)  # until it looks most rarely
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05
