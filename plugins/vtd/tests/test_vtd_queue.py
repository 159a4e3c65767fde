"""The invalidation queue: sizes, wrapping, errors that stop it and how software goes on, interrupts of completion."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.vtd.tests.guest import HOLE
from plugins.vtd.tests.programming import DONE, Software
from viommu.platform import Interrupt
from viommu_vtd.hardware.live.register_map import FULL_ECAP
from viommu_vtd.spec.commands import Invalidation, InvalidationWait, IotlbInvalidate
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.queue_registers import QueueError

RID = 0x0108
BAD = Invalidation(Type=15)
GLOBAL = IotlbInvalidate(Type=2, G=1)


def ready(*, wide: bool = False, pages_lg2: int = 0, mode: int = 0) -> Software:
    software = Software.make()
    software.guest.mode = mode
    software.set_root()
    software.enable_queue(wide=wide, pages_lg2=pages_lg2)
    return software


def wait(software: Software, slot: int = 0, data: int = DONE, **fields: int) -> InvalidationWait:
    return InvalidationWait(Type=5, SW=1, STDATA=data, STADDR=software.status + 8 * slot, **fields)


def status(software: Software, slot: int = 0) -> int | None:
    return software.guest.memory.load(software.status + 8 * slot)


def unmask(software: Software, prefix: str) -> None:
    software.write(f"{prefix}DATA", 0x4123)
    software.write(f"{prefix}ADDR", 0xFEE0_0004)
    software.write(f"{prefix}UADDR", 0x1)
    software.write(f"{prefix}CTL", 0)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("pages_lg2", [0, 1, 2])
def test_a_queue_wraps_at_its_size(wide: bool, pages_lg2: int) -> None:
    software = ready(wide=wide, pages_lg2=pages_lg2)
    entries = software.queue_size // software.width

    for number in range(entries // 5 + 3):
        batch = [wait(software, slot, number * 8 + slot + 1) for slot in range(5)]
        software.submit(*batch)

        assert [status(software, slot) for slot in range(5)] == [number * 8 + slot + 1 for slot in range(5)]
        assert software.read("IQH") == software.read("IQT")
    assert software.fsts.IQE == 0


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("start", [0, 1, 77])
def test_a_full_queue_is_executed_whole(wide: bool, start: int) -> None:
    """The most that a queue can hold is one less than its entries, across its end."""
    software = ready(wide=wide)
    entries = software.queue_size // software.width
    for _ in range(start):
        software.submit(GLOBAL)

    software.submit(*[wait(software, slot, slot + 1) for slot in range(entries - 1)])

    assert [status(software, slot) for slot in range(entries - 1)] == list(range(1, entries))
    assert software.read("IQH") == (start + entries - 1) % entries * software.width


def test_the_largest_queue_is_executed_run_by_run() -> None:
    software = ready(pages_lg2=6)
    commands = [GLOBAL] * 16000

    software.submit(*commands, wait(software))

    assert status(software) == DONE
    assert software.machine.command_counts["iotlb"] == 16000


def test_nothing_is_executed_while_the_queue_is_off_and_enabling_begins_at_zero() -> None:
    software = ready()
    software.submit(GLOBAL, GLOBAL)
    software.command(QIE=0)
    software.submit(wait(software))
    assert status(software) == 0

    software.write("IQT", 0)
    software.command(QIE=1)
    assert software.read("IQH") == 0
    software.submit(wait(software))

    assert status(software) == DONE


def test_what_was_queued_before_enabling_is_executed_then() -> None:
    software = ready()
    software.command(QIE=0)
    software.submit(wait(software))

    software.command(QIE=1)

    assert status(software) == DONE


def test_the_queue_does_not_move_while_it_is_in_use() -> None:
    software = ready()
    before = software.read("IQA")

    software.write("IQA", software.guest.page())
    assert software.read("IQA") == before
    software.command(QIE=0)
    software.write("IQA", software.guest.page() | 3)

    assert software.read("IQA") != before


def test_a_bad_descriptor_stops_the_queue_at_itself() -> None:
    software = ready()

    software.submit(wait(software, 0), BAD, wait(software, 1))

    assert (status(software, 0), status(software, 1)) == (DONE, 0)
    assert software.read("IQH") == software.width
    assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.TYPE)

    software.submit(wait(software, 2))
    assert status(software, 2) == 0


def test_software_that_replaces_the_bad_descriptor_and_clears_iqe_goes_on() -> None:
    software = ready()
    software.submit(BAD, wait(software, 1))

    software.guest.put(software.queue, wait(software, 0))
    software.write("FSTS", FSTS(IQE=1))

    assert (status(software, 0), status(software, 1)) == (DONE, DONE)
    assert (software.fsts.IQE, int(software.queue_error)) == (0, 0)


def test_clearing_iqe_without_mending_stops_at_once_again() -> None:
    software = ready()
    software.submit(BAD)

    software.write("FSTS", FSTS(IQE=1))

    assert (software.fsts.IQE, software.queue_error.IQEI, software.read("IQH")) == (1, QueueError.TYPE, 0)


@pytest.mark.parametrize(
    ("tail", "wide", "mode", "error"),
    [
        (0x1000, False, 0, QueueError.TAIL),
        (0x7FFF0, False, 0, QueueError.TAIL),
        (0x8_0010, False, 0, QueueError.TAIL),
        (0x18, False, 0, QueueError.TAIL),
        (0x1000, True, 0, QueueError.TAIL),
        (0x30, True, 0, QueueError.TAIL_ALIGNMENT),
        (0x30, True, 1, QueueError.TAIL_ALIGNMENT),
        (0x20, False, 1, QueueError.WIDTH),
        (0x20, False, 3, QueueError.WIDTH),
        (0x20, False, 2, QueueError.TABLE_MODE),
        (0x20, True, 2, QueueError.TABLE_MODE),
    ],
)
def test_a_tail_a_width_and_a_mode_can_be_wrong(tail: int, wide: bool, mode: int, error: QueueError) -> None:
    software = ready(wide=wide, mode=mode)

    software.write("IQT", tail)

    assert (1, error) == (software.fsts.IQE, software.queue_error.IQEI)
    assert software.read("IQH") == 0


@pytest.mark.parametrize(
    ("lacks", "wide", "mode", "error"),
    [
        (("SMTS", "ADMS"), True, 0, QueueError.WIDTH),
        (("SMTS",), True, 0, None),
        (("SMTS",), True, 1, QueueError.TABLE_MODE),
        (("ADMS",), True, 3, QueueError.TABLE_MODE),
    ],
)
def test_widths_and_modes_need_their_capabilities(
    lacks: tuple[str, ...], wide: bool, mode: int, error: QueueError | None
) -> None:
    software = Software.make(ecap=FULL_ECAP.replace(**dict.fromkeys(lacks, 0)))
    software.guest.mode = mode
    software.set_root()
    software.enable_queue(wide=wide)

    software.submit(wait(software))

    assert (error or 0) == software.queue_error.IQEI
    assert (status(software) == DONE) is (error is None)


def test_a_queue_where_no_memory_is_cannot_be_fetched() -> None:
    software = ready()
    software.command(QIE=0)
    software.write("IQA", HOLE)
    software.command(QIE=1)

    software.write("IQT", 0x10)

    assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.FETCH)


def test_descriptors_before_a_hole_are_executed() -> None:
    software = ready()
    software.command(QIE=0)
    last_page = 0x1_0010_0000 - 0x1000
    software.write("IQT", 0)
    software.write("IQA", last_page | 1)
    software.guest.put(last_page + 0xFF0, wait(software))
    for at in range(0, 0xFF0, 16):
        software.guest.put(last_page + at, GLOBAL)
    software.command(QIE=1)

    software.write("IQT", 0x1010)

    assert status(software) == DONE
    assert (software.queue_error.IQEI, software.read("IQH")) == (QueueError.FETCH, 0x1000)


def test_a_completion_interrupt_is_sent_once_until_software_clears_iwc() -> None:
    software = ready()
    unmask(software, "IE")
    expected = Interrupt("invalidation", 0x1_FEE0_0004, 0x4123)

    software.submit(InvalidationWait(Type=5, IF=1), InvalidationWait(Type=5, IF=1))
    assert (software.read("ICS"), software.heard) == (1, [expected])
    software.submit(InvalidationWait(Type=5, IF=1))
    assert software.heard == [expected]

    software.write("ICS", 1)
    assert software.read("ICS") == 0
    software.submit(wait(software, IF=1))
    assert software.heard == [expected, expected]
    assert status(software) == DONE


def test_a_masked_completion_interrupt_is_pending_until_it_is_unmasked_or_served() -> None:
    software = ready()
    unmask(software, "IE")
    software.write("IECTL", 1 << 31)

    software.submit(InvalidationWait(Type=5, IF=1))
    assert (software.read("IECTL"), software.heard) == (1 << 31 | 1 << 30, [])
    software.write("ICS", 1)
    assert software.read("IECTL") == 1 << 31
    software.submit(InvalidationWait(Type=5, IF=1))
    software.write("IECTL", 0)

    assert len(software.heard) == 1
    assert software.read("IECTL") == 0
    software.write("IECTL", 0)
    assert len(software.heard) == 1


def test_an_interrupt_message_is_stored_where_memory_is() -> None:
    software = ready()
    unmask(software, "IE")
    software.write("IEUADDR", software.status >> 32)
    software.write("IEADDR", software.status & 0xFFFF_FFFF)

    software.submit(InvalidationWait(Type=5, IF=1))

    assert status(software) == 0x4123


def test_an_interrupt_handler_may_submit_more() -> None:
    software = ready()
    unmask(software, "IE")

    def serve(_: Any) -> None:  # noqa: ANN401
        assert software.read("IQH") == 16  # its descriptor is done
        software.on_interrupt.clear()
        software.write("ICS", 1)
        software.submit(wait(software, 1))

    software.on_interrupt.append(serve)
    software.submit(InvalidationWait(Type=5, IF=1), wait(software, 0))

    assert (status(software, 0), status(software, 1)) == (DONE, DONE)


def test_a_fault_interrupt_tells_of_a_queue_error_and_its_handler_may_mend_it() -> None:
    software = ready()
    unmask(software, "FE")

    def serve(interrupt: Interrupt) -> None:
        assert interrupt.source == "fault"
        assert software.fsts.IQE == 1
        software.guest.put(software.queue, wait(software, 0))
        software.write("FSTS", FSTS(IQE=1))

    software.on_interrupt.append(serve)
    software.submit(BAD, wait(software, 1))

    assert (status(software, 0), status(software, 1)) == (DONE, DONE)
    assert len(software.heard) == 1


def test_a_queue_full_of_completion_interrupts_is_not_read_again_for_each() -> None:
    software = ready(pages_lg2=6)
    tail = software.put(*[InvalidationWait(Type=5, IF=1)] * 16000)
    software.observed.clear()

    software.write("IQT", tail)

    assert software.read("IQH") == tail
    assert len(software.observed) < 10  # one event for each run
