"""A device and the programs that use it take turns with its model: neither keeps the other out."""

from __future__ import annotations

from threading import Event, Thread

from viommu.vfio.later import Later, ModelLock

PROGRAMS = 4


def test_programs_that_poll_do_not_keep_a_device_from_working() -> None:
    lock, ended, worked = ModelLock(), Event(), Event()

    def poll() -> None:
        while not ended.is_set():
            with lock.for_software():
                sum(range(1000))

    programs = [Thread(target=poll) for _ in range(PROGRAMS)]
    for program in programs:
        program.start()
    try:
        Later("device", lock).add(0, worked.set)
        assert worked.wait(10)
    finally:
        ended.set()
        for program in programs:
            program.join()


def test_a_device_that_is_always_at_work_lets_programs_in() -> None:
    lock, calls = ModelLock(), 0
    later = Later("device", lock)

    def work() -> None:
        sum(range(1000))
        later.add(0, work)

    later.add(0, work)
    for _ in range(100):
        with lock.for_software():
            calls += 1
    with lock.for_software():
        later.clear()
    assert calls == 100
