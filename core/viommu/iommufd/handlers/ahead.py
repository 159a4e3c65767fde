"""The experimental ioctls: rows of the table that a policy adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu.addresses import PASID_BITS
from viommu.iommufd.dispatch import TYPE_LETTER, Ioctl
from viommu.iommufd.experimental import (
    DeviceTlbFlags,
    DeviceTlbInvalidate,
    DeviceTlbRange,
    ExperimentalIoctl,
    SetFault,
    SetStage2,
    ViommuAllocVm,
)
from viommu.iommufd.handlers import viommus
from viommu.iommufd.handlers.checks import refuse_flags, refuse_reserved
from viommu.kernel_errors import Invalid, KernelError, NotThere, Unsupported
from viommu.objects.fault import FaultQueue
from viommu.objects.hwpt import PagingHwpt
from viommu.objects.viommu import Viommu
from viommu.ops import DeviceTlbRequest, UserArray
from viommu.policies import VmidOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.dispatch import AnyIoctl, Call
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.policies import Policy

ENTRIES_LAST = 1 << 16
VIOMMU_ALLOC = TYPE_LETTER << 8 | 0x90


def rows(policy: Policy) -> dict[int, AnyIoctl]:
    """Give what a policy adds to the table, by whole number; a row by its low byte takes the place of mainline's."""
    wanted = (policy.late_stage2, policy.viommu_page_requests, policy.device_tlb_invalidation)
    table: dict[int, AnyIoctl] = {row.number: row for row, is_on in zip(NEW, wanted, strict=True) if is_on}
    if policy.vmid_owner is VmidOwner.KVM:
        table[VIOMMU_ALLOC & 0xFF] = LONGER_ALLOC
    return table


def set_stage2(call: Call[SetStage2]) -> None:
    """SET_STAGE2: once, on a vIOMMU that was made without."""
    cmd = call.cmd
    refuse_flags(cmd)
    viommu = call.context.table.find(cmd.viommu_id, Viommu, "viommu_id")
    viommu.take_stage2(call.context.table.find(cmd.hwpt_id, PagingHwpt, "hwpt_id"))


def set_fault(call: Call[SetFault]) -> None:
    """SET_FAULT: once."""
    cmd = call.cmd
    refuse_flags(cmd)
    viommu = call.context.table.find(cmd.viommu_id, Viommu, "viommu_id")
    viommu.take_fault(call.context.table.find(cmd.fault_id, FaultQueue, "fault_id"))


def device_tlb_invalidate(call: Call[DeviceTlbInvalidate]) -> None:
    """DEVICE_TLB_INVALIDATE: what comes before an entry that is wrong is executed; ``entry_num`` is written back."""
    cmd, count = call.cmd, call.cmd.entry_num
    cmd.entry_num = 0
    try:
        _invalidate(call, count)
    finally:
        call.respond()


def _invalidate(call: Call[DeviceTlbInvalidate], count: int) -> None:
    cmd = call.cmd
    refuse_flags(cmd)
    refuse_reserved(cmd)
    if not 0 < count <= ENTRIES_LAST:
        raise Invalid(cmd.kernel_name, "entry_num", count, f"1 to {ENTRIES_LAST:#x}")
    if cmd.entry_len < DeviceTlbRange.total:
        raise Invalid(cmd.kernel_name, "entry_len", cmd.entry_len, f"at least {DeviceTlbRange.total:#x}")
    viommu = call.context.table.find(cmd.viommu_id, Viommu, "viommu_id")
    if not viommu.iommu.driver.implements("viommu_invalidate_device_tlb"):
        raise Unsupported(viommu.title, "device TLBs", bound="invalidated by a driver that can")
    entries = UserArray(call.process, 0, cmd.data_uptr, cmd.entry_len, count)
    requests, error = _requests(viommu, entries)
    if requests:
        cmd.entry_num = viommu.iommu.driver.call("viommu_invalidate_device_tlb", viommu=viommu, requests=requests)
    if error is not None:
        raise error


def _requests(viommu: Viommu, entries: UserArray) -> tuple[list[DeviceTlbRequest], KernelError | None]:
    """Read entries up to the first that is wrong, and say what is wrong with it."""
    requests: list[DeviceTlbRequest] = []
    try:
        for index in range(entries.count):
            requests.append(_request(viommu, DeviceTlbRange.decode(entries.padded(index, DeviceTlbRange.total))))  # noqa: PERF401
    except KernelError as error:
        return requests, error
    return requests, None


def _request(viommu: Viommu, entry: DeviceTlbRange) -> DeviceTlbRequest:
    known = DeviceTlbFlags.PASID | DeviceTlbFlags.EVERY_PASID
    refuse_flags(entry, known)
    device = viommu.find_device(entry.virt_id)
    if device is None:
        raise NotThere(viommu.title, "virt_id", entry.virt_id, "that of a vDEVICE")
    if entry.start > entry.last:
        raise Invalid(entry.kernel_name, "last", entry.last, f"{entry.start:#x} or more")
    if entry.pasid >> PASID_BITS or (entry.pasid and not entry.flags & DeviceTlbFlags.PASID):
        raise Invalid(entry.kernel_name, "pasid", entry.pasid, "20 bits, and 0 without its flag")
    pasid = entry.pasid if entry.flags & DeviceTlbFlags.PASID else None
    return DeviceTlbRequest(device, pasid, entry.start, entry.last, bool(entry.flags & DeviceTlbFlags.EVERY_PASID))


def _new(number: ExperimentalIoctl, struct: type[UapiStruct], handler: Callable[[Any], None]) -> AnyIoctl:
    return Ioctl(f"VIOMMU_{number.name}", number, struct, handler, replies=False)


NEW = (
    _new(ExperimentalIoctl.SET_STAGE2, SetStage2, set_stage2),
    _new(ExperimentalIoctl.SET_FAULT, SetFault, set_fault),
    _new(ExperimentalIoctl.DEVICE_TLB_INVALIDATE, DeviceTlbInvalidate, device_tlb_invalidate),
)
LONGER_ALLOC: AnyIoctl = Ioctl("IOMMU_VIOMMU_ALLOC", VIOMMU_ALLOC, ViommuAllocVm, viommus.alloc)
EVERY = (*NEW, LONGER_ALLOC)
"""All rows that any policy adds."""
