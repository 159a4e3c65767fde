"""VEVENTQ and FAULT as files: whole records, sequence numbers, overflow, readiness."""

from __future__ import annotations

import errno
import os
import select
import struct
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from viommu.drivers import bind_plugin
from viommu.hookspecs import HOOKSPEC_VERSION, DriverInfo, hookimpl
from viommu.objects.context import Context
from viommu.objects.device import Attachment
from viommu.objects.fault import FaultQueue, report_fault
from viommu.objects.hwpt import NestedHwpt
from viommu.objects.physical import PhysicalDevice, PhysicalIommu
from viommu.objects.veventq import VeventQueue
from viommu.objects.viommu import Viommu
from viommu.ops import DeviceFacts, PageFault
from viommu.oracle.processes import Process, World

if TYPE_CHECKING:
    from viommu.objects.event_file import EventFile

BUFFER = 0x7F00_0000_0000
RECORD, RESPONSE = struct.Struct("<IIIIIIQII"), struct.Struct("<II")


@define
class Listener:
    """A driver that notes how page requests are answered."""

    answers: list[tuple[int, bool]] = field(factory=list)
    hookspec_version: int = HOOKSPEC_VERSION

    @hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return DriverInfo("listener", "", 16, 20)

    @hookimpl
    def viommu_layouts(self) -> dict[str, type]:
        return {}

    @hookimpl
    def viommu_hardware(self) -> None:
        return None

    @hookimpl
    def viommu_device_facts(self) -> DeviceFacts:
        return DeviceFacts()

    @hookimpl
    def viommu_page_response(self, fault: PageFault, success: bool) -> None:
        self.answers.append((fault.addr, success))


def process() -> Process:
    made = World().process(0)
    made.everything_mapped = True
    return made


def veventq(depth: int) -> tuple[VeventQueue, EventFile]:
    context = Context()
    iommu = PhysicalIommu("iommu", bind_plugin(Listener()))
    viommu = Viommu(context=context, type=1, iommu=iommu, stage2=None)
    queue = VeventQueue(context=context, viommu=viommu, type=1, depth=depth)
    return queue, queue.open()


def read(file: EventFile, count: int, caller: Process) -> bytes:
    got = file.read(caller, BUFFER, count)
    return caller.read(BUFFER, got) or b""


def sequences(raw: bytes) -> list[tuple[int, bool]]:
    found, at = [], 0
    while at < len(raw):
        flags, sequence = struct.unpack_from("<II", raw, at)
        found.append((sequence, bool(flags & 1)))
        at += 8 if flags & 1 else 12
    return found


def test_lost_events_leave_one_mark_at_the_tail_with_the_last_number() -> None:
    queue, file = veventq(2)
    for _ in range(4):
        queue.put(b"\1\2\3\4")
    assert sequences(read(file, 64, process())) == [(0, False), (1, False), (3, True)]


def test_an_event_that_finds_room_takes_the_mark_s_place() -> None:
    queue, file = veventq(2)
    caller = process()
    for _ in range(4):
        queue.put(b"\1\2\3\4")
    assert sequences(read(file, 12, caller)) == [(0, False)]
    queue.put(b"\1\2\3\4")
    assert sequences(read(file, 64, caller)) == [(1, False), (4, False)]


def test_a_veventq_gives_whole_events_and_keeps_one_that_does_not_fit() -> None:
    queue, file = veventq(4)
    caller = process()
    assert file.read(caller, BUFFER, 7) == -errno.EINVAL
    assert file.read(caller, BUFFER, 8) == 0
    queue.put(b"\1\2\3\4")
    queue.put(b"\5\6\7\10")
    assert file.read(caller, BUFFER, 11) == -errno.EINVAL
    assert file.read(caller, 0, 64) == -errno.EFAULT
    assert file.read(caller, BUFFER, 64, 1) == -errno.ESPIPE
    assert file.write(caller, BUFFER, 8) == -errno.EINVAL
    assert sequences(read(file, 23, caller)) == [(0, False)]
    assert sequences(read(file, 23, caller)) == [(1, False)]


