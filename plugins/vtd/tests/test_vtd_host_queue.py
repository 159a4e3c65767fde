"""The host driver's side of the invalidation queue, against the hardware model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define

from plugins.vtd.tests.hosted import Hosted
from viommu.faults import Fault
from viommu.platform import BadAnswer
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host import requests
from viommu_vtd.host.queue import QueueFault, Trouble
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.queue_registers import IQH, IQT, QueueError
from viommu_vtd.spec.registers import GSTS, RTADDR

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu_vtd.spec.registers import ECAP

BAD = (0xF).to_bytes(16, "little")
GOOD = requests.iotlb_of_domain(5)
LEGACY = FULL_ECAP.replace(SMTS=0)


def test_a_unit_that_was_brought_up_translates_and_refuses_every_device() -> None:
    hosted = Hosted.make()
    status = hosted.unit.registers.read(GSTS)
    assert (status.TES, status.QIES, status.RTPS) == (1, 1, 1)
    assert hosted.unit.registers.read(RTADDR).TTM == 1
    outcome = hosted.machine.translate(0x0108, 0x1000)
    assert isinstance(outcome, Fault)
    assert hosted.machine.report(outcome).reason == "0x39"


def test_a_unit_without_scalable_mode_has_legacy_tables_and_narrow_descriptors() -> None:
    hosted = Hosted.make(ecap=LEGACY)
    assert hosted.unit.registers.read(RTADDR).TTM == 0
    assert hosted.unit.submit([GOOD]) is None
    assert hosted.unit.registers.read(IQH).QH == 2 * 16


def test_without_esrtps_a_new_root_table_is_followed_by_global_invalidations() -> None:
    with_it, without = Hosted.make(), Hosted.make(cap=FULL_CAP.replace(ESRTPS=0))
    assert "pasid_cache" not in with_it.commands
    assert without.commands == {"context_cache": 1, "pasid_cache": 1, "iotlb": 1, "wait": 1}


def test_everything_that_was_brought_up_is_given_back() -> None:
    hosted = Hosted.make()
    hosted.unit.root.context(0x0108)
    hosted.unit.root.context(0x0188)
    hosted.unit.stop()
    assert not hosted.frames.taken
    assert not hosted.unit.registers.read(GSTS).TES


@pytest.mark.parametrize("ecap", [FULL_ECAP, LEGACY], ids=["scalable", "legacy"])
def test_batches_longer_than_the_ring_wrap_around_it(ecap: ECAP) -> None:
    hosted = Hosted.make(ecap=ecap)
    for _ in range(5):
        assert hosted.unit.submit([GOOD] * 301) is None
    assert hosted.commands["iotlb"] == 1505
    assert hosted.unit.registers.read(IQH).QH == hosted.unit.registers.read(IQT).QT


@pytest.mark.parametrize("before", [0, 1, 200])
def test_a_refused_descriptor_is_told_by_index_and_nothing_after_it_is_done(before: int) -> None:
    hosted = Hosted.make()
    fault = hosted.unit.queue.submit([*[GOOD] * before, BAD, *[GOOD] * 3])
    assert fault == QueueFault(Trouble.REFUSED, index=before, error=QueueError.TYPE)
    assert hosted.commands.get("iotlb", 0) == before
    assert not hosted.unit.registers.read(FSTS).IQE
    assert hosted.unit.submit([GOOD]) is None
    assert hosted.commands["iotlb"] == before + 1


def test_a_device_that_does_not_answer_is_told_and_the_queue_goes_on() -> None:
    hosted = Hosted.make()
    device = hosted.machine.device(0x0108)
    device.answers = False
    ask = requests.device_tlb(0x0108, 0, requests.EVERYTHING)
    assert hosted.unit.submit([ask]) == QueueFault(Trouble.TIMED_OUT, source=0x0108)
    assert not hosted.unit.registers.read(FSTS).ITE
    device.answers = True
    assert hosted.unit.submit([ask]) is None


def test_a_device_that_answers_wrongly_is_told_so_and_the_queue_goes_on() -> None:
    hosted = Hosted.make()
    hosted.machine.device(0x0108).answers = BadAnswer.WRONG_TAG
    ask = requests.device_tlb(0x0108, 0, requests.EVERYTHING)
    assert hosted.unit.submit([ask]) == QueueFault(Trouble.COMPLETION, source=0x0108)
    assert hosted.unit.registers.read(FSTS) == FSTS()
    assert hosted.unit.submit([GOOD]) is None


def test_a_device_that_does_not_answer_keeps_nobody_else_from_being_told() -> None:
    hosted = Hosted.make()
    hosted.machine.device(0x0108).answers = False
    silent = requests.device_tlb(0x0108, 0, requests.EVERYTHING)
    assert hosted.unit.submit([silent, *[GOOD] * 400]) == QueueFault(Trouble.TIMED_OUT, source=0x0108)
    assert hosted.commands["iotlb"] >= 400


def test_a_queue_that_somebody_switched_off_is_a_bug_that_is_told() -> None:
    hosted = Hosted.make()
    hosted.unit.registers.command(QIE=0)
    with pytest.raises(AssertionError, match="does not run"):
        hosted.unit.submit([GOOD])


@define
class Second:
    """Whether a device answers: from the second time on."""

    asked: int = 0

    def __bool__(self) -> bool:
        self.asked += 1
        return self.asked > 1


def test_a_device_that_answers_at_the_second_time_is_no_trouble() -> None:
    hosted = Hosted.make()
    device = hosted.machine.device(0x0108)
    device.answers = Second()  # type: ignore[assignment]
    assert hosted.unit.submit([requests.device_tlb(0x0108, 0, requests.EVERYTHING)]) is None


def test_the_hosts_own_descriptor_that_is_refused_is_a_bug_with_its_words() -> None:
    hosted = Hosted.make()
    with pytest.raises(AssertionError, match=r"unit refuses .*IotlbInvalidate"):
        hosted.unit.submit([GOOD.replace(G=0)])


def test_work_left_while_the_queue_is_in_use_is_done_after_it() -> None:
    hosted = Hosted.make()
    queue, done = hosted.unit.queue, list[str]()

    def left() -> list[Descriptor]:
        done.append("left")
        return [GOOD]

    def work() -> None:
        queue.leave(left)
        assert not done
        done.append("own")

    queue.turns.take(work)
    assert done == ["own", "left"]
    assert hosted.commands["iotlb"] == 1
