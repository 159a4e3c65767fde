"""A machine with the selftest driver, and the usual objects on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu import Machine
from viommu.policies import MAINLINE, Policy
from viommu.uapi_profiles import NEWEST

if TYPE_CHECKING:
    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas
    from viommu.api.iommufd import Iommufd
    from viommu.api.viommu import Viommu
    from viommu.drivers import BoundDriver

VIOMMU, EVENTS, QUEUE, DATA = 0xDEADBEEF, 0xBEEFBEEF, 0xDEADBEEF, 0xDEAD
"""The mock's type numbers."""
APERTURE = 1 << 24
NESTED = bytes(4)
REQUEST = 12


@define
class Setup:
    """An IOAS with memory, a device, a nesting parent."""

    machine: Machine
    iommu: Iommufd
    device: Device
    ioas: Ioas
    parent: Hwpt

    @classmethod
    def make(cls, policy: Policy = MAINLINE, driver: BoundDriver | str = "selftest", uapi_name: str = NEWEST) -> Setup:
        machine = Machine(driver, memory="4M", policy=policy, uapi=uapi_name)
        iommu = machine.open_iommufd()
        device = iommu.bind(machine.add_device(3, pasid_bits=8))
        ioas = iommu.ioas_alloc()
        ioas.map(machine.buffer("64K"), APERTURE)
        return cls(machine, iommu, device, ioas, ioas.hwpt_alloc(device, nest_parent=True))

    def viommu(self) -> Viommu:
        return self.parent.viommu_alloc(self.device, VIOMMU)
