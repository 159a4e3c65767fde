"""A VMM on a machine with one AMD IOMMU: it has /dev/iommu open, memory of its own, and devices from VFIO's hands."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from tests.iommufd.client import NUMBERS
from viommu import Fault, Iotlb, Machine
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.local import LocalProcess
from viommu.objects.device import Device
from viommu.policies import MAINLINE, Policy

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.kernel_errors import KernelError
    from viommu_amd_viommu.host.unit import Unit
    from viommu_amd_viommu.spec.device_table import DTE

S = TypeVar("S", bound="UapiStruct")

PAGE = 4096
RID = 0x0108
FIXED = uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.READABLE
FIXED_RW = FIXED | uapi.MapFlags.WRITEABLE
AHEAD = Policy(invalidate_by_viommu=True)
HARDWARE = Policy(invalidate_by_viommu=True, iova_queues=True, late_stage2=True)


@define(eq=False)
class Buffer:
    """Memory of the program: anonymous pages."""

    length: int
    pages: mmap.mmap = field(init=False)
    address: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.pages = mmap.mmap(-1, self.length)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.pages))


@define(eq=False)
class Program:
    """The VMM. ``result`` is what the last ioctl answered, ``refusals`` why the last of those that failed did."""

    machine: Machine
    process: LocalProcess
    file: IommuFd
    refusals: deque[KernelError]
    result: int = 0
    buffers: list[Buffer] = field(factory=list)
    _rooms: dict[int, Buffer] = field(factory=dict)

    @classmethod
    def make(
        cls,
        policy: Policy = MAINLINE,
        registers: dict[str, int] | None = None,
        *,
        sanitize: bool = True,
        iotlb: Iotlb | None = None,
        caches: bool = True,
    ) -> Program:
        refusals: deque[KernelError] = deque(maxlen=4)  # each keeps the frames that it came through
        kept = (iotlb or Iotlb()) if caches else None
        machine = Machine("amd_viommu", None, registers, iotlb=kept, sanitize=sanitize, policy=policy)
        # At boot nothing is cached, and each of the device table's 65536 entries would be looked at.
        watcher, machine.memory.watcher = machine.memory.watcher, None
        machine.host()
        machine.memory.watcher = watcher
        file = IommuFd(explain=refusals.append, policy=policy, activity=machine.activity)
        return cls(machine, LocalProcess(machine.memory), file, refusals)

    @property
    def unit(self) -> Unit:
        """The IOMMU as its driver knows it."""
        found: Unit = self.machine.host().data
        return found

    def entry(self, requester: int = RID) -> DTE:
        """A device table entry as hardware reads it."""
        return self.unit.table.read(requester)

    def call(self, cmd: S) -> S:
        """Make the ioctl of a structure; give it back as it is afterwards."""
        raw = ctypes.create_string_buffer(cmd.encode(), cmd.total)
        self.result = self.file.ioctl(NUMBERS[type(cmd)], ctypes.addressof(raw), self.process)
        return type(cmd).decode(raw.raw)

    def must(self, cmd: S) -> S:
        after = self.call(cmd)
        assert self.result == 0, self.refusals[-1]
        return after

    def fails(self, cmd: UapiStruct) -> int:
        """Make an ioctl that has to fail; its errno."""
        self.call(cmd)
        assert self.result < 0
        return -self.result

    # --- memory and the usual objects

    def buffer(self, length: int = PAGE, text: bytes = b"") -> Buffer:
        made = Buffer(length)
        made.pages[: len(text)] = text
        self.buffers.append(made)
        return made

    def room(self, length: int = PAGE, text: bytes = b"") -> Buffer:
        """A buffer for the next call alone."""
        if length not in self._rooms:
            self._rooms[length] = Buffer(length)
        made = self._rooms[length]
        made.pages[: len(text)] = text
        return made

    def ioas(self) -> int:
        return self.must(uapi.IoasAlloc.of()).out_ioas_id

    def map(self, ioas: int, iova: int, buffer: Buffer, flags: int = FIXED_RW) -> None:
        self.must(uapi.IoasMap.of(flags=flags, ioas_id=ioas, user_va=buffer.address, length=buffer.length, iova=iova))

    def unmap(self, ioas: int, iova: int, length: int = PAGE) -> None:
        self.must(uapi.IoasUnmap.of(ioas_id=ioas, iova=iova, length=length))

    def bind(self, endpoint: Endpoint) -> Device:
        """Take a device, as VFIO does."""
        with self.file.context.lock:
            return Device.bind(self.file.context, endpoint.physical)

    def hwpt(self, device: Device, below: int, flags: int = 0, fault: int = 0) -> int:
        """A paging HWPT."""
        return self.must(uapi.HwptAlloc.of(flags=flags, dev_id=device.id, pt_id=below, fault_id=fault)).out_hwpt_id

    def viommu(self, device: Device, parent: int, kind: int = 3) -> int:
        return self.must(uapi.ViommuAlloc.of(type=kind, dev_id=device.id, hwpt_id=parent)).out_viommu_id

    def vdevice(self, device: Device, viommu: int, virt_id: int) -> int:
        return self.must(uapi.VdeviceAlloc.of(viommu_id=viommu, dev_id=device.id, virt_id=virt_id)).out_vdevice_id

    def nested_command(self, device: Device, below: int, entry: DTE | int, **more: int) -> uapi.HwptAlloc:
        """HWPT_ALLOC of a nested HWPT with a guest's DTE; ``more``: flags, fault, data_type, data_len."""
        raw = int(entry).to_bytes(32, "little")
        data = self.room(text=raw)
        return uapi.HwptAlloc.of(
            flags=more.get("flags", 0),
            fault_id=more.get("fault", 0),
            dev_id=device.id,
            pt_id=below,
            data_type=more.get("data_type", 3),
            data_len=more.get("data_len", len(raw)),
            data_uptr=data.address,
        )

    def nested(self, device: Device, below: int, entry: DTE | int, **more: int) -> int:
        return self.must(self.nested_command(device, below, entry, **more)).out_hwpt_id

    def invalidate_command(self, target: int, *entries: bytes, data_type: int, length: int) -> uapi.HwptInvalidate:
        data = self.room(max(PAGE, -(-length * len(entries) // PAGE) * PAGE))
        for index, entry in enumerate(entries):
            data.pages[index * length : index * length + len(entry)] = entry
        return uapi.HwptInvalidate.of(
            hwpt_id=target, data_uptr=data.address, data_type=data_type, entry_len=length, entry_num=len(entries)
        )

    # --- what a device meets

    def reaches(
        self, iova: int, access: Access = Access.READ, pasid: int | None = None, requester: int = RID
    ) -> int | str:
        """The physical address that an access comes to; the name of the event where it is refused."""
        outcome = self.machine.translate(requester, iova, access, pasid)
        return self.machine.report(outcome).reason if isinstance(outcome, Fault) else outcome.pa

    def text_at(self, iova: int, length: int, pasid: int | None = None, requester: int = RID) -> object:
        return self.machine.dma_read(requester, iova, length, pasid)

    def clean(self) -> None:
        """The sanitizer found no translation in use that software should have invalidated."""
        sanitizer = self.machine.sanitizer
        assert sanitizer is not None
        assert not sanitizer.reports, sanitizer.reports


def quadwords(value: int) -> tuple[int, ...]:
    """A DTE as it is printed."""
    return struct.unpack("<4Q", value.to_bytes(32, "little"))
