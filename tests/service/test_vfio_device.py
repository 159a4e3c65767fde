"""The file of a device answers as vfio-pci's does: what the kernel's code says of each case."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from viommu import Machine
from viommu.iommufd import uapi
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.local import LocalProcess
from viommu.models import dma_tester
from viommu.vfio.device_file import DeviceFile
from viommu.vfio.devices import Devices, Plug
from viommu.vfio.uapi import DeviceIoctl, Region

if TYPE_CHECKING:
    from collections.abc import Iterator

NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER = (1 << bit for bit in range(6))
INTX, MSI, MSIX, ERR, REQ = range(5)
COMMAND = 4
GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
ENTRY, EXIT = 3, 5
BIND, ATTACH, DETACH = DeviceIoctl.BIND_IOMMUFD, DeviceIoctl.ATTACH_IOMMUFD_PT, DeviceIoctl.DETACH_IOMMUFD_PT


class Lender(LocalProcess):
    """This process, which lends its descriptors."""

    def descriptor(self, fd: int) -> int | None:
        try:
            return os.dup(fd)
        except OSError:
            return None


@define(eq=False)
class Program:
    """It has /dev/iommu and a device's file open."""

    machine: Machine
    devices: Devices
    process: Lender
    file: DeviceFile
    iommu: int
    room: ctypes.Array[ctypes.c_char] = field(factory=lambda: ctypes.create_string_buffer(4096))

    @classmethod
    def of(cls, plug: str, driver: str = "vtd") -> Program:
        machine = Machine(driver)
        devices = Devices(machine)
        devices.add(Plug.parse(plug))
        process = Lender(machine.memory)
        return cls(machine, devices, process, DeviceFile(devices[0]), process.install(machine.open_file()))

    def call(self, number: int, raw: bytes) -> tuple[int, bytes]:
        ctypes.memmove(self.room, raw, len(raw))
        result = self.file.ioctl(number, ctypes.addressof(self.room), self.process)
        return result, self.room.raw

    def bind(self) -> int:
        return self.call(BIND, struct.pack("<IIiIQ", 24, 0, self.iommu, 0, 0))[0]

    def irqs(self, flags: int, index: int, start: int, count: int, data: bytes = b"") -> int:
        raw = struct.pack("<5I", 20 + len(data), flags, index, start, count) + data
        return self.call(DeviceIoctl.SET_IRQS, raw)[0]

    def eventfds(self, index: int, *fds: int, start: int = 0) -> int:
        return self.irqs(EVENTFD | TRIGGER, index, start, len(fds), struct.pack(f"<{len(fds)}i", *fds))

    def feature(self, flags: int) -> int:
        return self.call(DeviceIoctl.FEATURE, struct.pack("<II", 8, flags))[0]

    def read(self, region: int, offset: int, count: int) -> int | bytes:
        done = self.file.read(self.process, ctypes.addressof(self.room), count, region << 40 | offset)
        return done if done <= 0 else self.room.raw[:done]

    def write(self, region: int, offset: int, data: bytes) -> int:
        ctypes.memmove(self.room, data, len(data))
        return self.file.write(self.process, ctypes.addressof(self.room), len(data), region << 40 | offset)


@pytest.fixture
def edu() -> Program:
    program = Program.of("edu@00:10.0")
    assert program.bind() == 0
    return program


@pytest.fixture
def nvme() -> Program:
    program = Program.of("nvme@00:10.0,size=1M")
    assert program.bind() == 0
    return program


