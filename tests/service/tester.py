"""A program that owns a dma-tester in the test's own process. Layouts are written down here by hand."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from viommu import Iotlb, Machine
from viommu.policies import MAINLINE, Policy
from viommu.vfio.function import Function
from viommu.vfio.uapi import Region, SetIrqs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.iommufd import Iommufd

PAGE = 4096
RING, RECORDS, DATA = 0x100_0000, 0x110_0000, 0x200_0000
"""IOVAs of the ring, of completion records, and of the rest of memory."""
SIZE_LG2 = 8
NOP, READ, WRITE, COPY, COMPARE, FILL, ADD, SWAP, CAS, TRANSLATE, ASK = range(11)
FENCE, INTERRUPT, ATS, PRI, PRIVILEGED, EXECUTE = (1 << bit for bit in range(8, 14))
WAIT_SECONDS = 20


@define
class Record:
    """A completion record, as memory has it."""

    cookie: int
    address: int
    result: int
    index: int
    status: int
    at_target: bool
    detail: int
    phase: int

    @classmethod
    def of(cls, raw: bytes) -> Record:
        cookie, address, result, index, status, side, detail, phase = struct.unpack("<QQQIBBBB", raw)
        return cls(cookie, address, result, index, status, bool(side & 1), detail & 0xF, phase >> 7)


def descriptor(
    operation: int,
    flags: int = 0,
    *,
    length: int = 0,
    source: int = 0,
    target: int = 0,
    operand: int = 0,
    operand2: int = 0,
    cookie: int = 0,
    source_pasid: int | None = None,
    target_pasid: int | None = None,
) -> bytes:
    first = operation | flags
    for at, valid, pasid in ((16, 14, source_pasid), (36, 15, target_pasid)):
        if pasid is not None:
            first |= 1 << valid | pasid << at
    return struct.pack("<8Q", first, length, source, target, operand, operand2, cookie, 0)


@define(eq=False)
class Owner:
    """It has a ring at `RING`, mapped with its completion records, and ``data`` at `DATA`."""

    machine: Machine
    iommu: Iommufd
    function: Function
    device: Device
    ring: NDArray[np.uint8]
    records: NDArray[np.uint8]
    data: NDArray[np.uint8]
    tail: int = 0
    seen: int = 0
    cookies: int = field(default=0)

    @classmethod
    def make(
        cls, driver: str, plug: Callable[[Function, Machine], None], policy: Policy = MAINLINE, megabytes: int = 1
    ) -> Owner:
        machine = Machine(driver, iotlb=Iotlb(entries=4096), policy=policy)
        function = Function("0000:00:10.0")
        plug(function, machine)
        function.open()
        iommu = machine.open_iommufd()
        device = iommu.bind(function.endpoint)
        ring, records = machine.buffer(64 << SIZE_LG2), machine.buffer(32 << SIZE_LG2)
        made = cls(machine, iommu, function, device, ring, records, machine.buffer(megabytes << 20))
        function.store(Region.CONFIG, 4, (6).to_bytes(2, "little"))
        return made

    def map_all(self, ioas: object, *, data: bool = True) -> None:
        """Map ring and records, and memory."""
        for buffer, iova in ((self.ring, RING), (self.records, RECORDS), *([(self.data, DATA)] if data else [])):
            ioas.map(buffer, iova)  # type: ignore[attr-defined]

    def attach(self) -> None:
        """Attach to an IOAS where all is mapped."""
        ioas = self.iommu.ioas_alloc()
        self.map_all(ioas)
        self.device.attach(ioas)

    def load(self, offset: int, size: int = 4) -> int:
        raw = self.function.load(0, offset, size)
        assert raw is not None
        return int.from_bytes(raw, "little")

    def store(self, offset: int, value: int, size: int = 4) -> None:
        assert self.function.store(0, offset, value.to_bytes(size, "little"))

    def enable(self, pasid: int | None = None, ring: int = 0, size_lg2: int = SIZE_LG2) -> None:
        at = 0x1000 + 0x40 * ring
        self.store(at, RING, 8)
        self.store(at + 8, RECORDS, 8)
        self.store(at + 0x10, size_lg2)
        self.store(at + 0x14, 0 if pasid is None else 1 << 31 | pasid)
        self.store(at + 0x18, 0)
        self.store(at + 0x18, 1)
        self.tail = self.seen = 0
        self.records[:] = 0

    def submit(self, *descriptors: bytes) -> None:
        """Put descriptors into ring 0, and tell the device."""
        for raw in descriptors:
            at = self.tail % (1 << SIZE_LG2) * 64
            self.ring[at : at + 64] = np.frombuffer(raw, np.uint8)
            self.tail = self.tail + 1 & 0xFFFF_FFFF
        self.store(0x1020, self.tail)

    def listen(self) -> list[int]:
        """Have each ring's vector raise an eventfd."""
        fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]
        asked = SetIrqs.of(argsz=36, flags=0x24, index=2, start=0, count=4)
        self.function.interrupts.set(asked, lambda _: struct.pack("<4i", *fds), os.dup)
        return fds

    def next_record(self, seconds: float = WAIT_SECONDS) -> Record:
        """Wait for the next completion record, by its phase."""
        at, phase = self.seen % (1 << SIZE_LG2) * 32, 1 ^ self.seen >> SIZE_LG2 & 1
        until = time.monotonic() + seconds
        while self.records[at + 31] >> 7 != phase:
            assert time.monotonic() < until, "no completion record came"
            time.sleep(0.0005)
        self.seen += 1
        return Record.of(self.records[at : at + 32].tobytes())

    def do(self, operation: int, flags: int = 0, **fields: int | None) -> Record:
        """Do one thing, and give its record."""
        self.cookies += 1
        self.submit(descriptor(operation, flags, cookie=self.cookies, **fields))  # type: ignore[arg-type]
        record = self.next_record()
        assert record.cookie == self.cookies
        return record


def raised(fds: list[int]) -> list[int]:
    """Say how often each vector was raised, and close them."""
    time.sleep(0.01)
    found: list[int] = []
    for fd in fds:
        try:
            found.append(os.eventfd_read(fd))
        except BlockingIOError:
            found.append(0)
        os.close(fd)
    return found
