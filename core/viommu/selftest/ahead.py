"""Hooks of the mock driver that the kernel's mock has no counterpart of: devices of a machine, and policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu.kernel_errors import Exists, Invalid
from viommu.selftest import mock
from viommu.selftest.mock import MockDevice, MockFlags, MockQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DeviceTlbRequest
    from viommu.selftest.page_table import MockPageTable


@hookimpl
def viommu_probe_device(device: PhysicalDevice) -> None:
    """Make a mock device, with PASIDs where the device has any."""
    device.data = MockDevice(MockFlags.PASID if device.features.pasid_bits else MockFlags(0))


@hookimpl
def viommu_set_stage2(viommu: Viommu, parent: MockPageTable) -> None:
    """Stand on a parent."""
    viommu.data.parent = parent


@hookimpl
def viommu_hw_queue_init_iova(queue: HwQueue, index: int) -> None:
    """Take a queue at any IOVA; there is no order among queues that nothing pins."""
    queues = queue.viommu.data.queues
    if index >= mock.HW_QUEUES:
        raise Invalid(queue.title, "index", index, f"below {mock.HW_QUEUES}")
    if index in queues:
        raise Exists(queue.title, "index", index, "not taken")
    queue.data = MockQueue(index, None)
    queues[index] = queue


@hookimpl
def viommu_invalidate_device_tlb(viommu: Viommu, requests: Sequence[DeviceTlbRequest]) -> int:  # noqa: ARG001
    """Clear the cache entries that addresses of a request fall on: entry n caches page n."""
    for request in requests:
        cache = request.device.data.cache
        for entry in range(request.start >> 12, min(request.last >> 12, len(cache) - 1) + 1):
            cache[entry] = 0
    return len(requests)
