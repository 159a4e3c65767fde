"""A machine whose hardware has one configuration for every device: what is measured is the way through the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import viommu
from viommu import drivers
from viommu.faults import Report
from viommu.hookspecs import DriverInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from viommu import Iotlb
    from viommu.board import Observer
    from viommu.faults import ConfigurationLog, Fault, Refusal
    from viommu.formats import Context
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory


class _Hardware:
    def __init__(self, context: Context) -> None:
        self._context = context

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        del requester, pasid, log
        return self._context

    def report(self, fault: Fault) -> Report:
        return Report("fault", fault.kind.name)


class _Driver:
    __name__ = "bench"
    hookspec_version = viommu.HOOKSPEC_VERSION

    def __init__(self, context: Context) -> None:
        self._context = context

    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return DriverInfo("bench", "One configuration for every device", requester_bits=16, pasid_bits=0)

    @viommu.hookimpl
    def viommu_layouts(self) -> Mapping[str, type[Descriptor]]:
        return {}

    @viommu.hookimpl
    def viommu_hardware(self, memory: PhysicalMemory, registers: Registers) -> HardwareModel:
        del memory, registers
        return _Hardware(self._context)


def machine(
    memory: PhysicalMemory, context: Context, iotlb: Iotlb | None, observers: Iterable[Observer] = ()
) -> viommu.Machine:
    """Make a machine where every device is governed by ``context``."""
    driver = drivers.bind_plugin(_Driver(context))
    return viommu.Machine(driver, memory, iotlb=iotlb, observers=observers)
