"""The ONE table of ioctls: number, structure, handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu.iommufd import uapi
from viommu.iommufd.dispatch import TYPE_LETTER, Ioctl
from viommu.iommufd.handlers import devices, events, hwpts, ioas, options, viommus

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.dispatch import AnyIoctl
    from viommu.iommufd.uapi_struct import UapiStruct


def _row(
    low: int, name: str, struct: type[UapiStruct], handler: Callable[[Any], int | None], replies: bool = True
) -> AnyIoctl:
    return Ioctl(f"IOMMU_{name}", TYPE_LETTER << 8 | low, struct, handler, replies)


QUIET = False
"""The kernel copies nothing back, or the handler does it itself."""

ROWS = (
    _row(0x80, "DESTROY", uapi.Destroy, options.destroy, QUIET),
    _row(0x81, "IOAS_ALLOC", uapi.IoasAlloc, ioas.alloc),
    _row(0x82, "IOAS_ALLOW_IOVAS", uapi.IoasAllowIovas, ioas.allow_iovas, QUIET),
    _row(0x83, "IOAS_COPY", uapi.IoasCopy, ioas.copy),
    _row(0x84, "IOAS_IOVA_RANGES", uapi.IoasIovaRanges, ioas.iova_ranges, QUIET),
    _row(0x85, "IOAS_MAP", uapi.IoasMap, ioas.map_user),
    _row(0x86, "IOAS_UNMAP", uapi.IoasUnmap, ioas.unmap),
    _row(0x87, "OPTION", uapi.Option, options.option, QUIET),
    _row(0x88, "VFIO_IOAS", uapi.VfioIoas, options.vfio_ioas, QUIET),
    _row(0x89, "HWPT_ALLOC", uapi.HwptAlloc, hwpts.alloc),
    _row(0x8A, "GET_HW_INFO", uapi.HwInfo, devices.hw_info),
    _row(0x8B, "HWPT_SET_DIRTY_TRACKING", uapi.HwptSetDirtyTracking, hwpts.set_dirty_tracking, QUIET),
    _row(0x8C, "HWPT_GET_DIRTY_BITMAP", uapi.HwptGetDirtyBitmap, hwpts.get_dirty_bitmap, QUIET),
    _row(0x8D, "HWPT_INVALIDATE", uapi.HwptInvalidate, hwpts.invalidate, QUIET),
    _row(0x8E, "FAULT_QUEUE_ALLOC", uapi.FaultAlloc, events.fault_alloc),
    _row(0x8F, "IOAS_MAP_FILE", uapi.IoasMapFile, ioas.map_file),
    _row(0x90, "VIOMMU_ALLOC", uapi.ViommuAlloc, viommus.alloc),
    _row(0x91, "VDEVICE_ALLOC", uapi.VdeviceAlloc, viommus.vdevice_alloc),
    _row(0x92, "IOAS_CHANGE_PROCESS", uapi.IoasChangeProcess, ioas.change_process, QUIET),
    _row(0x93, "VEVENTQ_ALLOC", uapi.VeventqAlloc, events.veventq_alloc),
    _row(0x94, "HW_QUEUE_ALLOC", uapi.HwQueueAlloc, viommus.hw_queue_alloc),
)

TABLE: dict[int, AnyIoctl] = {row.number & 0xFF: row for row in ROWS}