def test_an_fd_polls_readable_exactly_while_an_event_waits() -> None:
    queue, file = veventq(4)
    fd = file.fileno()
    assert file.poll() == 0
    assert not select.select([fd], [], [], 0)[0]
    queue.put(b"\1\2\3\4")
    queue.put(b"\1\2\3\4")
    assert file.poll() == 0x41
    assert select.select([fd], [], [], 0)[0]
    read(file, 12, process())
    assert select.select([fd], [], [], 0)[0]
    read(file, 12, process())
    assert not select.select([fd], [], [], 0)[0]
    file.release()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


class Faulting:
    """A device that is attached to a HWPT with a FAULT."""

    def __init__(self) -> None:
        self.driver, self.context, self.caller = Listener(), Context(), process()
        self.queue = FaultQueue(context=self.context)
        self.file = self.queue.open()
        self.device = PhysicalDevice("device", PhysicalIommu("iommu", bind_plugin(self.driver)))
        hwpt = NestedHwpt(context=self.context, iommu=self.device.iommu, domain=object(), parent=None)  # type: ignore[arg-type]
        hwpt.set_fault(self.queue)
        self.attachment = Attachment(hwpt, 7)
        self.device.group.attachments[0] = self.attachment

    def fault(self, addr: int, *, last: bool = True, grpid: int = 1) -> None:
        report_fault(self.device, PageFault(addr, 1, grpid, last=last))

    def read(self, count: int) -> list[tuple[int, ...]]:
        got = self.file.read(self.caller, BUFFER, count)
        assert got >= 0, got
        return list(RECORD.iter_unpack(self.caller.read(BUFFER, got) or b""))

    def respond(self, *responses: tuple[int, int]) -> int:
        self.caller.write(BUFFER, b"".join(RESPONSE.pack(*response) for response in responses))
        return self.file.write(self.caller, BUFFER, 8 * len(responses))


def test_a_group_is_read_whole_its_last_page_at_the_end() -> None:
    box = Faulting()
    box.fault(0x1000, last=False)
    box.fault(0x9000, last=False, grpid=2)
    assert box.file.poll() == 4
    box.fault(0x2000)
    assert box.file.poll() == 0x45
    assert box.file.read(box.caller, BUFFER, 40) == -errno.EINVAL
    assert box.file.read(box.caller, BUFFER, 0) == -errno.EINVAL
    assert box.file.read(box.caller, BUFFER, 39) == -errno.ESPIPE
    rows = box.read(400)
    assert [(row[0], row[1], row[6], row[8]) for row in rows] == [(0, 7, 0x1000, 1), (2, 7, 0x2000, 1)]
    assert box.read(400) == []


def test_responses_are_taken_up_to_the_first_that_is_wrong() -> None:
    box = Faulting()
    for addr in (0x1000, 0x2000):
        box.fault(addr)
    box.read(80)
    assert box.respond((1, 0), (9, 0), (2, 0)) == 8
    assert box.respond((2, 2)) == -errno.EINVAL
    assert box.respond((1, 0)) == -errno.EINVAL
    assert box.respond((2, 1)) == 8
    assert box.respond() == 0
    assert box.driver.answers == [(0x1000, True), (0x2000, False)]


def test_a_buffer_that_is_not_there_leaves_the_group_to_be_read() -> None:
    box = Faulting()
    box.fault(0x1000)
    assert box.file.read(box.caller, 0, 40) == -errno.EFAULT
    assert [row[8] for row in box.read(40)] == [1]


def test_what_nobody_answers_is_answered_invalid_when_the_attachment_ends() -> None:
    box = Faulting()
    box.fault(0x1000)
    box.read(40)
    box.fault(0x2000)
    box.queue.answer_for(box.attachment)
    assert sorted(box.driver.answers) == [(0x1000, False), (0x2000, False)]
    assert box.respond((1, 0)) == -errno.EINVAL
    assert box.file.poll() == 4
