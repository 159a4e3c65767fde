"""Threads that use one open file at the same time, as a VMM's do."""

from __future__ import annotations

import faulthandler
import random
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.iommufd.client import APERTURE, BUFFER, PAGE, SELFTEST_DATA, SELFTEST_EVENTS, SELFTEST_VIOMMU, STRUCT, Client
from tests.iommufd.state import pins_of, state_of
from viommu.iommufd import uapi

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.uapi_struct import UapiStruct

NESTED = struct.pack("<II", 0xBADBEEF, 0)
THREADS = 8
LAST_ID = 40
STUCK_AFTER = 120
"""Seconds until a deadlock is told with the stacks of all threads."""


class Worker(threading.Thread):
    """Makes random calls until it is told to stop; keeps what went wrong."""

    def __init__(self, client: Client, seed: int, until: float) -> None:
        super().__init__(name=f"worker {seed}")
        self.client = client
        self.random = random.Random(seed)
        self.at = STRUCT + (1 + seed) * PAGE
        self.until = until
        self.calls = 0
        self.wrong: BaseException | None = None

    def run(self) -> None:
        try:
            while time.monotonic() < self.until:
                self.random.choice(CALLS)(self)
                self.calls += 1
        except BaseException as error:  # noqa: BLE001 - it is told by the test's own thread
            self.wrong = error

    def any_id(self) -> int:
        return self.random.randrange(LAST_ID)

    def make(self, number: int, cmd: UapiStruct) -> int:
        client = self.client
        client.process.write(self.at, cmd.encode())
        return client.subject.ioctl(client.process, client.file, number, self.at)

    def test(self, op: int, number: int, *words: int) -> int:
        body = struct.pack(f"<{len(words)}I", *words)
        return self.make(0x3BA0, uapi.TestCmd.of(op=op, id=number, body=body.ljust(48, b"\0")))

    def map(self) -> None:
        iova = APERTURE + self.random.randrange(64) * PAGE
        length = self.random.randrange(1, 4) * PAGE
        self.make(0x3B85, uapi.IoasMap.of(flags=7, ioas_id=self.any_id(), user_va=BUFFER, length=length, iova=iova))

    def unmap(self) -> None:
        iova = APERTURE + self.random.randrange(64) * PAGE
        self.make(0x3B86, uapi.IoasUnmap.of(ioas_id=self.any_id(), iova=iova, length=8 * PAGE))

    def destroy(self) -> None:
        self.make(0x3B80, uapi.Destroy.of(id=self.any_id()))

    def hwpt(self) -> None:
        """A paging HWPT of any kind, or a nested one on a parent or a vIOMMU, with or without a FAULT."""
        nested = self.random.random() < 0.5
        self.client.process.write(self.at + 256, NESTED)
        cmd = uapi.HwptAlloc.of(
            dev_id=self.any_id(),
            pt_id=self.any_id(),
            flags=self.random.choice((0, 1, 2, 4, 8)),
            data_type=SELFTEST_DATA if nested else 0,
            data_len=len(NESTED) if nested else 0,
            data_uptr=self.at + 256 if nested else 0,
            fault_id=self.any_id(),
        )
        self.make(0x3B89, cmd)

    def any_fd(self) -> int:
        files = list(self.client.process.files)
        return self.random.choice(files) if files else 0

    def read_an_fd(self) -> None:
        """Read events, or answer a page request that may be there."""
        client = self.client
        entry = client.process.files.get(self.any_fd())
        if entry is None:
            return
        if self.random.random() < 0.5:
            client.subject.read(client.process, entry.file, self.at + 512, 240)
            return
        client.process.write(self.at + 512, uapi.HwptPageResponse.of(cookie=self.random.randrange(4)).encode())
        client.subject.write(client.process, entry.file, self.at + 512, uapi.HwptPageResponse.total)

    def close_an_fd(self) -> None:
        files = self.client.process.files
        fd = next(iter(list(files)), None)
        if fd is not None and self.random.random() < 0.3:
            self.client.process.close(fd)


