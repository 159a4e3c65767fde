"""VIOMMU for Python, and what stands on it: vDEVICE, HW_QUEUE, VEVENTQ, nested HWPTs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.api.buffers import address_of, copied, entries
from viommu.api.events import EventQueue
from viommu.api.handle import Handle
from viommu.api.hwpt_calls import alloc_hwpt, invalidate
from viommu.api.nested import NestedHwpt
from viommu.iommufd import experimental, uapi
from viommu.iommufd.experimental import DeviceTlbFlags, DeviceTlbRange, HwQueueFlags
from viommu.iommufd.uapi import HwptFlags
from viommu.kernel_errors import KernelError, NotAnIoctl, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.api.buffers import Data, Entries
    from viommu.api.device import Device
    from viommu.api.events import FaultQueue
    from viommu.objects.mmap import RegisterMapping

PROT_READ_WRITE, MAP_SHARED = 3, 1


@define(eq=False, repr=False)
class Vdevice(Handle):
    """A device's id on a vIOMMU."""

    viommu: Viommu
    device: Device
    virt_id: int

    def _told(self) -> str:
        return f": {self.device.label} is {self.virt_id:#x} on {self.viommu.label}"


@define(eq=False, repr=False)
class HwQueue(Handle):
    """A hardware queue that a guest owns."""

    viommu: Viommu
    type: int
    index: int

    def _told(self) -> str:
        return f" {self.index} of type {self.type:#x} on {self.viommu.label}"


@frozen
class DeviceTlbEntry:
    """What a device's own TLB is to drop: [``start``, ``last``] of ``pasid`` (None: without one), or of every PASID."""

    virt_id: int
    start: int = 0
    last: int = (1 << 64) - 1
    pasid: int | None = None
    every_pasid: bool = False

    def struct(self) -> DeviceTlbRange:
        """Give its structure."""
        flags = DeviceTlbFlags.EVERY_PASID if self.every_pasid else DeviceTlbFlags(0)
        if self.pasid is not None:
            flags |= DeviceTlbFlags.PASID
        return DeviceTlbRange.of(
            virt_id=self.virt_id, start=self.start, last=self.last, flags=flags, pasid=self.pasid or 0
        )


@define(eq=False, repr=False)
class Viommu(Handle):
    """A slice of a physical IOMMU for a guest. ``data`` is the driver's answer at alloc (an uAPI structure's bytes)."""

    type: int
    below: Handle | None
    data: bytes = field(default=b"")

    def _told(self) -> str:
        return f" of type {self.type:#x}, {'empty' if self.below is None else 'on ' + self.below.label}"

    def vdevice_alloc(self, device: Device, virt_id: int) -> Vdevice:
        """Let a device be known by its virtual id. Raises Exists, Invalid, or what the driver raises."""
        cmd = uapi.VdeviceAlloc.of(viommu_id=self.id, dev_id=device.id, virt_id=virt_id)
        return Vdevice(self.iommufd, self.iommufd.call(cmd).out_vdevice_id, self, device, virt_id)

    def hwpt_alloc(
        self,
        device: Device,
        data: Data,
        *,
        data_type: int | None = None,
        fault: FaultQueue | None = None,
        pasid: bool = False,
    ) -> NestedHwpt:
        """Make a nested HWPT; ``pasid``: it may be attached to PASIDs. Raises Invalid, Unsupported, BadValue."""
        flags = HwptFlags.PASID if pasid else HwptFlags(0)
        number = alloc_hwpt(self, device, flags=flags, data=data, data_type=data_type, fault=fault)
        return NestedHwpt(self.iommufd, number, self)

    def hw_queue_alloc(self, kind: int, index: int, iova: int, length: int, *, by_iova: bool = False) -> HwQueue:
        """Give the guest a hardware queue in memory at an IOVA of the parent.

        ``by_iova``: hardware translates it itself, under the policy ``iova_queues``. Raises KernelError.
        """
        cmd = uapi.HwQueueAlloc.of(
            flags=HwQueueFlags.IOVA if by_iova else 0,
            viommu_id=self.id,
            type=kind,
            index=index,
            nesting_parent_iova=iova,
            length=length,
        )
        return HwQueue(self.iommufd, self.iommufd.call(cmd).out_hw_queue_id, self, kind, index)

    def veventq_alloc(self, kind: int, depth: int = 64) -> EventQueue:
        """Make the queue of one type of events. Raises Exists, Invalid."""
        after = self.iommufd.call(uapi.VeventqAlloc.of(viommu_id=self.id, type=kind, veventq_depth=depth))
        return EventQueue(self.iommufd, after.out_veventq_id, after.out_veventq_fd, kind, depth)

    def invalidate(self, requests: Entries, *, data_type: int | None = None) -> int:
        """Drop cached translations as the guest asked; how many requests were executed.

        ``requests`` are structures of the uAPI, or rows of a NumPy array with their ``data_type``. Raises KernelError,
        which says how many were ``done``.
        """
        return invalidate(self, requests, data_type)

    def mmap(self, offset: int, length: int) -> RegisterMapping:
        """Map registers that the driver offers at an offset: its ``read`` and ``write``, `close` in the end.

        Raises KernelError.
        """
        mapping = self.iommufd.file.mmap(length, PROT_READ_WRITE, MAP_SHARED, offset)
        if isinstance(mapping, int):
            raise refusal(
                -mapping, self.label, "mmap offset", offset, "one that the driver offers, in its whole length"
            )
        return mapping

    # --- under policies

    def set_stage2(self, parent: Handle) -> None:
        """Let it, which is empty, stand on a nesting parent (policy ``late_stage2``). Raises Exists, Invalid."""
        self.iommufd.call(experimental.SetStage2.of(viommu_id=self.id, hwpt_id=parent.id))
        self.below = parent

    def set_fault(self, fault: FaultQueue) -> None:
        """Let page requests of its vDEVICEs go to a FAULT (policy ``viommu_page_requests``). Raises Exists."""
        self.iommufd.call(experimental.SetFault.of(viommu_id=self.id, fault_id=fault.id))

    def invalidate_device_tlbs(self, wanted: Iterable[DeviceTlbEntry]) -> int:
        """Drop what devices keep themselves (policy ``device_tlb_invalidation``); how many entries were executed.

        Raises KernelError, which says how many were ``done``.
        """
        raw, length, count = entries([entry.struct() for entry in wanted])
        cmd = experimental.DeviceTlbInvalidate.of(
            viommu_id=self.id, entry_num=count, entry_len=length, data_uptr=address_of(raw) if count else 0
        )
        try:
            return self.iommufd.call(cmd).entry_num
        except KernelError as error:
            error.done = 0 if isinstance(error, NotAnIoctl) else cmd.entry_num
            raise


def alloc_viommu(below: Handle | None, device: Device, kind: int, data: Data | None, kvm_fd: int | None) -> Viommu:
    """VIOMMU_ALLOC. Raises KernelError."""
    raw = copied(data)
    common = {
        "type": kind,
        "dev_id": device.id,
        "hwpt_id": 0 if below is None else below.id,
        "data_len": raw.size,
        "data_uptr": address_of(raw) if raw.size else 0,
    }
    iommufd = device.iommufd
    if kvm_fd is None:
        number = iommufd.call(uapi.ViommuAlloc.of(**common)).out_viommu_id
    else:
        flags = experimental.ViommuFlags.VM
        number = iommufd.call(experimental.ViommuAllocVm.of(flags=flags, kvm_fd=kvm_fd, **common)).out_viommu_id
    return Viommu(iommufd, number, kind, below, raw.tobytes())
