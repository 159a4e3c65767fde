"""Nested domains: a guest's device table entry, made part of the host's (Linux: drivers/iommu/amd/nested.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.iommufd.uapi import HwptAmdGuest
from viommu.kernel_errors import Invalid, Unsupported
from viommu_amd_viommu.host import entries
from viommu_amd_viommu.host.domain import Domain
from viommu_amd_viommu.spec.device_table import DTE, GuestPaging

if TYPE_CHECKING:
    from viommu.ops import UserData
    from viommu_amd_viommu.host.abilities import Abilities
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.guests.iommu import GuestIommu
    from viommu_amd_viommu.host.unit import Unit

DATA_TYPE = 3
"""IOMMU_HWPT_DATA_AMD_GUEST"""
GLX_RESERVED = 3
WHAT = "AMD guest DTE"


@define(eq=False, repr=False, kw_only=True)
class NestedDomain(Domain):
    """A guest's tables on its vIOMMU's parent. Its DomainID is that of the guest's DomainID on this vIOMMU."""

    guest: GuestIommu
    dte: DTE

    def join(self, unit: Unit) -> int:
        """Use it once more; its DomainID was taken when it was made."""
        return self.id_in(unit)

    def leave(self, unit: Unit) -> None:
        """Use it once less."""

    def id_in(self, unit: Unit) -> int:  # noqa: ARG002 - a vIOMMU is of one IOMMU
        """Give the host's DomainID of the guest's."""
        return self.guest.domains.host_id(self.dte.DomainID)

    def entry(self, device: HostDevice) -> DTE:
        """Give a device's entry."""
        stage, hardware = self.guest.parent.stage, self.guest.hardware_guest(device)
        return entries.nested(self.id_in(device.unit), stage, self.dte, ats=device.ats, hardware=hardware)

    def free(self) -> None:
        """Leave the vIOMMU and the parent."""
        self.guest.parent.nested.remove(self)
        self.guest.give_back_domain(self.dte.DomainID)


def copy(data: UserData) -> DTE:
    """Copy a guest's entry from user space. Raises Unsupported, Invalid, BadAddress."""
    if data.type != DATA_TYPE:
        raise Unsupported(WHAT, "data_type", data.type, f"{DATA_TYPE}")
    given = HwptAmdGuest.decode(data.copy(DATA_TYPE, HwptAmdGuest.total, HwptAmdGuest.total))
    return DTE.decode(given.dte)


def check(able: Abilities, dte: DTE) -> None:
    """Refuse an entry that no guest may have, in the kernel's order. Raises Invalid, Unsupported."""
    if dte.Mode or dte.HostPageTableRoot:
        raise Invalid(WHAT, "Mode and host page table root", dte.Mode, "0: host tables are the host's")
    if dte.V and dte.GV and not dte.GCR3:
        raise Invalid(WHAT, "GCR3 table root", 0, "not 0 with V and GV")
    if dte.GuestPagingMode not in tuple(GuestPaging):
        raise Invalid(WHAT, "GuestPagingMode", dte.GuestPagingMode, "0 (4 levels) or 1 (5 levels)")
    if dte.GLX == GLX_RESERVED:
        raise Invalid(WHAT, "GLX", dte.GLX, "0 to 2")
    if dte.GuestPagingMode == GuestPaging.LEVELS_5 and not able.five_levels:
        raise Unsupported(WHAT, "GuestPagingMode", dte.GuestPagingMode, "0: the host's EFR.GATS has 4 levels")


def make(guest: GuestIommu, data: UserData) -> NestedDomain:
    """Make one. Raises Unsupported, Invalid, BadAddress, NoSpace. Flags are not looked at, as Linux does not."""
    dte = copy(data)
    check(guest.unit.able, dte)
    guest.take_domain(dte.DomainID)
    made = NestedDomain(guest=guest, dte=dte)
    guest.parent.nested.append(made)
    return made
