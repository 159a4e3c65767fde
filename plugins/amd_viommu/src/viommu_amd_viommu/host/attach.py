"""What governs a device, put in the place of what does now (Linux: attach_dev, blocked_domain)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Invalid, NotThere, Unsupported
from viommu_amd_viommu.host import tags
from viommu_amd_viommu.host.device import NO_PASID
from viommu_amd_viommu.host.guests.nested import NestedDomain
from viommu_amd_viommu.host.paging import GuestTables, HostTables

if TYPE_CHECKING:
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.domain import Domain


def attach(device: HostDevice, pasid: int, domain: Domain) -> None:
    """Let a domain govern a device's PASID. Raises Invalid, Unsupported, NotThere, NoSpace, NoMemory.

    What governed it does so until hardware has read the new entry; where this raises, it still does.
    """
    check(device, pasid, domain)
    with device.unit.lock:
        old = device.attached.get(pasid)
        if old is domain:
            return
        _prepare(device, pasid, domain)
        old_tags = [] if old is None else device.tags_of(old, pasid)
        device.attached[pasid] = domain
        domain.devices.append((device, pasid))
        _add_tags(domain, device.tags_of(domain, pasid))
        if isinstance(domain, GuestTables):
            device.own_roots().tables.set(pasid, domain.table.root)
        device.update_entry()
        if old is not None:
            _forget(device, pasid, old, old_tags)


def block(device: HostDevice, pasid: int) -> None:
    """Let nothing govern a device's PASID: DMA is refused, and no cache remembers what it had."""
    with device.unit.lock:
        old = device.attached.get(pasid)
        if old is None:
            return
        old_tags = device.tags_of(old, pasid)
        del device.attached[pasid]
        if isinstance(old, GuestTables) and device.roots is not None:
            device.roots.tables.clear(pasid)
        device.update_entry()
        _forget(device, pasid, old, old_tags)


def check(device: HostDevice, pasid: int, domain: Domain) -> None:
    """Refuse what does not fit. Raises Invalid, Unsupported, NotThere."""
    what = f"device {device.id:#06x}"
    if pasid != NO_PASID and not device.unit.profile.pasid_domains:
        raise Unsupported(what, "PASID", pasid, "none: Linux 7.2 attaches nothing but SVA to AMD's PASIDs")
    if pasid != NO_PASID and not isinstance(domain, GuestTables):
        raise Unsupported(what, "PASID", pasid, "with a domain that was allocated with PASID")
    if isinstance(domain, GuestTables) and domain.five_levels != device.unit.able.five_levels:
        raise Invalid(what, "EFR.GATS", bound="that of the IOMMU that the domain was made for")
    if not isinstance(domain, GuestTables) and device.has_pasids:
        raise Invalid(what, "PASIDs", bound="none attached beside host tables or a guest's")
    if isinstance(domain, HostTables):
        _check_host_tables(device, domain)
    if isinstance(domain, NestedDomain) and domain.guest.slice and device not in domain.guest.known:
        raise NotThere(what, "vDEVICE", bound="one on the vIOMMU of the nested domain: hardware tells by its id")


def _check_host_tables(device: HostDevice, domain: HostTables) -> None:
    what = f"device {device.id:#06x}"
    if domain.dirty_tracking and not device.unit.able.dirty:
        raise Invalid(what, "dirty tracking", bound="an IOMMU that has it (EFR.HD)")
    if domain.levels > device.unit.able.host_levels:
        raise Invalid(what, "EFR.HATS", device.unit.able.efr.HATS, f"host tables of {domain.levels} levels")


def _prepare(device: HostDevice, pasid: int, domain: Domain) -> None:
    """Take all that may be lacking, so that nothing can fail later."""
    if not isinstance(domain, GuestTables):
        domain.join(device.unit)
        return
    try:
        device.own_roots().tables.prepare(pasid)
    except BaseException:
        device.drop_roots()
        raise


def _forget(device: HostDevice, pasid: int, old: Domain, old_tags: list[tags.Tag]) -> None:
    """Empty caches of what an old domain gave the device, then let go of it."""
    tags.drop(old_tags)
    old.devices.remove((device, pasid))
    _remove_tags(old, old_tags)
    if not isinstance(old, GuestTables):
        old.leave(device.unit)
    device.drop_roots()


def _add_tags(domain: Domain, found: list[tags.Tag]) -> None:
    """Changes of a parent reach the caches of what stands on it."""
    domain.add_tags(found)
    if isinstance(domain, NestedDomain):
        domain.guest.parent.add_tags(found)


def _remove_tags(domain: Domain, found: list[tags.Tag]) -> None:
    domain.remove_tags(found)
    if isinstance(domain, NestedDomain):
        domain.guest.parent.remove_tags(found)
