"""The ioctls of HWPTs: alloc, dirty tracking, invalidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.handlers.checks import refuse_flags, refuse_reserved
from viommu.iommufd.uapi import DirtyFlags, HwptFlags
from viommu.iommufd.uapi_types import HwptDataType
from viommu.kernel_errors import Invalid, NotThere, Overflow, Unsupported
from viommu.objects.device import find_device
from viommu.objects.dirty import read_dirty
from viommu.objects.fault import FaultQueue
from viommu.objects.hwpt import NestedHwpt, PagingHwpt
from viommu.objects.intervals import U64_MAX
from viommu.objects.ioas import Ioas
from viommu.objects.viommu import Viommu
from viommu.ops import DomainFlags, UserArray, UserData
from viommu.uapi_profiles import Feature

if TYPE_CHECKING:
    from viommu.iommufd import uapi
    from viommu.iommufd.dispatch import Call
    from viommu.objects.device import Device
    from viommu.objects.hwpt import Hwpt
    from viommu.objects.table import Object

PAGING_FLAGS = HwptFlags.NEST_PARENT | HwptFlags.DIRTY_TRACKING | HwptFlags.FAULT_ID_VALID | HwptFlags.PASID
NESTED_FLAGS = HwptFlags.FAULT_ID_VALID | HwptFlags.PASID
ENTRY_LENGTH_LAST = 4096
ENTRIES_LAST = 1 << 19


def alloc(call: Call[uapi.HwptAlloc]) -> None:
    """HWPT_ALLOC: on an IOAS, on a nesting parent, or on a vIOMMU. ``__reserved2`` is not looked at."""
    cmd = call.cmd
    refuse_reserved(cmd)
    if bool(cmd.data_type) != bool(cmd.data_len):
        raise Invalid(cmd.kernel_name, "data_len", cmd.data_len, "0 exactly where data_type is 0")
    device = find_device(call.context, cmd.dev_id)
    below = _below(call)
    data = UserData(call.process, cmd.data_type, cmd.data_uptr, cmd.data_len) if cmd.data_type else None
    if isinstance(below, Ioas):
        hwpt = _paging(call, below, device, data)
    elif isinstance(below, PagingHwpt):
        hwpt = _nested(call, below, device, data)
    elif isinstance(below, Viommu):
        hwpt = _nested_on(call, below, device, data)
    else:
        raise Invalid(below.title, "pt_id", cmd.pt_id, "an IOAS, a paging HWPT or a vIOMMU")
    if cmd.flags & HwptFlags.FAULT_ID_VALID:
        hwpt.set_fault(call.context.table.find(cmd.fault_id, FaultQueue, "fault_id"))
    cmd.out_hwpt_id = hwpt.id


def set_dirty_tracking(call: Call[uapi.HwptSetDirtyTracking]) -> None:
    """HWPT_SET_DIRTY_TRACKING; ``__reserved`` is not looked at."""
    cmd = call.cmd
    refuse_flags(cmd, 1)
    call.context.table.find(cmd.hwpt_id, PagingHwpt, "hwpt_id").set_dirty_tracking(bool(cmd.flags))


def get_dirty_bitmap(call: Call[uapi.HwptGetDirtyBitmap]) -> None:
    """HWPT_GET_DIRTY_BITMAP: holes, and a bitmap that is not there, are passed over in silence."""
    cmd = call.cmd
    refuse_flags(cmd, DirtyFlags.NO_CLEAR)
    refuse_reserved(cmd)
    hwpt = call.context.table.find(cmd.hwpt_id, PagingHwpt, "hwpt_id")
    _check_bitmap_range(cmd, hwpt)
    if not hwpt.domain.dirty_tracking:
        raise Unsupported(hwpt.title, "dirty tracking", bound="allocated with DIRTY_TRACKING")
    granule = cmd.page_size & -cmd.page_size
    clear = not cmd.flags & DirtyFlags.NO_CLEAR
    read_dirty(hwpt, call.process, cmd.iova, cmd.iova + cmd.length - 1, granule, cmd.data, clear=clear)


def invalidate(call: Call[uapi.HwptInvalidate]) -> None:
    """HWPT_INVALIDATE: ``entry_num`` is written back in any case."""
    cmd = call.cmd
    requests = UserArray(call.process, cmd.data_type, cmd.data_uptr, cmd.entry_len, cmd.entry_num)
    try:
        _invalidate(call, requests)
    finally:
        cmd.entry_num = requests.done
        call.context.activity.requests += requests.done
        call.respond()


def _refuse_unknown(call: Call[uapi.HwptAlloc], known: HwptFlags) -> None:
    """Refuse flags and, of kernels before 7.2, types that are not known. Raises Unsupported."""
    cmd, profile = call.cmd, call.context.profile
    refuse_flags(cmd, known & ~HwptFlags.PASID if profile.lacks(Feature.HWPT_ALLOC_PASID) else known)
    if cmd.data_type == HwptDataType.AMD_GUEST and profile.lacks(Feature.HWPT_DATA_AMD):
        raise Unsupported(cmd.kernel_name, "data_type", cmd.data_type, "of a type that the driver knows")


def _below(call: Call[uapi.HwptAlloc]) -> Object:
    """Find what the HWPT is to stand on; an id that is absent is EINVAL here."""
    try:
        return call.context.table.any(call.cmd.pt_id, "pt_id")
    except NotThere as error:
        raise Invalid(error.what, "pt_id", call.cmd.pt_id, error.bound) from None


def _paging(call: Call[uapi.HwptAlloc], ioas: Ioas, device: Device, data: UserData | None) -> Hwpt:
    flags = HwptFlags(call.cmd.flags)
    _refuse_unknown(call, PAGING_FLAGS)
    if HwptFlags.DIRTY_TRACKING in flags and not device.physical.facts.dirty_tracking:
        raise Unsupported(device.title, "flags", int(flags), "without DIRTY_TRACKING, which the device lacks")
    with_fault = HwptFlags.FAULT_ID_VALID in flags and not call.context.profile.lacks(Feature.NO_FAULT_OF_PARENT)
    if with_fault and HwptFlags.NEST_PARENT in flags:
        raise Unsupported(call.cmd.kernel_name, "flags", int(flags), "NEST_PARENT or FAULT_ID_VALID, not both")
    hwpt = PagingHwpt.alloc(call.context, ioas, device.physical, _domain_flags(flags), data)
    ioas.hold()
    _keep(call, hwpt)
    hwpt.follow()
    return hwpt


def _nested(call: Call[uapi.HwptAlloc], parent: PagingHwpt, device: Device, data: UserData | None) -> Hwpt:
    flags = HwptFlags(call.cmd.flags)
    _refuse_unknown(call, NESTED_FLAGS)
    if data is None:
        raise Unsupported(call.cmd.kernel_name, "data_type", 0, "the type of a guest's table")
    if not device.physical.iommu.driver.implements("viommu_alloc_nested"):
        raise Unsupported(device.title, "pt_id", call.cmd.pt_id, "a vIOMMU: this driver nests on no HWPT")
    hwpt = NestedHwpt.alloc_on_parent(call.context, parent, device.physical, _domain_flags(flags), data)
    return _keep(call, hwpt)


def _nested_on(call: Call[uapi.HwptAlloc], viommu: Viommu, device: Device, data: UserData | None) -> Hwpt:
    flags = HwptFlags(call.cmd.flags)
    if device.physical.iommu is not viommu.iommu:
        raise Invalid(device.title, "IOMMU", bound=f"that of {viommu.title}")
    _refuse_unknown(call, NESTED_FLAGS)
    if data is None:
        raise Unsupported(call.cmd.kernel_name, "data_type", 0, "the type of a guest's table")
    if not viommu.iommu.driver.implements("viommu_alloc_nested_on"):
        raise Unsupported(viommu.title, "pt_id", call.cmd.pt_id, "of a driver that nests on vIOMMUs")
    return _keep(call, NestedHwpt.alloc_on_viommu(call.context, viommu, _domain_flags(flags), data))


def _keep(call: Call[uapi.HwptAlloc], hwpt: Hwpt) -> Hwpt:
    """Put a HWPT, which has something to undo already, into the table."""
    hwpt.built = True
    try:
        return call.create(hwpt)
    except BaseException:
        if not hwpt.id:
            hwpt.destroy()
        raise


def _domain_flags(flags: HwptFlags) -> DomainFlags:
    return DomainFlags(flags & ~HwptFlags.FAULT_ID_VALID)


def _check_bitmap_range(cmd: uapi.HwptGetDirtyBitmap, hwpt: PagingHwpt) -> None:
    last = cmd.iova + cmd.length - 1
    if not cmd.length and cmd.iova:
        raise Overflow(cmd.kernel_name, "length", 0, "not 0")
    if last > U64_MAX:
        raise Overflow(cmd.kernel_name, "iova", cmd.iova, "a range that ends below 2^64")
    end = last + 1
    alignment = hwpt.ioas.space.alignment
    if cmd.iova % alignment or end % alignment:
        raise Invalid(cmd.kernel_name, "iova", cmd.iova, f"a range whose ends are multiples of {alignment:#x}")
    if not cmd.page_size:
        raise Invalid(cmd.kernel_name, "page_size", 0, "not 0")
    if (cmd.iova | end) & (cmd.page_size - 1):  # the kernel's test, whatever the size is
        raise Invalid(cmd.kernel_name, "page_size", cmd.page_size, "a power of two that divides both ends")


def _invalidate(call: Call[uapi.HwptInvalidate], requests: UserArray) -> None:
    cmd = call.cmd
    refuse_reserved(cmd)
    if cmd.entry_num:
        _check_array(cmd)
    target = call.context.table.any(cmd.hwpt_id, "hwpt_id")
    if isinstance(target, NestedHwpt):
        _ask_driver(target, "viommu_invalidate_nested", requests, domain=target.domain)
    elif isinstance(target, Viommu):
        _refuse_empty(target)
        _ask_driver(target, "viommu_invalidate", requests, viommu=target)
    else:
        raise Invalid(target.title, "hwpt_id", cmd.hwpt_id, "a nested HWPT or a vIOMMU")


def _refuse_empty(viommu: Viommu) -> None:
    """Nothing of an empty vIOMMU's is cached, and drivers are not asked: the policy ``late_stage2``."""
    _ = viommu.parent


def _check_array(cmd: uapi.HwptInvalidate) -> None:
    if not cmd.data_uptr:
        raise Invalid(cmd.kernel_name, "data_uptr", 0, "an address")
    if not 0 < cmd.entry_len <= ENTRY_LENGTH_LAST:
        raise Invalid(cmd.kernel_name, "entry_len", cmd.entry_len, f"1 to {ENTRY_LENGTH_LAST:#x}")
    if cmd.entry_num > ENTRIES_LAST:
        raise Invalid(cmd.kernel_name, "entry_num", cmd.entry_num, f"at most {ENTRIES_LAST:#x}")


def _ask_driver(target: NestedHwpt | Viommu, hook: str, requests: UserArray, **of: object) -> None:
    driver = target.iommu.driver
    if not driver.implements(hook):
        raise Unsupported(target.title, "invalidation", bound="by a driver that takes it for this object")
    driver.ask(hook, requests=requests, **of)