@pytest.fixture
def event() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def count_of(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


# --- interrupts


def test_only_an_eventfd_is_taken_for_an_interrupt(edu: Program, event: int) -> None:
    reader, writer = os.pipe()
    assert edu.eventfds(MSI, writer) == -errno.EINVAL
    assert edu.eventfds(MSI, 999) == -errno.EBADF
    assert edu.eventfds(MSI, event) == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("blocking", [True, False])
def test_an_eventfd_that_is_full_stays_full_and_holds_nobody_up(edu: Program, blocking: bool) -> None:
    fd = os.eventfd(0, 0 if blocking else os.EFD_NONBLOCK)
    os.eventfd_write(fd, (1 << 64) - 2)
    assert edu.eventfds(MSI, fd) == 0
    assert edu.irqs(NONE | TRIGGER, MSI, 0, 1) == 0
    assert edu.write(0, 0x60, b"\1\0\0\0") == 4
    assert os.eventfd_read(fd) == (1 << 64) - 2
    os.close(fd)


def test_one_kind_of_interrupt_is_in_use_at_a_time(edu: Program, event: int) -> None:
    assert edu.eventfds(MSI, event) == 0
    assert edu.eventfds(INTX, event) == -errno.EINVAL
    assert edu.irqs(NONE | TRIGGER, INTX, 0, 0) == -errno.EINVAL
    assert edu.irqs(NONE | TRIGGER, MSI, 0, 0) == 0
    assert edu.eventfds(INTX, event) == 0
    assert edu.irqs(NONE | TRIGGER, MSI, 0, 1) == -errno.EINVAL


def test_what_is_not_set_up_cannot_be_taken_away_or_triggered(nvme: Program, event: int) -> None:
    for count in (0, 1):
        assert nvme.irqs(NONE | TRIGGER, MSIX, 0, count) == -errno.EINVAL
    assert nvme.irqs(BOOL | TRIGGER, MSIX, 0, 1, b"\1") == -errno.EINVAL
    assert nvme.irqs(NONE | TRIGGER, REQ, 0, 1) == -errno.EINVAL
    assert nvme.eventfds(MSIX, event, -1, event, start=1) == 0
    assert nvme.irqs(BOOL | TRIGGER, MSIX, 1, 3, b"\1\1\0") == 0
    assert count_of(event) == 1
    assert nvme.irqs(NONE | TRIGGER, MSIX, 1, 3) == 0
    assert count_of(event) == 2


@pytest.mark.parametrize(
    ("flags", "index", "start", "count", "data", "code"),
    [
        (NONE | MASK, MSI, 0, 1, b"", errno.ENOTTY),
        (NONE | UNMASK, REQ, 0, 1, b"", errno.ENOTTY),
        (NONE | MASK | TRIGGER, MSI, 0, 1, b"", errno.ENOTTY),
        (NONE, MSI, 0, 1, b"", errno.ENOTTY),
        (TRIGGER, MSI, 0, 1, b"", errno.EINVAL),
        (NONE | BOOL | TRIGGER, MSI, 0, 1, b"\1", errno.EINVAL),
        (NONE | TRIGGER | 64, MSI, 0, 1, b"", errno.EINVAL),
        (NONE | TRIGGER, 5, 0, 1, b"", errno.EINVAL),
        (NONE | TRIGGER, MSI, 1, 0, b"", errno.EINVAL),
        (NONE | TRIGGER, MSI, 0, 2, b"", errno.EINVAL),
        (NONE | TRIGGER, MSIX, 0, 0, b"", errno.EINVAL),
        (EVENTFD | TRIGGER, MSI, 0, 1, b"\1\0", errno.EINVAL),
        (NONE | MASK, INTX, 0, 1, b"", errno.EINVAL),
        (EVENTFD | TRIGGER, ERR, 0, 0, b"", errno.EINVAL),
    ],
)
def test_what_cannot_be_asked_of_interrupts_is_refused(
    edu: Program, flags: int, index: int, start: int, count: int, data: bytes, code: int
) -> None:
    assert edu.irqs(flags, index, start, count, data) == -code


def test_a_wire_masks_itself_until_it_is_unmasked(edu: Program, event: int) -> None:
    assert edu.eventfds(INTX, event) == 0
    for _ in range(2):
        edu.write(0, 0x60, b"\1\0\0\0")
    assert count_of(event) == 1
    assert edu.irqs(NONE | UNMASK, INTX, 0, 1) == 0
    assert count_of(event) == 1
    assert edu.irqs(BOOL | UNMASK, INTX, 0, 1, b"\0") == 0
    assert edu.irqs(BOOL | UNMASK, INTX, 0, 1, b"\1") == 0
    edu.write(Region.CONFIG, COMMAND, struct.pack("<H", 0x402))
    edu.write(0, 0x60, b"\1\0\0\0")
    assert count_of(event) == 0
    edu.write(Region.CONFIG, COMMAND, struct.pack("<H", 2))
    assert count_of(event) == 1


def test_errors_of_the_device_have_an_eventfd_of_their_own(edu: Program, event: int) -> None:
    raw = edu.call(DeviceIoctl.GET_IRQ_INFO, struct.pack("<4I", 16, 0, ERR, 0))[1]
    assert struct.unpack("<4I", raw[:16])[3] == 1
    assert edu.eventfds(MSI, event) == 0
    for index in (ERR, REQ):
        assert edu.eventfds(index, event) == 0
        assert edu.irqs(NONE | TRIGGER, index, 0, 1) == 0
        assert edu.eventfds(index, -1) == 0
        assert edu.irqs(NONE | TRIGGER, index, 0, 1) == -errno.EINVAL
    assert count_of(event) == 2


# --- regions


def test_a_bar_with_msixs_table_says_that_it_may_be_mapped(nvme: Program) -> None:
    raw = struct.pack("<4I2Q", 32, 0, 0, 0, 0, 0)
    _, small = nvme.call(DeviceIoctl.GET_REGION_INFO, raw)
    assert struct.unpack("<4I", small[:16]) == (40, 0b1111, 0, 0)
    _, large = nvme.call(DeviceIoctl.GET_REGION_INFO, struct.pack("<I", 40) + raw[4:])
    assert struct.unpack("<4I", large[:16]) == (40, 0b1111, 0, 32)
    assert struct.unpack("<HHI", large[32:40]) == (3, 1, 0)


def test_bars_answer_while_memory_is_enabled(edu: Program) -> None:
    assert edu.read(Region.CONFIG, COMMAND, 2) == b"\2\0"
    assert edu.read(0, 0, 4) == struct.pack("<I", 0x010000ED)
    edu.write(Region.CONFIG, COMMAND, b"\0\0")
    assert edu.read(0, 0, 4) == -errno.EIO
    assert edu.write(0, 4, b"abcd") == -errno.EIO
    edu.write(Region.CONFIG, COMMAND, b"\2\0")
    assert edu.read(0, 4, 4) == b"\0\0\0\0"


@pytest.mark.parametrize(
    ("region", "offset", "count", "result"),
    [
        (Region.CONFIG, 4094, 4, -errno.EFAULT),
        (Region.CONFIG, 4096, 1, -errno.EFAULT),
        (Region.CONFIG, 5000, 0, 0),
        (0, 1 << 20, 4, -errno.EINVAL),
        (1, 0, 4, -errno.EINVAL),
        (Region.ROM, 0, 4, -errno.EINVAL),
        (Region.VGA, 0, 4, -errno.EINVAL),
        (9, 0, 4, -errno.EINVAL),
    ],
)
def test_what_lies_in_no_region_is_refused(edu: Program, region: int, offset: int, count: int, result: int) -> None:
    assert edu.read(region, offset, count) == result
    assert edu.write(region, offset, b"\0" * count) == result


def test_an_access_that_reaches_beyond_a_bar_is_cut(edu: Program) -> None:
    assert len(edu.read(0, (1 << 20) - 8, 64)) == 8  # type: ignore[arg-type]


# --- reset


def test_a_reset_leaves_the_configuration_as_it_was(edu: Program) -> None:
    edu.write(Region.CONFIG, COMMAND, b"\6\0")
    edu.write(0, 4, b"abcd")
    assert edu.call(DeviceIoctl.RESET, b"")[0] == 0
    assert edu.read(Region.CONFIG, COMMAND, 2) == b"\6\0"
    assert edu.read(0, 4, 4) == b"\0\0\0\0"


def test_software_resets_the_function_by_its_express_capability(edu: Program) -> None:
    at = edu.read(Region.CONFIG, 0x34, 1)[0]  # type: ignore[index]
    while edu.read(Region.CONFIG, at, 1) != b"\x10":
        at = edu.read(Region.CONFIG, at + 1, 1)[0]  # type: ignore[index]
    edu.write(0, 4, b"abcd")
    edu.write(Region.CONFIG, at + 8, b"\0\x80")
    assert edu.read(0, 4, 4) == b"\0\0\0\0"
    assert edu.read(Region.CONFIG, at + 8, 2) == b"\0\0"
    assert edu.read(Region.CONFIG, COMMAND, 2) == b"\2\0"


def test_a_reset_takes_back_what_was_put_off() -> None:
    program = Program.of("edu@00:10.0,delay=20")
    program.bind()
    program.write(0, 8, struct.pack("<I", 5))
    assert program.read(0, 0x20, 4) == struct.pack("<I", 1)
    program.call(DeviceIoctl.RESET, b"")
    program.write(0, 8, struct.pack("<I", 3))
    for _ in range(1000):
        if program.read(0, 0x20, 4) == bytes(4):
            break
        time.sleep(0.005)
    assert program.read(0, 8, 4) == struct.pack("<I", 6)


def test_who_opens_a_device_anew_finds_it_as_the_host_leaves_it(edu: Program, event: int) -> None:
    edu.write(Region.CONFIG, COMMAND, b"\6\0")
    edu.write(0, 4, b"abcd")
    edu.eventfds(MSI, event)
    edu.file.release()
    edu.file = DeviceFile(edu.devices[0])
    assert edu.bind() == 0
    assert edu.read(Region.CONFIG, COMMAND, 2) == b"\2\0"
    assert edu.read(0, 4, 4) == b"\0\0\0\0"
    assert edu.irqs(NONE | TRIGGER, MSI, 0, 1) == -errno.EINVAL


# --- features


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        (PROBE | ENTRY, 0),
        (PROBE | SET | ENTRY, 0),
        (PROBE | GET | ENTRY, -errno.EINVAL),
        (GET | ENTRY, -errno.EINVAL),
        (GET | SET | ENTRY, -errno.EINVAL),
        (ENTRY, -errno.EINVAL),
        (PROBE | 1 << 19 | ENTRY, -errno.EINVAL),
        (SET | EXIT, 0),
        (PROBE | 2, -errno.ENOTTY),
        (0, -errno.ENOTTY),
    ],
)
def test_features_are_probed_got_and_set_by_their_rules(edu: Program, flags: int, result: int) -> None:
    assert edu.feature(flags) == result


