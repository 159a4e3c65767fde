"""Devices that do not answer invalidations."""

from __future__ import annotations

from plugins.vtd.tests.programming import DONE, Software
from viommu.platform import BadAnswer
from viommu_vtd.spec.commands import DeviceTlbInvalidate, Invalidation, InvalidationWait, IotlbInvalidate
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.queue_registers import IQERCD, QueueError

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


def timed_out(*commands: Invalidation) -> Software:
    """A device that does not answer, told to drop its translations."""
    software = ready()
    software.machine.device(RID).answers = False
    software.submit(DeviceTlbInvalidate(Type=3, SID=RID, S=1, ADDR=0x7FFF_FFFF_FFFF_F000), *commands)
    return software


def test_a_device_that_does_not_answer_aborts_the_wait_that_follows() -> None:
    software = ready()
    software.machine.device(RID).answers = False
    unmask(software, "FE")

    software.submit(
        DeviceTlbInvalidate(Type=3, SID=RID, S=1, ADDR=0x7FFF_FFFF_FFFF_F000),
        GLOBAL,
        wait(software, 0),
        wait(software, 1),
    )

    assert (status(software, 0), status(software, 1)) == (0, 0)
    assert software.read("IQH") == 3 * 16  # past the aborted one
    assert software.fsts == FSTS(ITE=1)
    assert software.queue_error == IQERCD(ITESID=RID)
    assert [interrupt.source for interrupt in software.heard] == ["fault"]

    software.write("FSTS", FSTS(ITE=1))
    assert (status(software, 0), status(software, 1)) == (0, DONE)
    assert int(software.queue_error) == 0


def test_a_device_that_does_not_answer_is_told_of_when_the_queue_runs_dry() -> None:
    software = timed_out()

    assert (software.fsts.ITE, software.queue_error.ITESID) == (1, RID)
    assert software.read("IQH") == software.read("IQT")


def test_a_bad_descriptor_after_a_device_that_does_not_answer_tells_both() -> None:
    software = timed_out(BAD)

    assert (software.fsts.ITE, software.fsts.IQE) == (1, 1)
    assert software.queue_error == IQERCD(IQEI=QueueError.TYPE, ITESID=RID)

    software.write("FSTS", FSTS(ITE=1))
    assert software.queue_error == IQERCD(IQEI=QueueError.TYPE)


def test_a_wrong_answer_is_told_beside_the_right_one_that_never_comes() -> None:
    software = ready()
    software.machine.device(RID).answers = BadAnswer.WRONG_TAG
    unmask(software, "FE")

    software.submit(DeviceTlbInvalidate(Type=3, SID=RID), wait(software))

    assert status(software) == 0
    assert software.fsts == FSTS(ITE=1, ICE=1)
    assert software.queue_error == IQERCD(ITESID=RID, ICESID=RID)
    assert [interrupt.source for interrupt in software.heard] == ["fault"]

    software.write("FSTS", FSTS(ITE=1))
    assert software.queue_error == IQERCD(ICESID=RID)
    software.submit(wait(software))  # what a device said wrongly stops nobody
    assert status(software) == DONE
    software.write("FSTS", FSTS(ICE=1))
    assert (int(software.fsts), int(software.queue_error)) == (0, 0)


def test_a_wrong_answer_is_told_once_and_of_the_device_that_gave_it() -> None:
    software = ready()
    software.machine.device(RID).answers = False
    other = software.machine.device(RID + 1)
    other.answers = BadAnswer.WRONG_TAG

    software.submit(*(DeviceTlbInvalidate(Type=3, SID=source) for source in (RID, RID + 1)), wait(software))
    assert software.queue_error == IQERCD(ITESID=RID, ICESID=RID + 1)

    other.answers = True
    software.write("FSTS", FSTS(ITE=1, ICE=1))
    software.submit(DeviceTlbInvalidate(Type=3, SID=RID), wait(software))
    assert (software.fsts, software.queue_error) == (FSTS(ITE=1), IQERCD(ITESID=RID))


def test_a_device_that_is_gone_holds_nothing_and_is_not_waited_for() -> None:
    software = ready()

    software.submit(DeviceTlbInvalidate(Type=3, SID=0x4444), wait(software))

    assert status(software) == DONE


def test_an_invalidation_completion_error_is_only_told_as_software_left_it() -> None:
    """No device behind this unit answers wrongly: ICE and ICESID come from a capture alone."""
    software = Software.make(FSTS=1 << 5, IQERCD=RID << 48)
    assert software.queue_error.ICESID == RID

    software.write("FSTS", FSTS(ICE=1))

    assert (int(software.fsts), int(software.queue_error)) == (0, 0)
