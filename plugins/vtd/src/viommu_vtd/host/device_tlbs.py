"""Device TLBs by a call of their own, which says ranges in bytes and devices by their vDEVICE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.host import requests
from viommu_vtd.host.requests import NO_PASID, Pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.layout import Descriptor
    from viommu.ops import DeviceTlbRequest
    from viommu_vtd.host.unit import Unit


def invalidate(unit: Unit, wanted: Sequence[DeviceTlbRequest]) -> int:
    """Tell devices; how many requests were executed, up to the first whose device did not answer.

    A range is the smallest block that descriptors can name around it. A device without ATS holds nothing.
    """
    for done, request in enumerate(wanted):
        descriptors = _descriptors(unit, request)
        if descriptors and unit.submit(descriptors) is not None:
            return done
    return len(wanted)


def _descriptors(unit: Unit, request: DeviceTlbRequest) -> list[Descriptor]:
    device = unit.devices.get(request.device.requester)
    if device is None or not device.ats:
        return []
    pages = Pages.around(request.start, request.last)
    plain = requests.device_tlb(device.source, NO_PASID, pages)
    if request.every_pasid:
        return [plain, requests.device_tlb_of_pasid(device.source, None, pages)]
    if request.pasid is None:
        return [plain]
    return [requests.device_tlb_of_pasid(device.source, request.pasid, pages)]
