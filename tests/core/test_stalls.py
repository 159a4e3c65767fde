"""Who follows an access that waits is told how it ends, whenever that happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from viommu.addresses import Iova, Pa, RequesterId
from viommu.faults import Access, Fault, FaultClass, FaultKind, Report, Stage
from viommu.instance.stalls import Stalls
from viommu.platform import StallResolution
from viommu.translation import Translation

if TYPE_CHECKING:
    from viommu.translation import Outcome

DONE = Translation(Iova(0x1000), Pa(0x2000), 4096, Access.READ, 0)
RETRY, ABORT = StallResolution(RequesterId(1), None, True), StallResolution(RequesterId(1), None, False)


def fault() -> Fault:
    where = RequesterId(1), None, Iova(0x1000), Access.READ, FaultKind.TRANSLATION, Stage.STAGE1, 0, FaultClass.INPUT
    return Fault(*where, 0, 0, 0, Access.READ, Access(0), False, False, False)  # type: ignore[arg-type]


class Waiting:
    """One fault that waits; what comes of its retries is taken from ``answers``, and stalls if it is a fault."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.told: list[Outcome] = []
        self.stalls = Stalls(self._again)
        self.tags = iter(range(100))
        self.fault = self._stall(fault())

    def _stall(self, found: Fault) -> Fault:
        self.stalls.record(found, lambda _: Report("stall", "F_TRANSLATION", stall_tag=next(self.tags)))
        return found

    def _again(self, _: Fault) -> Outcome:
        answer = self.answers.pop(0)
        return self._stall(answer) if isinstance(answer, Fault) else answer

    def follow(self) -> bool:
        return self.stalls.follow(self.fault, self.told.append)


@pytest.mark.parametrize("early", [True, False])
def test_an_access_that_is_retried_tells_what_came_of_it(early: bool) -> None:
    waiting = Waiting(DONE)
    if early:
        assert waiting.follow()
    waiting.stalls.resolve(RETRY)
    if not early:
        assert waiting.follow()
    assert waiting.told == [DONE]


@pytest.mark.parametrize("early", [True, False])
def test_an_access_that_is_ended_tells_its_fault(early: bool) -> None:
    waiting = Waiting()
    if early:
        assert waiting.follow()
    waiting.stalls.resolve(ABORT)
    if not early:
        assert waiting.follow()
    assert waiting.told == [waiting.fault]


@pytest.mark.parametrize("early", [True, False])
def test_an_access_that_stalls_again_is_followed_on(early: bool) -> None:
    waiting = Waiting(fault(), fault(), DONE)
    if early:
        assert waiting.follow()
    waiting.stalls.resolve(RETRY)
    waiting.stalls.resolve(RETRY)
    if not early:
        assert waiting.follow()
    assert not waiting.told
    waiting.stalls.resolve(RETRY)
    assert waiting.told == [DONE]


def test_who_follows_while_an_access_is_retried_is_told() -> None:
    waiting = Waiting()

    def again(_: Fault) -> Outcome:
        assert waiting.follow()
        return DONE

    waiting.stalls.retry = again
    waiting.stalls.resolve(RETRY)
    assert waiting.told == [DONE]


def test_what_never_waited_is_not_followed() -> None:
    waiting = Waiting()
    assert not waiting.stalls.follow(fault(), waiting.told.append)
    waiting.stalls.resolve(ABORT)
    assert not waiting.told
