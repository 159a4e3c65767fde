"""Invalidation of devices' own TLBs as a call of its own (policy device_tlb_invalidation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_amd_viommu.host import requests
from viommu_amd_viommu.host.ranges import Pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.ops import DeviceTlbRequest
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.unit import Unit
    from viommu_amd_viommu.spec.commands import AnyCommand


def invalidate(unit: Unit, asked: Sequence[DeviceTlbRequest]) -> int:
    """Execute requests in order; how many. One whose device does not answer ends it: hardware logs its time-out.

    A range is told as the smallest power of two of pages around it. A device without ATS holds nothing.
    """
    for index, request in enumerate(asked):
        device: HostDevice = request.device.data
        if device.ats and not _execute(unit, _commands(device, request)):
            return index
    return len(asked)


def _commands(device: HostDevice, request: DeviceTlbRequest) -> list[AnyCommand]:
    """There is no command for all PASIDs: it takes one for each."""
    pages = Pages.around(request.start, request.last)
    pasids = (None, *range(device.pasids)) if request.every_pasid else (request.pasid,)
    return [requests.device_tlb(device.id, pasid, pages) for pasid in pasids]


def _execute(unit: Unit, commands: list[AnyCommand]) -> bool:
    """Whether the device answered. Interrupts that time-outs raise were handled when the commands are done."""
    before = unit.time_outs
    unit.execute(commands)
    return unit.time_outs == before
