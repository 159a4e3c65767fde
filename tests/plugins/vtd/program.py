"""A VMM on a machine with one VT-d unit: it has /dev/iommu open, memory of its own, and devices from VFIO's hands."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from tests.iommufd.client import NUMBERS
from tests.plugins.vtd.host import Host
from viommu.iommufd import uapi
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.local import LocalProcess
from viommu.objects.device import Device
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.kernel_errors import KernelError
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.spec.registers import CAP, ECAP

S = TypeVar("S", bound="UapiStruct")

PAGE = 4096
RID = 0x0108
FIXED = uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.READABLE
FIXED_RW = FIXED | uapi.MapFlags.WRITEABLE


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
    """The VMM. ``result`` is what the last ioctl answered, ``refusals`` why those that failed did."""

    host: Host
    process: LocalProcess
    file: IommuFd
    refusals: list[KernelError] = field(factory=list)
    result: int = 0
    buffers: list[Buffer] = field(factory=list)
    _scratch: Buffer | None = None

    @classmethod
    def make(cls, cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP, *, sanitize: bool = True) -> Program:
        return cls.on(Host.make(cap, ecap, sanitize=sanitize))

    @classmethod
    def on(cls, host: Host) -> Program:
        refusals: list[KernelError] = []
        policy = host.machine.policy
        file = IommuFd(explain=refusals.append, policy=policy)
        return cls(host, LocalProcess(host.machine.memory), file, refusals)

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

    def buffer(self, length: int = PAGE) -> Buffer:
        self.buffers.append(Buffer(length))
        return self.buffers[-1]

    @property
    def scratch(self) -> Buffer:
        """Where arrays of requests lie, and what comes back in them."""
        if self._scratch is None:
            self._scratch = self.buffer(4 * PAGE)
        return self._scratch

    def ioas(self) -> int:
        return self.must(uapi.IoasAlloc.of()).out_ioas_id

    def map(self, ioas: int, iova: int, buffer: Buffer, flags: int = FIXED_RW) -> None:
        self.must(uapi.IoasMap.of(flags=flags, ioas_id=ioas, user_va=buffer.address, length=buffer.length, iova=iova))

    def unmap(self, ioas: int, iova: int, length: int) -> None:
        self.must(uapi.IoasUnmap.of(ioas_id=ioas, iova=iova, length=length))

    def bind(self, device: HostDevice) -> Device:
        """Take a device, as VFIO does."""
        with self.file.context.lock:
            return Device.bind(self.file.context, device.physical)

    def hwpt(self, device: Device, below: int, flags: int = 0, fault: int = 0) -> int:
        """A paging HWPT."""
        cmd = uapi.HwptAlloc.of(flags=flags, dev_id=device.id, pt_id=below, fault_id=fault)
        return self.must(cmd).out_hwpt_id

    def nested_command(self, device: Device, below: int, table: int, flags: int = 0, **more: int) -> uapi.HwptAlloc:
        """HWPT_ALLOC of a nested HWPT; ``more``: s1_flags, width, reserved of its data; data_type, data_len."""
        raw = struct.pack("<QQII", more.get("s1_flags", 0), table, more.get("width", 48), more.get("reserved", 0))
        data = self.buffer()
        data.pages[: len(raw)] = raw
        return uapi.HwptAlloc.of(
            flags=flags,
            dev_id=device.id,
            pt_id=below,
            data_type=more.get("data_type", 1),
            data_len=more.get("data_len", len(raw)),
            data_uptr=data.address,
        )

    def nested(self, device: Device, below: int, table: int, flags: int = 0, **more: int) -> int:
        return self.must(self.nested_command(device, below, table, flags, **more)).out_hwpt_id

    def invalidate_command(
        self, hwpt: int, *entries: bytes, data_type: int = 0, length: int = 24
    ) -> uapi.HwptInvalidate:
        data = self.scratch
        assert length * len(entries) <= data.length
        data.pages[:] = bytes(data.length)
        for index, entry in enumerate(entries):
            data.pages[index * length : index * length + len(entry)] = entry
        return uapi.HwptInvalidate.of(
            hwpt_id=hwpt, data_uptr=data.address, data_type=data_type, entry_len=length, entry_num=len(entries)
        )

    def clean(self) -> None:
        """The sanitizer found no translation in use that software should have invalidated."""
        sanitizer = self.host.machine.sanitizer
        assert sanitizer is not None
        assert not sanitizer.reports


def entry(addr: int = 0, npages: int = (1 << 64) - 1, flags: int = 0, reserved: int = 0) -> bytes:
    """One iommu_hwpt_vtd_s1_invalidate."""
    return struct.pack("<QQII", addr, npages, flags, reserved)
