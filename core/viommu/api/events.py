"""FAULT and VEVENTQ: queues that are read, polled, and waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from attrs import define, frozen

from viommu.api.buffers import address_of
from viommu.api.handle import Handle
from viommu.iommufd.uapi import FaultFlags, HwptPageResponse, HwptPgfault, ResponseCode, VeventHeader
from viommu.kernel_errors import refusal
from viommu.objects.veventq import VeventQueue

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from viommu.iommufd.user_memory import UserFile

MOST_RECORDS = 1024
"""How many page requests are read at a time."""

PASID_VALID, LAST_PAGE = int(FaultFlags.PASID_VALID), int(FaultFlags.LAST_PAGE)  # an enum's operators are slow

T = TypeVar("T")


@frozen
class PageRequest:
    """One page request of a device, as user space reads it. ``perm``: 1 read, 2 write, 4 execute, 8 privileged."""

    dev_id: int
    addr: int
    perm: int
    group: int
    pasid: int | None
    last: bool
    cookie: int

    @classmethod
    def decode(cls, raw: bytes) -> PageRequest:
        """Take it from its record."""
        record = HwptPgfault.decode(raw)
        pasid = record.pasid if record.flags & PASID_VALID else None
        last = bool(record.flags & LAST_PAGE)
        return cls(record.dev_id, record.addr, record.perm, record.grpid, pasid, last, record.cookie)


@frozen
class Event:
    """One event of a vIOMMU: its number and the vendor's record."""

    sequence: int
    data: bytes

    @property
    def lost(self) -> bool:
        """Whether this is the mark that events up to this number were lost."""
        return not self.data


@define(eq=False, repr=False)
class Queue(Handle, Generic[T]):
    """A queue with an fd that polls readable while something waits, for select, epoll and asyncio."""

    fd: int

    def fileno(self) -> int:
        """Give the fd. It is for waiting; `read` reads."""
        return self.fd

    def read(self) -> list[T]:
        """Give what waits; nothing where nothing waits. Never blocks."""
        raise NotImplementedError

    async def get(self) -> list[T]:
        """Wait until something is there, and give it."""
        while not (found := self.read()):
            await _readable(self.fd)
        return found

    async def __aiter__(self) -> AsyncIterator[T]:
        """Give what comes, for ever."""
        while True:
            for item in await self.get():
                yield item

    def destroy(self) -> None:
        """Close the fd and destroy the queue. Raises Busy while something holds it; then only the fd is closed."""
        if self.fd in self.iommufd.process.files:
            self.iommufd.process.close(self.fd)
        super().destroy()

    @property
    def _file(self) -> UserFile:
        return self.iommufd.process.files[self.fd]

    def _read(self, count: int) -> bytes:
        room = np.empty(count, np.uint8)
        done = self._file.read(self.iommufd.process, address_of(room), count)
        if done < 0:
            raise refusal(-done, self.label, "read of", count, "as many bytes as what waits first has")
        return room[:done].tobytes()


@define(eq=False, repr=False)
class FaultQueue(Queue[PageRequest]):
    """Page requests of devices, to be answered by their cookie."""

    def read(self) -> list[PageRequest]:
        """Give whole groups that wait; nothing where nothing waits. Raises Invalid for a group beyond all bounds."""
        size = HwptPgfault.total
        raw = self._read(size * MOST_RECORDS)
        return [PageRequest.decode(raw[at : at + size]) for at in range(0, len(raw), size)]

    def respond(self, request: PageRequest | int, *, success: bool = True) -> None:
        """Answer a group, by a request of it or by its cookie. Raises Invalid where it does not wait for an answer."""
        cookie = request.cookie if isinstance(request, PageRequest) else request
        code = ResponseCode.SUCCESS if success else ResponseCode.INVALID
        raw = np.frombuffer(bytearray(HwptPageResponse.of(cookie=cookie, code=code).encode()), np.uint8)
        done = self._file.write(self.iommufd.process, address_of(raw), raw.size)
        if done < 0:
            raise refusal(-done, self.label, "cookie", cookie, "that of a group that was read and not answered")


@define(eq=False, repr=False)
class EventQueue(Queue[Event]):
    """Events of one type of a vIOMMU; ``depth`` of them at most wait."""

    type: int
    depth: int

    def _told(self) -> str:
        return f" of type {self.type:#x}, depth {self.depth}"

    def read(self) -> list[Event]:
        """Give what waits, one by one, as records do not tell their length."""
        waiting = self.iommufd.found(self.id, VeventQueue)
        found: list[Event] = []
        while size := waiting.first_size:
            raw = self._read(size)
            found.append(Event(VeventHeader.decode(raw[: VeventHeader.total]).sequence, raw[VeventHeader.total :]))
        return found


async def _readable(fd: int) -> None:
    import asyncio  # noqa: PLC0415 - who waits for nothing need not load it

    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _wake, waiter)
    try:
        await waiter
    finally:
        loop.remove_reader(fd)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
