"""The hooks of bring-up: units, devices, interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.hookspecs import hookimpl
from viommu.io_page_table import IoPageTable
from viommu.table_shapes import vtd_second_stage, x86
from viommu_vtd.host import interrupts
from viommu_vtd.host.abilities import PAGE_1G, PAGE_2M
from viommu_vtd.host.device import HostDevice
from viommu_vtd.host.extensions import Extensions
from viommu_vtd.host.unit import Unit

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.platform import Interrupt
    from viommu.table_frames import TableFrames
    from viommu_vtd.host.table import TableKind


@frozen
class Tables:
    """Makes page tables of frames (a `viommu_vtd.host.table.TableMaker`)."""

    frames: TableFrames

    def __call__(self, kind: TableKind) -> IoPageTable:
        """Make one. Raises NoMemory."""
        large_pages = bool(kind.page_sizes & PAGE_2M) + bool(kind.page_sizes & PAGE_1G)
        shape = x86 if kind.first_stage else vtd_second_stage
        return IoPageTable(self.frames, shape(kind.levels, large_pages=large_pages))


@hookimpl
def viommu_probe(iommu: PhysicalIommu) -> None:
    """Bring a unit up."""
    port = iommu.port
    extensions = Extensions.of(iommu.policy)
    iommu.data = Unit.bring_up(iommu.name, port.memory, port.frames, port, Tables(port.frames), extensions)


@hookimpl
def viommu_probe_device(device: PhysicalDevice) -> None:
    """Let the device's unit know it, blocked."""
    host = HostDevice.of(device, device.iommu.data)
    host.probe()
    device.data = host


@hookimpl
def viommu_release_device(device: PhysicalDevice) -> None:
    """Let the unit forget it."""
    device.data.release()


@hookimpl
def viommu_interrupt(iommu: PhysicalIommu, interrupt: Interrupt) -> None:
    """Read the records or page requests that the message tells of."""
    interrupts.hear(iommu.data, interrupt)
