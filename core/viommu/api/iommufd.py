"""An open /dev/iommu for Python."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from viommu.api.device import Device
from viommu.api.events import FaultQueue
from viommu.api.ioas import Ioas
from viommu.api.viommu import alloc_viommu
from viommu.iommufd import uapi
from viommu.iommufd.uapi import OptionId, OptionOp
from viommu.objects.context import Accounting
from viommu.objects.device import Device as BoundDevice

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from viommu.api.buffers import Data
    from viommu.api.viommu import Viommu
    from viommu.endpoint import Endpoint
    from viommu.iommufd.fd import IommuFd
    from viommu.iommufd.local import LocalProcess
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.objects.table import AnObject

S = TypeVar("S", bound="UapiStruct")


@define(eq=False, repr=False)
class Iommufd:
    """One open file of a machine. Made by `viommu.Machine.open_iommufd`; at the end of a ``with`` block it is closed.

    ``file`` takes ioctls by number and address from ``process``, which is this one.
    """

    file: IommuFd
    process: LocalProcess
    on_close: Callable[[Iommufd], None] | None = None
    is_open: bool = field(default=True, init=False)

    def __repr__(self) -> str:
        if not self.is_open:
            return "<Iommufd, closed>"
        return f"<Iommufd with {', '.join(found.title for found in self.file.context.table) or 'no objects'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- objects

    def ioas_alloc(self) -> Ioas:
        """Make an I/O address space. Raises NoSpace, NoMemory."""
        return Ioas(self, self.call(uapi.IoasAlloc.of()).out_ioas_id)

    def bind(self, endpoint: Endpoint) -> Device:
        """Take a device of the machine, as VFIO does for its user. Raises Busy where somebody has it, Invalid."""
        with self.file.context.lock:
            return Device(self, BoundDevice.bind(self.file.context, endpoint.physical).id, endpoint)

    def fault_alloc(self) -> FaultQueue:
        """Make a queue of page requests. Raises NoSpace, NoMemory."""
        after = self.call(uapi.FaultAlloc.of())
        return FaultQueue(self, after.out_fault_id, after.out_fault_fd)

    def viommu_alloc(self, device: Device, kind: int, data: Data | None = None, *, kvm_fd: int | None = None) -> Viommu:
        """Make an empty vIOMMU, under the policy ``late_stage2``. Raises NotThere without it, Unsupported."""
        return alloc_viommu(None, device, kind, data, kvm_fd)

    @property
    def accounting(self) -> Accounting:
        """Against whose limit pinned pages count. Setting it raises Busy once there are objects, NotPermitted."""
        return Accounting(self._option(OptionOp.GET, 0))

    @accounting.setter
    def accounting(self, mode: Accounting) -> None:
        self._option(OptionOp.SET, mode)

    def change_process(self) -> None:
        """Let this process own all mappings, which must be of files. Raises Invalid."""
        self.call(uapi.IoasChangeProcess.of())

    # --- how

    def call(self, cmd: S) -> S:
        """Make the ioctl that a structure belongs to; ``cmd`` itself afterwards has the answer, also where it raises.

        Raises KernelError; TypeError for a structure that no ioctl takes.
        """
        raw = bytearray(cmd.encode())
        argument = ctypes.addressof((ctypes.c_char * len(raw)).from_buffer(raw))
        try:
            self.file.run(self.file.number_of(type(cmd)), argument, self.process)
        finally:
            cmd.__dict__.update(type(cmd).decode(bytes(raw)).__dict__)
        return cmd

    def found(self, number: int, kind: type[AnObject]) -> AnObject:
        """Give what stands behind an id. Raises NotThere."""
        return self.file.context.table.find(number, kind, "id")

    def close(self) -> None:
        """Close the file: all of its objects go, devices are given back."""
        if not self.is_open:
            return
        self.is_open = False
        self._give_back()
        self.file.release()
        if self.on_close is not None:
            self.on_close(self)

    def _give_back(self) -> None:
        """Do what the other files of the process do when it ends: VFIO's unbind devices, queues' fds are closed."""
        context = self.file.context
        for fd, file in tuple(self.process.files.items()):
            if getattr(getattr(file, "object", None), "context", None) is context:
                self.process.close(fd)
        with context.lock:
            for found in tuple(context.table):
                if isinstance(found, BoundDevice):
                    for pasid in tuple(found.group.attachments):
                        found.detach(pasid)
                    found.unbind()

    def _option(self, op: OptionOp, value: int) -> int:
        return self.call(uapi.Option.of(option_id=OptionId.RLIMIT_MODE, op=op, val64=value)).val64
