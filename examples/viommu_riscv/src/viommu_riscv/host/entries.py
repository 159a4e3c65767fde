"""Contexts as the host writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu_riscv.host.domains import FirstStageDomain, SecondStageDomain
from viommu_riscv.spec.directories import DeviceContext, ExtendedDeviceContext, ProcessContext

if TYPE_CHECKING:
    from viommu_riscv.host.device import HostDevice
    from viommu_riscv.host.domains import PagingDomain


def paging(device: HostDevice, domain: PagingDomain) -> DeviceContext:
    """Translate by a table of the host's."""
    tag = domain.tags[device.unit]
    if isinstance(domain, SecondStageDomain):
        return context(device, **second_stage(domain, tag))
    return context(device, PSCID=tag, fsc_MODE=domain.mode, fsc_PPN=domain.table.root)


def split(device: HostDevice, directory: int) -> DeviceContext:
    """Look each process up in a directory; requests without one are process 0's."""
    mode = device.unit.able.process_mode
    return context(device, PDTV=1, DPE=1, fsc_MODE=mode, fsc_PPN=directory)


def second_stage(domain: SecondStageDomain, tag: int) -> dict[str, int]:
    """Give the fields that name a second stage."""
    return {
        "iohgatp_MODE": domain.mode,
        "iohgatp_PPN": domain.table.root,
        "GSCID": tag,
        "GADE": int(domain.dirty_tracking),
    }


def process(domain: FirstStageDomain, tag: int, *, privileged: bool) -> ProcessContext:
    """Translate requests of one process; privileged ones are let through where the device may send them."""
    return ProcessContext(
        V=1, ENS=privileged, SUM=privileged, PSCID=tag, fsc_MODE=domain.mode, fsc_PPN=domain.table.root
    )


def context(device: HostDevice, **fields: Any) -> DeviceContext:  # noqa: ANN401 - numbers, all of them
    """Make a device context with what the device may do."""
    layout = ExtendedDeviceContext if device.unit.able.capabilities.MSI_FLAT else DeviceContext
    asks = int(device.page_requests)
    return layout(V=1, EN_ATS=int(device.ats), EN_PRI=asks, PRPR=asks, **fields)
