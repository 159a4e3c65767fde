"""FAULT: page requests of devices, on their way to user space and back."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Never

from attrs import define, field

from viommu.iommufd.uapi import FaultFlags, HwptPageResponse, HwptPgfault, ResponseCode
from viommu.kernel_errors import Invalid
from viommu.numbers import LowestFree
from viommu.objects.event_file import POLLOUT, EventObject
from viommu.objects.listeners import find_listener

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.device import Attachment
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.vdevice import Vdevice
    from viommu.ops import PageFault

__all__ = [
    "report_fault",
]

RECORD = HwptPgfault.total
RESPONSE = HwptPageResponse.total
CODES = frozenset(ResponseCode)
COOKIES = range(1, 1 << 31)
PASID_VALID, LAST_PAGE = int(FaultFlags.PASID_VALID), int(FaultFlags.LAST_PAGE)  # an enum's operators are slow

MOST_PARTIAL = 1 << 16
"""Page requests of one device that may wait for the last of their group; there are 512 groups."""


@define(eq=False)
class FaultGroup:
    """Page requests that are answered together; the last one ends the group.

    ``source`` is what brings them to user space: when it ends, they are answered. ``dev_id`` is what records name.
    """

    source: Attachment | Vdevice
    dev_id: int
    device: PhysicalDevice
    faults: tuple[PageFault, ...]
    cookie: int = 0

    def encode(self) -> list[bytes]:
        """Give the records, as user space reads them."""
        return [self._record(fault).encode() for fault in self.faults]

    def _record(self, fault: PageFault) -> HwptPgfault:
        flags = (PASID_VALID if fault.pasid is not None else 0) | (LAST_PAGE if fault.last else 0)
        return HwptPgfault.of(
            flags=flags,
            dev_id=self.dev_id,
            pasid=fault.pasid or 0,
            grpid=fault.grpid,
            perm=fault.perm,
            addr=fault.addr,
            cookie=self.cookie,
        )

    def respond(self, *, success: bool) -> None:
        """Answer the device."""
        driver = self.device.iommu.driver
        driver.ask("viommu_page_response", device=self.device, fault=self.faults[-1], success=success)


@define(eq=False, kw_only=True, repr=False)
class FaultQueue(EventObject):
    """Groups that wait to be read, and groups that were read and wait for an answer (by cookie)."""

    kind: ClassVar[str] = "FAULT"
    always: ClassVar[int] = POLLOUT

    waiting: list[FaultGroup] = field(factory=list)
    delivered: dict[int, FaultGroup] = field(factory=dict)
    _cookies: LowestFree = field(factory=lambda: LowestFree("cookie", COOKIES))

    @property
    def ready(self) -> bool:
        """Whether a group waits to be read."""
        return bool(self.waiting)

    def put(self, group: FaultGroup) -> None:
        """Queue a group."""
        with self.lock:
            self.waiting.append(group)
            self.signal()

    def answer_for(self, source: Attachment | Vdevice | None) -> None:
        """Answer INVALID to all groups of a source that ends (None: to all there are)."""
        with self.lock:
            groups = [*self.waiting, *self.delivered.values()]
            gone = [group for group in groups if _is_of(group, source)]
            self.waiting = [group for group in self.waiting if not _is_of(group, source)]
            for cookie in [cookie for cookie, group in self.delivered.items() if _is_of(group, source)]:
                self._forget(cookie)
            self.signal()
        for group in gone:
            group.respond(success=False)

    def destroy(self) -> None:
        """Answer what nobody answered."""
        self.answer_for(None)

    def read(self, process: UserProcess, address: int, count: int, position: int) -> int:
        """Answer read: whole groups, as many as fit."""
        if position or count % RECORD:
            return -errno.ESPIPE
        with self.lock:
            done, code = self._deliver(process, address, count)
            self.signal()
        return done or -code

    def _deliver(self, process: UserProcess, address: int, count: int) -> tuple[int, int]:
        done = 0
        while self.waiting:
            group = self.waiting[0]
            if len(group.faults) * RECORD > count - done:
                return done, errno.EINVAL
            group.cookie = self._cookies.take(self.kind)
            if not process.write(address + done, b"".join(group.encode())):
                self._cookies.give_back(group.cookie)
                return done, errno.EFAULT
            self.delivered[group.cookie] = group
            done += len(group.faults) * RECORD
            del self.waiting[0]
        return done, 0

    def _forget(self, cookie: int) -> FaultGroup | None:
        group = self.delivered.pop(cookie, None)
        if group is not None:
            self._cookies.give_back(cookie)
        return group

    def write(self, process: UserProcess, address: int, count: int, position: int) -> int:
        """Answer write: responses, up to the first that is wrong."""
        if position or count % RESPONSE:
            return -errno.ESPIPE
        for done in range(0, count, RESPONSE):
            code = self._take_response(process.read(address + done, RESPONSE))
            if code:
                return done or -code
        return count

    def _take_response(self, raw: bytes | None) -> int:
        """Take one response; 0, or an errno."""
        if raw is None:
            return errno.EFAULT
        response = HwptPageResponse.decode(raw)
        if response.code not in CODES:
            return errno.EINVAL
        with self.lock:
            group = self._forget(response.cookie)
        if group is None:
            return errno.EINVAL
        group.respond(success=response.code == ResponseCode.SUCCESS)
        return 0


def _is_of(group: FaultGroup, source: Attachment | Vdevice | None) -> bool:
    return source is None or group.source is source


def report_fault(device: PhysicalDevice, fault: PageFault) -> None:
    """Report a page request of a device (a driver's or the machine's, any thread).

    One that is not the last of its group waits for it. Raises Invalid where nobody takes page requests of the device:
    it has been answered INVALID then.
    """
    found = find_listener(device, fault.pasid)
    if not fault.last:
        if found is None or len(device.partial_faults) >= MOST_PARTIAL:
            _refuse(device, fault)
        device.partial_faults.append(fault)
        return
    earlier = tuple(other for other in device.partial_faults if other.grpid == fault.grpid)
    device.partial_faults = [other for other in device.partial_faults if other.grpid != fault.grpid]
    if found is None:
        _refuse(device, fault)
    found.queue.put(FaultGroup(found.source, found.dev_id, device, (*earlier, fault)))


def _refuse(device: PhysicalDevice, fault: PageFault) -> Never:
    device.iommu.driver.ask("viommu_page_response", device=device, fault=fault, success=False)
    raise Invalid(device.name, "page request", fault.addr, "of a device that is attached to a HWPT with a FAULT")
