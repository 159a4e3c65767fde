"""HWPT_ALLOC and HWPT_INVALIDATE, which several objects have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.api.buffers import address_of, copied, entries
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwptFlags
from viommu.iommufd.uapi_types import HWPT_TYPES, INVALIDATE_TYPES, type_of
from viommu.kernel_errors import KernelError

if TYPE_CHECKING:
    from viommu.api.buffers import Data, Entries
    from viommu.api.device import Device
    from viommu.api.events import FaultQueue
    from viommu.api.handle import Handle


def alloc_hwpt(
    below: Handle,
    device: Device,
    *,
    flags: HwptFlags,
    data: Data | None,
    data_type: int | None,
    fault: FaultQueue | None,
) -> int:
    """HWPT_ALLOC; the new id. The type of ``data`` is found by its structure where it is None.

    Raises KernelError, BadValue (data of an unknown structure).
    """
    raw = copied(data)
    after = below.iommufd.call(
        uapi.HwptAlloc.of(
            flags=flags | (HwptFlags.FAULT_ID_VALID if fault is not None else 0),
            dev_id=device.id,
            pt_id=below.id,
            data_type=0 if data is None else type_of(data, HWPT_TYPES, data_type),
            data_len=raw.size,
            data_uptr=address_of(raw) if raw.size else 0,
            fault_id=0 if fault is None else fault.id,
        )
    )
    return after.out_hwpt_id


def invalidate(target: Handle, requests: Entries, data_type: int | None) -> int:
    """HWPT_INVALIDATE; how many requests were executed. Raises KernelError, which says how many were ``done``."""
    raw, length, count = entries(requests)
    cmd = uapi.HwptInvalidate.of(
        hwpt_id=target.id,
        data_uptr=address_of(raw) if count else 0,
        data_type=type_of(requests[0] if count else None, INVALIDATE_TYPES, data_type),
        entry_len=length,
        entry_num=count,
    )
    try:
        return target.iommufd.call(cmd).entry_num
    except KernelError as error:
        error.done = cmd.entry_num  # what the kernel wrote back
        raise