CALLS: list[Callable[[Worker], object]] = [
    lambda w: w.make(0x3B81, uapi.IoasAlloc.of()),
    Worker.map,
    Worker.map,
    Worker.unmap,
    Worker.destroy,
    Worker.destroy,
    Worker.close_an_fd,
    lambda w: w.test(12, w.any_id(), 0, 0, 0, 0),
    lambda w: w.test(10, w.any_id(), w.any_id()),
    lambda w: w.test(5, w.any_id(), 0, 1),
    lambda w: w.test(15, 0, w.any_id(), 0, 1, 1),
    lambda w: w.test(17, 0, w.any_id()),
    Worker.hwpt,
    Worker.hwpt,
    Worker.read_an_fd,
    lambda w: w.test(12, w.any_id(), 0, 0, 0, 4),
    lambda w: w.test(w.random.choice((18, 19, 20)), w.any_id(), w.random.randrange(3), w.any_id()),
    lambda w: w.test(7, w.any_fd(), 0, 0, APERTURE + w.random.randrange(64) * PAGE, 0, PAGE, 0, 0, 0),
    lambda w: w.test(6, w.any_fd(), w.random.randrange(4)),
    lambda w: w.test(11, w.any_fd(), w.any_id()),
    lambda w: w.make(0x3B87, uapi.Option.of(option_id=1, op=0, object_id=w.any_id(), val64=w.random.randrange(2))),
    lambda w: w.make(0x3B8B, uapi.HwptSetDirtyTracking.of(hwpt_id=w.any_id(), flags=w.random.randrange(2))),
    lambda w: w.make(
        0x3B8C,
        uapi.HwptGetDirtyBitmap.of(
            hwpt_id=w.any_id(), iova=APERTURE, length=64 * PAGE, page_size=PAGE, data=w.at + 1024
        ),
    ),
    lambda w: w.make(0x3B86, uapi.IoasUnmap.of(ioas_id=w.any_id(), iova=0, length=(1 << 64) - 1)),
    lambda w: w.make(0x3B8E, uapi.FaultAlloc.of()),
    lambda w: w.make(0x3B90, uapi.ViommuAlloc.of(type=SELFTEST_VIOMMU, dev_id=w.any_id(), hwpt_id=w.any_id())),
    lambda w: w.make(0x3B91, uapi.VdeviceAlloc.of(viommu_id=w.any_id(), dev_id=w.any_id(), virt_id=w.any_id())),
    lambda w: w.make(0x3B93, uapi.VeventqAlloc.of(viommu_id=w.any_id(), type=SELFTEST_EVENTS, veventq_depth=4)),
    lambda w: w.make(
        0x3B94,
        uapi.HwQueueAlloc.of(viommu_id=w.any_id(), type=SELFTEST_VIOMMU, nesting_parent_iova=APERTURE, length=PAGE),
    ),
    lambda w: w.make(
        0x3B83,
        uapi.IoasCopy.of(
            flags=6, dst_ioas_id=w.any_id(), src_ioas_id=w.any_id(), length=PAGE, src_iova=APERTURE + PAGE
        ),
    ),
]


@pytest.mark.parametrize(
    "seconds", [pytest.param(5, id="seconds"), pytest.param(60, id="a minute", marks=pytest.mark.long)]
)
def test_threads_on_one_open_file_break_nothing(seconds: int) -> None:
    client = Client()
    until = time.monotonic() + seconds
    workers = [Worker(client, seed, until) for seed in range(THREADS)]
    faulthandler.dump_traceback_later(seconds + STUCK_AFTER, exit=True)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    faulthandler.cancel_dump_traceback_later()
    assert [worker.wrong for worker in workers] == [None] * THREADS
    assert all(worker.calls for worker in workers)
    assert all(users >= 1 for _, users in state_of(client)["objects"].values())
    client.close()
    assert not pins_of(client)
    assert client.process.account.pinned == 0
