"""Guests without vIOMMUs, as mainline's VT-d has them: nested HWPTs on the parent, invalidated one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from viommu.iommufd.uapi import HwptVtdS1, HwptVtdS1Invalidate
from viommu.ops import DeviceFeatures
from viommu.table_shapes import x86
from viommu.testing import DriverContract, GuestKit

if TYPE_CHECKING:
    from viommu.io_page_table import TableShape
    from viommu.testing import GuestMemory

PAGE = 0x1000
EVERYTHING = (1 << 64) - 1


@frozen
class MainlineSpace:
    """A first-stage table by iommu_hwpt_vtd_s1."""

    data: HwptVtdS1
    data_type: int | None = None
    pasid: int | None = None
    request_type: int | None = None

    def drop(self, start: int, last: int) -> list[HwptVtdS1Invalidate]:
        if last == EVERYTHING:
            return [HwptVtdS1Invalidate.of(addr=0, npages=EVERYTHING)]
        return [HwptVtdS1Invalidate.of(addr=start, npages=(last - start) // PAGE + 1)]


@frozen
class MainlineGuests:
    """No vIOMMU, no queue, no events."""

    tables: TableShape = field(factory=x86)
    viommu: None = None
    queues: None = None
    events: None = None

    def viommu_data(self) -> None:
        return None

    def space(self, memory: GuestMemory, root: int, number: int, virt_id: int) -> MainlineSpace:  # noqa: ARG002
        return MainlineSpace(HwptVtdS1.of(pgtbl_addr=root, addr_width=48))

    def drop_device(self, virt_id: int) -> None:  # noqa: ARG002
        return None

    def illegal(self) -> HwptVtdS1Invalidate:
        return HwptVtdS1Invalidate.of(addr=1, npages=1)


class TestVtdAsMainline(DriverContract):
    driver = "vtd"
    guest_kit = GuestKit(
        requesters=(0x0108, 0x0310),
        features=DeviceFeatures(ats=True, page_requests=True, pasid_bits=8),
        nesting=MainlineGuests(),
    )
    effort = 0.2
