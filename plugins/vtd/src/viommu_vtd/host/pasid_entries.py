"""Putting PASID table entries in and out, with the invalidations that hardware needs (VT-d 6.5.3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Busy, NoDevice
from viommu_vtd.host import requests
from viommu_vtd.host.frames import install, remove
from viommu_vtd.spec.pasid import PasidTableEntry, PasidTranslationType

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.tables import PasidTables

TOLD_BY_PASID = (PasidTranslationType.FIRST_STAGE, PasidTranslationType.PASS_THROUGH)
"""Kinds of entries whose translations an invalidation by PASID drops; those of the others go by domain."""

WORD = 8


def set_up(device: HostDevice, pasid: int, entry: PasidTableEntry) -> None:
    """Install an entry; the one that is there must not be present. Raises Busy, NoDevice, NoMemory."""
    tables = _tables(device)
    if tables.read(pasid).P:
        raise Busy(f"device {device.source:#06x}", "PASID", pasid, "one whose entry is not present")
    install(device.unit.memory, tables.entry(pasid), entry)
    if device.unit.caching_mode:
        device.unit.submit(
            [
                requests.pasid_entry(entry.DID, pasid),
                requests.pasid_iotlb(entry.DID, pasid, requests.EVERYTHING, leaf_only=False),
            ]
        )


def tear_down(device: HostDevice, pasid: int) -> None:
    """Make an entry not present, and let no cache remember it; page requests of the PASID have been queued then."""
    tables = _tables(device)
    entry = tables.read(pasid)
    if not entry.P:
        return
    memory, at = device.unit.memory, tables.entry(pasid)
    memory.store(at, 0)
    device.unit.submit([*_forget_entry(entry, pasid), *device.forget_device_tlb(pasid)])
    remove(memory, at, entry.size)
    if device.page_requests:
        device.unit.submit([*_forget_translations(entry, pasid), *device.forget_device_tlb(pasid)], drain=True)


def set_dirty(device: HostDevice, pasid: int, *, enable: bool) -> None:
    """Switch SSADE of an entry that is present: the one field that may change under the eyes of hardware."""
    tables = _tables(device)
    entry = tables.read(pasid)
    if not entry.P or bool(entry.SSADE) == enable:
        return
    changed = entry.replace(SSADE=int(enable))
    device.unit.memory.store(tables.entry(pasid), int.from_bytes(changed.encode()[:WORD], "little"))
    device.unit.submit([*_forget_entry(entry, pasid), *device.forget_device_tlb(pasid)])


def set_snoop(device: HostDevice, pasid: int) -> None:
    """Set PGSNP of an entry that is present."""
    tables = _tables(device)
    entry = tables.read(pasid)
    if not entry.P or entry.PGSNP:
        return
    raw = entry.replace(PGSNP=1).encode()
    device.unit.memory.store(tables.entry(pasid) + WORD, int.from_bytes(raw[WORD : 2 * WORD], "little"))
    device.unit.submit([*_forget_entry(entry, pasid), *device.forget_device_tlb(pasid)])


def _forget_entry(entry: PasidTableEntry, pasid: int) -> list[Descriptor]:
    return [requests.pasid_entry(entry.DID, pasid), *_forget_translations(entry, pasid)]


def _forget_translations(entry: PasidTableEntry, pasid: int) -> list[Descriptor]:
    if entry.PGTT in TOLD_BY_PASID:
        return [requests.pasid_iotlb(entry.DID, pasid, requests.EVERYTHING, leaf_only=False)]
    return [requests.iotlb_of_domain(entry.DID)]


def _tables(device: HostDevice) -> PasidTables:
    if device.tables is None:
        raise NoDevice(f"device {device.source:#06x}", "PASID table", bound="one, which legacy mode has not")
    return device.tables
