"""A machine with one VT-d unit, which its host driver has brought up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu import Iotlb, Machine
from viommu.policies import MAINLINE, Policy
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP

if TYPE_CHECKING:
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.unit import Unit
    from viommu_vtd.spec.registers import CAP, ECAP


@define(eq=False)
class Host:
    """The machine, and short ways to what the tests look at."""

    machine: Machine

    @classmethod
    def make(
        cls,
        cap: CAP = FULL_CAP,
        ecap: ECAP = FULL_ECAP,
        *,
        sanitize: bool = True,
        iotlb: bool = True,
        policy: Policy = MAINLINE,
    ) -> Host:
        registers = {"CAP": int(cap), "ECAP": int(ecap)}
        cache = Iotlb() if iotlb else None
        return cls(Machine("vtd", "64M", registers, iotlb=cache, sanitize=sanitize and iotlb, policy=policy))

    @property
    def unit(self) -> Unit:
        unit: Unit = self.machine.host().data
        return unit

    def device(self, source: int, *, ats: bool = False, page_requests: bool = False, pasids: int = 0) -> HostDevice:
        bits = max(pasids.bit_length() - 1, 0)
        added = self.machine.add_device(source, ats=ats, page_requests=page_requests, pasid_bits=bits)
        host: HostDevice = added.physical.data
        return host

    @property
    def commands(self) -> dict[str, int]:
        return dict(self.machine.command_counts)