def test_a_device_rests_once_until_it_is_woken(edu: Program) -> None:
    assert edu.feature(SET | ENTRY) == 0
    assert edu.feature(SET | ENTRY) == -errno.EINVAL
    assert edu.read(0, 0, 4) == struct.pack("<I", 0x010000ED)
    assert edu.feature(SET | EXIT) == 0
    assert edu.feature(SET | ENTRY) == 0


# --- who owns it


def test_a_device_is_opened_by_its_group_or_by_itself(edu: Program) -> None:
    with pytest.raises(Exception, match="EBUSY"):
        edu.devices.groups[0].open()
    edu.file.release()
    group = edu.devices.groups[0].open()
    edu.file = DeviceFile(edu.devices[0])
    assert edu.bind() == -errno.EBUSY
    group.release()
    assert edu.bind() == 0


def test_pasids_are_attached_beside_the_device() -> None:
    program = Program.of(f"{dma_tester.__file__}@00:10.0")
    program.bind()
    file = program.process.files[program.iommu]
    assert isinstance(file, IommuFd)

    def ioctl(cmd: uapi.IoasAlloc | uapi.HwptAlloc) -> bytes:
        raw = ctypes.create_string_buffer(cmd.encode(), cmd.total)
        number = file.number_of(type(cmd))
        assert file.ioctl(number, ctypes.addressof(raw), program.process) == 0
        return raw.raw

    ioas = uapi.IoasAlloc.decode(ioctl(uapi.IoasAlloc.of())).out_ioas_id
    device = program.file.device
    assert device is not None
    wanted = uapi.HwptAlloc.of(dev_id=device.id, pt_id=ioas, flags=uapi.HwptFlags.PASID)
    hwpt = uapi.HwptAlloc.decode(ioctl(wanted)).out_hwpt_id
    attach = struct.pack("<4I", 16, 1, hwpt, 5)
    assert program.call(ATTACH, attach)[0] == 0
    assert program.call(ATTACH, struct.pack("<4I", 12, 1, hwpt, 5))[0] == -errno.EINVAL
    assert program.call(ATTACH, struct.pack("<4I", 16, 2, hwpt, 5))[0] == -errno.EINVAL
    assert program.call(ATTACH, struct.pack("<4I", 16, 1, 999, 6))[0] == -errno.ENOENT
    assert program.call(ATTACH, struct.pack("<4I", 16, 1, hwpt, 1 << 20))[0] == -errno.EINVAL
    assert set(device.group.attachments) == {5}
    assert program.call(DETACH, struct.pack("<3I", 12, 1, 5))[0] == 0
    assert program.call(DETACH, struct.pack("<3I", 8, 1, 5))[0] == -errno.EINVAL
    assert not device.group.attachments
