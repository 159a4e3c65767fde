"""The host's side: the hooks by which iommufd has the hardware programmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu import hookimpl
from viommu.kernel_errors import Invalid, Unsupported
from viommu.ops import DeviceFacts, DomainFlags

from viommu_acme.domains import Domain
from viommu_acme.guests import tell
from viommu_acme.spec import DTE
from viommu_acme.unit import Unit

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.ops import UserData
    from viommu.platform import Interrupt

    from viommu_acme.guests import Nested


@hookimpl
def viommu_probe(iommu: PhysicalIommu) -> None:
    """Bring an instance up."""
    iommu.data = Unit.bring_up(iommu.name, iommu.port)


@hookimpl
def viommu_probe_device(device: PhysicalDevice) -> None:
    """Nothing to do: the device's entry is all zeros, which refuses its DMA."""


@hookimpl
def viommu_release_device(device: PhysicalDevice) -> None:
    """Leave nothing of a device."""
    unit_of(device).set_entry(device.requester, DTE())


@hookimpl
def viommu_interrupt(iommu: PhysicalIommu, interrupt: Interrupt) -> None:
    """Make room for more events, and tell guests of theirs."""
    if interrupt.source == "event":
        for event in iommu.data.take_events():
            tell(iommu, event)


@hookimpl
def viommu_device_facts(device: PhysicalDevice) -> DeviceFacts:
    """DMA is coherent, and nothing is special."""
    return DeviceFacts(enforces_coherency=True)


@hookimpl
def viommu_alloc_paging(device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> Domain:
    """Make a page table."""
    if flags & ~DomainFlags.NEST_PARENT or data is not None:
        raise Unsupported(device.name, "flags", int(flags), "NEST_PARENT at most, without driver data")
    return Domain.make(unit_of(device))


@hookimpl
def viommu_free_domain(domain: Domain | Nested) -> None:
    """Forget a page table."""
    domain.free()


@hookimpl
def viommu_attach(device: PhysicalDevice, domain: Domain | Nested) -> None:
    """Let a page table govern a device."""
    unit = unit_of(device)
    if domain.unit is not unit:
        raise Invalid(device.name, "HWPT", bound=f"one that was made for {unit.name}")
    unit.set_entry(device.requester, domain.entry)


@hookimpl
def viommu_detach(device: PhysicalDevice) -> None:
    """Refuse a device's DMA."""
    unit_of(device).set_entry(device.requester, DTE())


def unit_of(device: PhysicalDevice) -> Unit:
    """Give the instance that a device is behind."""
    unit: Unit = device.iommu.data
    return unit
