"""A VMM on a machine with SMMUs: it has /dev/iommu open, memory of its own, and devices from VFIO's hands."""

from __future__ import annotations

import ctypes
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from viommu import Iotlb, Machine
from viommu.iommufd import uapi
from viommu.objects.device import Device
from viommu.policies import MAINLINE, Policy
from viommu_smmuv3_cmdqv.identity import WHOLE_MODEL
from viommu_smmuv3_cmdqv.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from viommu.endpoint import Endpoint
    from viommu.iommufd.fd import IommuFd
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.kernel_errors import KernelError
    from viommu_smmuv3_cmdqv.host.master import Master
    from viommu_smmuv3_cmdqv.host.smmu import Smmu

S = TypeVar("S", bound="UapiStruct")

PAGE = 4096
SID = 0x28
FIXED = uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.READABLE
FIXED_RW = FIXED | uapi.MapFlags.WRITEABLE
NEST, DIRTY, PASID = uapi.HwptFlags.NEST_PARENT, uapi.HwptFlags.DIRTY_TRACKING, uapi.HwptFlags.PASID

RECORDED: Mapping[str, int] = {
    "IDR0": 0x0D44101B,
    "IDR1": 0x02730010,
    "IDR3": 0x00001414,
    "IDR5": 0x00000074,
    "AIDR": 0x1,
}
"""The SMMU that recordings were made on: both stages, 44 bits, no SSIDs, no ATS, no stalls."""


def identity(**changes: int) -> dict[str, int]:
    """The whole model's ID registers with some fields changed: ``IDR0_HYP=0``."""
    values = dict(WHOLE_MODEL)
    for name, value in changes.items():
        register, bits = name.split("_", 1)
        values[register] = int(LAYOUTS[register].decode(values[register]).replace(**{bits: value}))
    return values


@define(eq=False)
class Program:
    """The VMM. ``result`` is what the last ioctl answered, ``refusals`` why those that failed did."""

    machine: Machine
    file: IommuFd
    refusals: deque[KernelError] = field(factory=lambda: deque(maxlen=8))  # each keeps frames alive
    result: int = 0

    @classmethod
    def make(cls, registers: Mapping[str, int] | None = None, policy: Policy = MAINLINE) -> Program:
        machine = Machine("smmuv3_cmdqv", registers=registers, iotlb=Iotlb(entries=None), sanitize=True, policy=policy)
        return cls.on(machine)

    @classmethod
    def on(cls, machine: Machine) -> Program:
        """Another program on the same machine."""
        refusals: deque[KernelError] = deque(maxlen=8)
        file = machine.open_file()
        file.explain = refusals.append
        return cls(machine, file, refusals)

    def call(self, cmd: S) -> S:
        """Make the ioctl of a structure; give it back as it is afterwards."""
        raw = ctypes.create_string_buffer(cmd.encode(), cmd.total)
        self.result = self.file.ioctl(self.file.number_of(type(cmd)), ctypes.addressof(raw), self.machine.process)
        return type(cmd).decode(raw.raw)

    def must(self, cmd: S) -> S:
        after = self.call(cmd)
        assert self.result == 0, self.refusals[-1]
        return after

    def fails(self, cmd: UapiStruct) -> int:
        """Make an ioctl that has to fail; its errno."""
        self.call(cmd)
        assert self.result < 0, cmd
        return -self.result

    # --- the machine's side

    @property
    def smmu(self) -> Smmu:
        """The host driver's half of the first SMMU."""
        found: Smmu = self.machine.host().data
        return found

    def master(self, endpoint: Endpoint) -> Master:
        found: Master = endpoint.physical.data
        return found

    def bind(self, endpoint: Endpoint) -> Device:
        """Take a device, as VFIO does."""
        with self.file.context.lock:
            return Device.bind(self.file.context, endpoint.physical)

    def clean(self) -> None:
        """The sanitizer found no translation in use that software should have invalidated."""
        sanitizer = self.machine.sanitizer
        assert sanitizer is not None
        assert not sanitizer.reports

    # --- memory and the usual objects

    def buffer(self, length: int = PAGE) -> NDArray[np.uint8]:
        return self.machine.buffer(length)

    def data(self, raw: bytes) -> int:
        """Memory that holds some bytes; its address."""
        held = self.buffer(max(PAGE, len(raw)))
        held[: len(raw)] = list(raw)
        return held.ctypes.data

    def ioas(self) -> int:
        return self.must(uapi.IoasAlloc.of()).out_ioas_id

    def map(self, ioas: int, iova: int, buffer: NDArray[np.uint8], flags: int = FIXED_RW) -> None:
        address = buffer.ctypes.data
        self.must(uapi.IoasMap.of(flags=flags, ioas_id=ioas, user_va=address, length=len(buffer), iova=iova))

    def unmap(self, ioas: int, iova: int, length: int) -> None:
        self.must(uapi.IoasUnmap.of(ioas_id=ioas, iova=iova, length=length))

    def hwpt(self, device: Device, below: int, flags: int = 0, fault: int = 0) -> int:
        """A paging HWPT."""
        flags |= uapi.HwptFlags.FAULT_ID_VALID if fault else 0
        cmd = uapi.HwptAlloc.of(flags=flags, dev_id=device.id, pt_id=below, fault_id=fault)
        return self.must(cmd).out_hwpt_id

    def destroy(self, number: int) -> int:
        """Destroy an object; 0, or the errno."""
        self.call(uapi.Destroy.of(id=number))
        return -self.result

    def info(self, device: Device, length: int = 64, kind: int = 0) -> tuple[uapi.HwInfo, bytes]:
        """GET_HW_INFO: its answer, and the bytes."""
        buffer = self.buffer()
        cmd = uapi.HwInfo.of(
            flags=uapi.HwInfoFlags.INPUT_TYPE if kind else 0,
            dev_id=device.id,
            data_len=length,
            data_uptr=buffer.ctypes.data,
            data_type=kind,
        )
        return self.call(cmd), buffer[:length].tobytes()
