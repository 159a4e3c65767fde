"""This process as the caller: its own memory, its own fds."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
from typing import TYPE_CHECKING

import numpy as np
import pytest

from viommu.iommufd import uapi
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.local import LocalProcess
from viommu.memory import PhysicalMemory
from viommu.selftest.test_cmd import ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.iommufd.uapi_struct import UapiStruct

PAGE = 4096
IOVA = 1 << 24
MAP_RW = uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.READABLE | uapi.MapFlags.WRITEABLE


class Program:
    """A program in this process that has /dev/iommu open."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory()
        self.process = LocalProcess(self.memory)
        self.file = IommuFd([ROW])
        self.buffer = mmap.mmap(-1, 4 * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))

    def ioctl(self, low: int, cmd: UapiStruct) -> tuple[int, bytes]:
        raw = ctypes.create_string_buffer(cmd.encode(), cmd.total)
        return self.file.ioctl(0x3B00 | low, ctypes.addressof(raw), self.process), raw.raw

    def ioas(self) -> int:
        result, raw = self.ioctl(0x81, uapi.IoasAlloc.of())
        assert result == 0
        return uapi.IoasAlloc.decode(raw).out_ioas_id

    def device(self, ioas: int) -> int:
        result, raw = self.ioctl(0xA0, uapi.TestCmd.of(op=2, id=ioas, body=bytes(48)))
        assert result == 0
        return int.from_bytes(raw[20:24], "little")

    def map(self, ioas: int, length: int = 4 * PAGE, address: int | None = None) -> int:
        address = self.address if address is None else address
        cmd = uapi.IoasMap.of(flags=MAP_RW, ioas_id=ioas, user_va=address, length=length, iova=IOVA)
        return self.ioctl(0x85, cmd)[0]

    def check_map(self, hwpt: int, address: int, length: int = 4 * PAGE) -> int:
        body = b"".join(value.to_bytes(8, "little") for value in (IOVA, length, address)).ljust(48, b"\0")
        return self.ioctl(0xA0, uapi.TestCmd.of(op=3, id=hwpt, body=body))[0]

    def check_refs(self, refs: int) -> int:
        body = (4 * PAGE).to_bytes(8, "little") + self.address.to_bytes(8, "little") + refs.to_bytes(4, "little")
        return self.ioctl(0xA0, uapi.TestCmd.of(op=4, body=body.ljust(48, b"\0")))[0]


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.file.release()


def test_memory_of_this_process_is_mapped_and_pinned_until_it_is_unmapped(program: Program) -> None:
    ioas = program.ioas()
    hwpt = program.device(ioas)
    assert program.map(ioas) == 0
    assert program.check_map(hwpt, program.address) == 0
    assert program.check_map(hwpt, program.address + PAGE, 2 * PAGE) == -errno.EINVAL
    assert program.check_refs(1) == 0
    assert program.ioctl(0x86, uapi.IoasUnmap.of(ioas_id=ioas, iova=IOVA, length=4 * PAGE))[0] == 0
    assert program.check_refs(0) == 0


def test_two_addresses_of_one_memfd_are_the_same_pages(program: Program) -> None:
    fd = os.memfd_create("viommu-test")
    os.ftruncate(fd, 4 * PAGE)
    with mmap.mmap(fd, 4 * PAGE) as first:
        address = ctypes.addressof(ctypes.c_char.from_buffer(first))
        ioas = program.ioas()
        hwpt = program.device(ioas)
        cmd = uapi.IoasMapFile.of(flags=MAP_RW, ioas_id=ioas, fd=fd, length=4 * PAGE, iova=IOVA)
        assert program.ioctl(0x8F, cmd)[0] == 0
        assert program.check_map(hwpt, address) == 0
        past_the_end = uapi.IoasMapFile.of(flags=MAP_RW, ioas_id=ioas, fd=fd, length=5 * PAGE, iova=2 * IOVA)
        assert program.ioctl(0x8F, past_the_end)[0] == -errno.EINVAL
    os.close(fd)


def test_what_is_not_mapped_or_not_writable_is_a_bad_address(program: Program) -> None:
    ioas = program.ioas()
    program.device(ioas)
    assert program.map(ioas, address=PAGE) == -errno.EFAULT
    assert program.file.ioctl(0x3B81, 0, program.process) == -errno.EFAULT
    assert program.file.ioctl(0x3B81, 1 << 63, program.process) == -errno.EFAULT
    read_only = mmap.mmap(-1, PAGE, prot=mmap.PROT_READ)
    address = int(np.frombuffer(read_only, np.uint8).ctypes.data)
    assert program.process.read(address, 8) == bytes(8)
    assert not program.process.write(address, b"x")
    assert program.map(ioas, PAGE, address) == -errno.EFAULT


def test_a_fault_queue_s_fd_is_real_and_goes_when_it_is_closed(program: Program) -> None:
    result, raw = program.ioctl(0x8E, uapi.FaultAlloc.of())
    assert result == 0
    fd = uapi.FaultAlloc.decode(raw).out_fault_fd
    assert not select.select([fd], [], [], 0)[0]
    assert program.process.file(fd).poll() == 4  # type: ignore[union-attr]
    assert program.process.close(fd) == 0
    assert program.process.close(fd) == -errno.EBADF
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_an_fd_that_is_not_open_is_none_of_ours(program: Program) -> None:
    ioas = program.ioas()
    for fd, code in ((-1, errno.EBADF), (1 << 20, errno.EBADF)):
        cmd = uapi.IoasMapFile.of(flags=MAP_RW, ioas_id=ioas, fd=fd, length=PAGE, iova=IOVA)
        assert program.ioctl(0x8F, cmd)[0] == -code
