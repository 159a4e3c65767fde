"""The event queue: records in order, overflow, merging, stalls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from plugins.smmuv3_cmdqv.tests.guest import STAGE2_STE
from plugins.smmuv3_cmdqv.tests.programmed import HOLE, PAGE, STREAM, TARGET, Programmed
from viommu import Access, Fault, Translation
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode
from viommu_smmuv3_cmdqv.spec.events import TranslationRecord
from viommu_smmuv3_cmdqv.spec.queue_registers import EVENTQ_BASE, EVENTQ_CONS, EVENTQ_PROD
from viommu_smmuv3_cmdqv.spec.stream_table import StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    AtOnce: TypeAlias = Callable[[int, Callable[[int], object]], None]


def do(smmu: Programmed, opcode: CommandOpcode, **fields: int) -> None:
    smmu.send(COMMANDS[opcode](Opcode=opcode, **fields))
    assert not smmu.active_errors()


def overflowed(smmu: Programmed) -> bool:
    flag = EVENTQ_PROD.decode(smmu.register("EVENTQ_PROD")).OVFLG
    return flag != EVENTQ_CONS.decode(smmu.register("EVENTQ_CONS")).OVACKFLG


def addresses(smmu: Programmed) -> list[int]:
    return [event.InputAddr for event in smmu.events() if isinstance(event, TranslationRecord)]


def test_a_fault_is_written_as_it_is_reported() -> None:
    smmu = Programmed()
    smmu.address_space()

    fault = smmu.miss(0x5678, Access.WRITE)

    (event,) = smmu.events()
    assert event.encode() == smmu.machine.report(fault).record
    assert isinstance(event, TranslationRecord)
    assert (event.SID, event.InputAddr, event.RnW) == (STREAM, 0x5678, 0)


@pytest.mark.parametrize("lg2", range(6))
def test_a_queue_of_every_size_wraps_in_order(lg2: int) -> None:
    smmu = Programmed(event_lg2=lg2)
    smmu.address_space()

    for turn in range(5):
        sent = [(turn << 8 | n) * PAGE for n in range(1 << lg2)]
        for iova in sent:
            smmu.miss(iova)
        assert addresses(smmu) == sent
        assert not overflowed(smmu)


@pytest.mark.parametrize("lg2", range(6))
def test_what_finds_a_full_queue_is_lost_and_told_once(lg2: int) -> None:
    smmu = Programmed(event_lg2=lg2)
    smmu.address_space()
    size = 1 << lg2
    for n in range(size):
        smmu.miss(n * PAGE)
    full = smmu.register("EVENTQ_PROD")
    assert not overflowed(smmu)

    for n in range(3):
        smmu.miss((size + n) * PAGE)

    assert overflowed(smmu)
    assert smmu.register("EVENTQ_PROD") == full ^ 1 << 31
    assert addresses(smmu) == [n * PAGE for n in range(size)]
    assert not overflowed(smmu)


def test_after_an_overflow_records_are_written_again_as_soon_as_there_is_room() -> None:
    smmu = Programmed(event_lg2=0)
    smmu.address_space()
    smmu.miss(0)
    smmu.miss(PAGE)
    smmu.program("EVENTQ_CONS", EVENTQ_CONS(RD=1))  # read, but the overflow is not acknowledged
    smmu.miss(2 * PAGE)

    assert overflowed(smmu)
    assert addresses(smmu) == [2 * PAGE]


def test_a_second_overflow_toggles_the_flag_back() -> None:
    smmu = Programmed(event_lg2=0)
    smmu.address_space()
    for n in range(2):
        smmu.miss(n * PAGE)
    smmu.events()
    for n in range(2):
        smmu.miss(n * PAGE)

    assert overflowed(smmu)
    assert EVENTQ_PROD.decode(smmu.register("EVENTQ_PROD")).OVFLG == 0


def test_records_are_dropped_silently_while_the_queue_is_off() -> None:
    smmu = Programmed()
    smmu.address_space()
    smmu.change("CR0", EVTQEN=0)
    smmu.miss(PAGE)
    smmu.change("CR0", EVTQEN=1)

    assert addresses(smmu) == []
    assert not overflowed(smmu)


def into_a_hole(smmu: Programmed) -> None:
    smmu.change("CR0", EVTQEN=0)
    smmu.program("EVENTQ_BASE", EVENTQ_BASE(ADDR=HOLE, LOG2SIZE=4))
    smmu.change("CR0", EVTQEN=1)


def back_into_memory(smmu: Programmed) -> None:
    smmu.change("CR0", EVTQEN=0)
    smmu.program("EVENTQ_BASE", EVENTQ_BASE(ADDR=smmu.event_queue, LOG2SIZE=smmu.event_lg2))
    smmu.change("CR0", EVTQEN=1)


def test_a_queue_that_cannot_be_written_is_an_error_until_acknowledged() -> None:
    smmu = Programmed()
    smmu.address_space()
    into_a_hole(smmu)
    smmu.miss(PAGE)
    errors = smmu.active_errors()
    back_into_memory(smmu)
    smmu.miss(2 * PAGE)
    smmu.acknowledge()
    smmu.miss(3 * PAGE)

    assert errors == {"EVENTQ_ABT_ERR"}
    assert addresses(smmu) == [3 * PAGE]


def test_a_queue_in_read_only_memory_is_an_error_too() -> None:
    smmu = Programmed()
    smmu.address_space()
    smmu.memory.place(0x9000_0000, np.zeros(PAGE, np.uint8), writable=False)
    smmu.change("CR0", EVTQEN=0)
    smmu.program("EVENTQ_BASE", EVENTQ_BASE(ADDR=0x9000_0000, LOG2SIZE=4))
    smmu.change("CR0", EVTQEN=1)

    smmu.miss(PAGE)

    assert smmu.active_errors() == {"EVENTQ_ABT_ERR"}


@pytest.mark.parametrize(("mev", "events"), [(0, 3), (1, 1)])
def test_events_that_say_the_same_are_merged_where_the_ste_permits_it(mev: int, events: int) -> None:
    smmu = Programmed()
    smmu.stream(**(STAGE2_STE | {"Config": StreamConfig.STAGE2, "S2TTB": smmu.take(0x2000), "MEV": mev}))

    for _ in range(3):
        smmu.miss(PAGE)

    assert len(smmu.events()) == events


def test_only_neighbours_that_nobody_has_read_yet_are_merged() -> None:
    smmu = Programmed()
    smmu.stream(**(STAGE2_STE | {"Config": StreamConfig.STAGE2, "S2TTB": smmu.take(0x2000), "MEV": 1}))

    for iova in (PAGE, PAGE, 2 * PAGE, PAGE):
        smmu.miss(iova)
    assert len(smmu.events()) == 3
    smmu.miss(PAGE)
    assert len(smmu.events()) == 1


# Stalls.


def stalled(smmu: Programmed, *pages: int) -> int:
    """Make accesses wait; gives the root of the page table that they miss."""
    root = smmu.address_space(S=1)
    for page in pages:
        smmu.miss(page * PAGE)
    return root


def test_a_stalled_access_is_told_with_its_tag_and_waits() -> None:
    smmu = Programmed()
    smmu.address_space(S=1, R=0)
    report = smmu.machine.report(smmu.miss(PAGE))

    (event,) = smmu.events()
    assert isinstance(event, TranslationRecord)
    assert (event.STALL, event.STAG) == (1, 0)
    assert (report.outcome, report.stall_tag) == ("stall", 1)  # of the next one
    assert list(smmu.machine.stalled) == [(STREAM, 0)]


def test_every_waiting_access_has_a_tag_of_its_own() -> None:
    smmu = Programmed()
    stalled(smmu, 1, 2, 3)
    do(smmu, CommandOpcode.RESUME, SID=STREAM, STAG=1)
    smmu.miss(4 * PAGE)

    assert [event.STAG for event in smmu.events() if isinstance(event, TranslationRecord)] == [0, 1, 2, 1]
    assert sorted(smmu.machine.stalled) == [(STREAM, 0), (STREAM, 1), (STREAM, 2)]


def test_software_maps_the_page_and_has_the_access_tried_again() -> None:
    smmu = Programmed()
    root = stalled(smmu, 1)
    smmu.page(root, PAGE)

    do(smmu, CommandOpcode.RESUME, SID=STREAM, STAG=0, Ac=1, Ab=1)

    ((fault, ended),) = smmu.machine.resumed
    assert fault.iova == PAGE
    assert isinstance(ended, Translation)
    assert ended.pa == TARGET
    assert not smmu.machine.stalled


def test_an_access_that_is_tried_again_in_vain_waits_again() -> None:
    smmu = Programmed()
    stalled(smmu, 1)

    do(smmu, CommandOpcode.RESUME, SID=STREAM, STAG=0, Ac=1)

    assert len(smmu.machine.stalled) == 1
    assert [type(event) for event in smmu.events()] == [TranslationRecord] * 2


@pytest.mark.parametrize("abort", [0, 1])
def test_software_ends_a_stalled_access(abort: int) -> None:
    smmu = Programmed()
    stalled(smmu, 1, 2)

    do(smmu, CommandOpcode.RESUME, SID=STREAM, STAG=0, Ab=abort)

    ((_, ended),) = smmu.machine.resumed
    assert isinstance(ended, Fault)
    assert list(smmu.machine.stalled) == [(STREAM, 1)]


@pytest.mark.parametrize(("stream", "tag"), [(STREAM, 7), (STREAM + 1, 0)])
def test_resuming_what_does_not_wait_does_nothing(stream: int, tag: int) -> None:
    smmu = Programmed()
    stalled(smmu, 1)

    do(smmu, CommandOpcode.RESUME, SID=stream, STAG=tag, Ac=1)

    assert list(smmu.machine.stalled) == [(STREAM, 0)]


def test_all_stalled_accesses_of_a_stream_are_ended_at_once() -> None:
    smmu = Programmed()
    stalled(smmu, 1, 2, 3)

    do(smmu, CommandOpcode.STALL_TERM, SID=STREAM + 1)
    assert len(smmu.machine.stalled) == 3
    do(smmu, CommandOpcode.STALL_TERM, SID=STREAM)
    assert not smmu.machine.stalled
    assert len(smmu.machine.resumed) == 3


def test_stall_records_wait_for_room_and_are_never_lost() -> None:
    smmu = Programmed(event_lg2=1)
    stalled(smmu, *range(5))

    seen = addresses(smmu) + addresses(smmu) + addresses(smmu)

    assert seen == [n * PAGE for n in range(5)]
    assert not overflowed(smmu)


def test_a_handler_that_reads_events_at_once_sees_every_stalled_access() -> None:
    smmu = Programmed(event_lg2=0)
    seen: list[int] = []
    smmu.change("CR0", EVTQEN=0)
    stalled(smmu, *range(5))
    smmu.handler = lambda _: seen.extend(addresses(smmu))
    smmu.change("CR0", EVTQEN=1)

    assert seen == [n * PAGE for n in range(5)]


def test_stall_records_wait_until_the_queue_can_be_written() -> None:
    smmu = Programmed()
    smmu.address_space(S=1)
    smmu.change("CR0", EVTQEN=0)
    smmu.miss(PAGE)
    smmu.change("CR0", EVTQEN=1)
    assert addresses(smmu) == [PAGE]

    into_a_hole(smmu)
    smmu.miss(2 * PAGE)
    back_into_memory(smmu)
    assert addresses(smmu) == []
    smmu.acknowledge()
    assert addresses(smmu) == [2 * PAGE]


def test_nobody_is_told_of_a_stalled_access_that_ended_before_there_was_room() -> None:
    smmu = Programmed(event_lg2=0)
    stalled(smmu, 1, 2, 3)
    do(smmu, CommandOpcode.RESUME, SID=STREAM, STAG=1)

    assert addresses(smmu) + addresses(smmu) == [PAGE, 3 * PAGE]


def test_an_access_that_can_have_no_tag_ends() -> None:
    smmu = Programmed(identity={("IDR5", "STALL_MAX"): 2})
    stalled(smmu, 1, 2, 3)

    assert len(smmu.machine.stalled) == 2
    assert [event.STALL for event in smmu.events() if isinstance(event, TranslationRecord)] == [1, 1, 0]


def test_a_stage_2_fault_stalls_where_the_ste_says_so() -> None:
    smmu = Programmed()
    smmu.stage2(S2S=1, S2R=0)

    smmu.miss(0x7000_0000)

    assert [(event.S2, event.STALL) for event in smmu.events() if isinstance(event, TranslationRecord)] == [(1, 1)]
    assert smmu.machine.stalled


def test_devices_that_fault_at_the_same_time_lose_no_record(at_once: AtOnce) -> None:
    smmu = Programmed(event_lg2=11)
    smmu.address_space()

    at_once(4, lambda number: [smmu.miss((number << 16 | n) * PAGE) for n in range(400)])

    assert sorted(addresses(smmu)) == sorted((number << 16 | n) * PAGE for number in range(4) for n in range(400))


def test_accesses_that_stall_at_the_same_time_have_tags_of_their_own(at_once: AtOnce) -> None:
    smmu = Programmed(event_lg2=11)
    smmu.address_space(S=1)

    at_once(4, lambda number: [smmu.miss((number << 16 | n) * PAGE) for n in range(200)])

    tags = [event.STAG for event in smmu.events() if isinstance(event, TranslationRecord)]
    assert sorted(tags) == list(range(800))
