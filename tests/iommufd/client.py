"""A program that speaks iommufd: one process, one open /dev/iommu of a machine with the selftest driver."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

from viommu.iommufd import experimental, uapi
from viommu.oracle.processes import World
from viommu.oracle.subject import Subject

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.oracle.processes import Process

S = TypeVar("S", bound="UapiStruct")

PAGE = 4096
BUFFER = 0x7F00_0000_0000
"""User memory that every client has; private pages, a new one wherever it looks."""
STRUCT = 0x7E00_0000_0000
DATA = 0x7D00_0000_0000
APERTURE = 1 << 24
"""Where the mock's paging domains begin."""

SELFTEST_DATA = 0xDEAD
SELFTEST_VIOMMU = 0xDEADBEEF
SELFTEST_EVENTS = 0xBEEFBEEF
FIXED_RW = uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.WRITEABLE | uapi.MapFlags.READABLE

NUMBERS: dict[type[UapiStruct], int] = {
    uapi.Destroy: 0x3B80,
    uapi.IoasAlloc: 0x3B81,
    uapi.IoasAllowIovas: 0x3B82,
    uapi.IoasCopy: 0x3B83,
    uapi.IoasIovaRanges: 0x3B84,
    uapi.IoasMap: 0x3B85,
    uapi.IoasUnmap: 0x3B86,
    uapi.Option: 0x3B87,
    uapi.VfioIoas: 0x3B88,
    uapi.HwptAlloc: 0x3B89,
    uapi.HwInfo: 0x3B8A,
    uapi.HwptSetDirtyTracking: 0x3B8B,
    uapi.HwptGetDirtyBitmap: 0x3B8C,
    uapi.HwptInvalidate: 0x3B8D,
    uapi.FaultAlloc: 0x3B8E,
    uapi.IoasMapFile: 0x3B8F,
    uapi.ViommuAlloc: 0x3B90,
    uapi.VdeviceAlloc: 0x3B91,
    uapi.IoasChangeProcess: 0x3B92,
    uapi.VeventqAlloc: 0x3B93,
    uapi.HwQueueAlloc: 0x3B94,
    uapi.TestCmd: 0x3BA0,
    experimental.SetStage2: 0x8000_3BC0,
    experimental.SetFault: 0x8000_3BC1,
    experimental.DeviceTlbInvalidate: 0x8000_3BC2,
}


class Client:
    """Makes ioctls. ``result`` is what the last one returned: 0 or more, or a negative errno."""

    def __init__(self, subject: Subject | None = None) -> None:
        self.subject = subject or Subject()
        self.process = new_process()
        self.file = self.subject.open("/dev/iommu", 2, self.process)
        self.result = 0

    def call(self, cmd: S, at: int = STRUCT) -> S:
        """Make the ioctl of a structure; give it back as it is afterwards."""
        self.process.write(at, cmd.encode())
        self.result = self.subject.ioctl(self.process, self.file, NUMBERS[type(cmd)], at)
        return type(cmd).decode(self.process.read(at, cmd.total) or b"")

    def must(self, cmd: S) -> S:
        """Make an ioctl that has to succeed."""
        after = self.call(cmd)
        assert self.result >= 0, (cmd, self.result)
        return after

    def test(self, op: int, number: int = 0, *words: tuple[str, int]) -> bytes:
        """Make an operation of the test command: (format, value) fill its body; give the body afterwards."""
        body = struct.pack("<" + "".join(code for code, _ in words), *(value for _, value in words))
        return bytes(self.call(uapi.TestCmd.of(op=op, id=number, body=body.ljust(48, b"\0"))).body)

    def close(self) -> None:
        """Close /dev/iommu, and everything that the process has open."""
        self.file.release()
        self.process.exit()

    # --- the usual objects

    def ioas(self) -> int:
        return self.must(uapi.IoasAlloc.of()).out_ioas_id

    def device(self, pt_id: int, flags: int = 0) -> tuple[int, int, int]:
        """A mock device attached to an IOAS or a HWPT: (selftest id, HWPT id, device id)."""
        body = self.test(12, pt_id, ("I", 0), ("I", 0), ("I", 0), ("I", flags))
        assert self.result == 0, self.result
        stdev, hwpt, device = struct.unpack_from("<III", body)
        return stdev, hwpt, device

    def hwpt(self, device: int, pt_id: int, flags: int = 0, data: bytes = b"", fault: int = 0) -> int:
        if data:
            self.process.write(DATA, data)
        cmd = uapi.HwptAlloc.of(
            flags=flags,
            dev_id=device,
            pt_id=pt_id,
            data_type=SELFTEST_DATA if data else 0,
            data_len=len(data),
            data_uptr=DATA if data else 0,
            fault_id=fault,
        )
        return self.call(cmd).out_hwpt_id

    def viommu(self, device: int, parent: int) -> int:
        cmd = uapi.ViommuAlloc.of(type=SELFTEST_VIOMMU, dev_id=device, hwpt_id=parent)
        return self.call(cmd).out_viommu_id

    def map(self, ioas: int, iova: int, length: int = PAGE, va: int = BUFFER, flags: int = FIXED_RW) -> int:
        return self.call(uapi.IoasMap.of(flags=flags, ioas_id=ioas, user_va=va, length=length, iova=iova)).iova

    def unmap(self, ioas: int, iova: int, length: int = PAGE) -> int:
        return self.call(uapi.IoasUnmap.of(ioas_id=ioas, iova=iova, length=length)).length

    def destroy(self, number: int) -> int:
        self.call(uapi.Destroy.of(id=number))
        return self.result


def new_process() -> Process:
    """A process in which all user memory exists."""
    process = World().process(0)
    process.everything_mapped = True
    return process
