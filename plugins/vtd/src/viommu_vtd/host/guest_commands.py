"""A guest's own invalidation descriptors: judged as its hardware would, and rewritten for the host's unit.

The guest's DIDs and source-ids mean nothing to the host's unit. A DID becomes that of each nested domain that the guest
knows by it; a source-id that of the vDEVICE. Context entries and second stage are not the guest's: invalidating them
here means nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from attrs import frozen

from viommu_vtd.host import requests
from viommu_vtd.spec.commands import (
    COMMANDS,
    TYPE_BITS,
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    Invalidation,
    InvalidationType,
    InvalidationWait,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbGranularity,
    PasidIotlbInvalidate,
)
from viommu_vtd.spec.queue_registers import QueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from viommu.layout import Descriptor

Rewritten: TypeAlias = "list[Descriptor] | QueueError | NoSuchDevice"

ENTRY = 32
"""Bytes of a descriptor: a guest in scalable mode has wide ones, whose upper half is reserved."""


class GuestView(Protocol):
    """What a guest's numbers stand for on the host."""

    def domains(self, guest_domain: int | None) -> Iterable[int]:
        """Give the host's DIDs of a guest's DID (None: of all)."""

    def source(self, virtual: int) -> int | None:
        """Give the host's source-id of a virtual one; None where there is no such vDEVICE."""


@frozen
class NoSuchDevice:
    """A device-TLB invalidation for a source-id that no vDEVICE has: nobody will answer it."""

    source: int


@frozen
class GuestAbilities:
    """What the guest's unit has, as its VMM shows it: the host's, less what it does not pass on."""

    psi: bool
    most_pages_lg2: int
    device_tlbs: bool
    drain: bool


def decode(raw: bytes) -> Invalidation | QueueError:
    """Tell what a descriptor of 32 bytes is; a `QueueError` where hardware refuses its type or reserved bits."""
    value = int.from_bytes(raw, "little")
    layout = KNOWN.get(value & TYPE_MASK)
    if layout is None:
        return QueueError.TYPE
    if value >> layout.width or value & layout.reserved_mask:
        return QueueError.RESERVED
    return layout.decode(value)


def rewrite(descriptor: Invalidation, view: GuestView, able: GuestAbilities) -> Rewritten:
    """Give the host's descriptors for a guest's, or why hardware would refuse it. Waits are the caller's."""
    return REWRITERS[type(descriptor)](descriptor, view, able)


def _context_cache(descriptor: ContextCacheInvalidate, view: GuestView, able: GuestAbilities) -> Rewritten:  # noqa: ARG001
    """Context entries are the host's own, written when something is attached."""
    return QueueError.RESERVED if not descriptor.G else []


def _pasid_cache(descriptor: PasidCacheInvalidate, view: GuestView, able: GuestAbilities) -> Rewritten:  # noqa: ARG001
    """PASID table entries are the host's own too; what was translated by those of the guest goes with them."""
    if descriptor.G == 2:
        return QueueError.RESERVED
    domains = view.domains(None if descriptor.G == 3 else descriptor.DID)
    if descriptor.G == 1:
        return [requests.pasid_entry(domain, descriptor.PASID) for domain in domains]
    return [PasidCacheInvalidate(Type=InvalidationType.PASID_CACHE, DID=domain) for domain in domains]


def _iotlb(descriptor: IotlbInvalidate, view: GuestView, able: GuestAbilities) -> Rewritten:
    """Nested translations cannot be told by second-stage addresses: pages of a domain are all of it."""
    if not descriptor.G or (descriptor.G == 3 and (not able.psi or able.most_pages_lg2 < descriptor.AM)):
        return QueueError.RESERVED
    return [requests.iotlb_of_domain(domain) for domain in view.domains(None if descriptor.G == 1 else descriptor.DID)]


def _pasid_iotlb(descriptor: PasidIotlbInvalidate, view: GuestView, able: GuestAbilities) -> Rewritten:  # noqa: ARG001
    if descriptor.G < PasidIotlbGranularity.PASID:
        return QueueError.RESERVED
    return [descriptor.replace(DID=domain) for domain in view.domains(descriptor.DID)]


def _device_tlb(
    descriptor: DeviceTlbInvalidate | PasidDeviceTlbInvalidate, view: GuestView, able: GuestAbilities
) -> Rewritten:
    """Both forms. PFSID, the physical function of a virtual one, is the guest's idea of it."""
    if not able.device_tlbs:
        return QueueError.TYPE
    source = view.source(descriptor.SID)
    return NoSuchDevice(descriptor.SID) if source is None else [descriptor.replace(SID=source, PFSID=0)]


REWRITERS: Mapping[type[Invalidation], Callable[..., Rewritten]] = {
    ContextCacheInvalidate: _context_cache,
    PasidCacheInvalidate: _pasid_cache,
    IotlbInvalidate: _iotlb,
    PasidIotlbInvalidate: _pasid_iotlb,
    DeviceTlbInvalidate: _device_tlb,
    PasidDeviceTlbInvalidate: _device_tlb,
}
"""By type. What is not here, interrupt entries and page group responses, the VMM keeps for itself."""


KNOWN: Mapping[int, type[Invalidation]] = {
    int(kind): layout for kind, layout in COMMANDS.items() if layout in REWRITERS or layout is InvalidationWait
}
"""Layouts of known descriptors by their type, whose upper bits are 0 in each."""

TYPE_MASK = sum((1 << high + 1) - (1 << low) for high, low in TYPE_BITS)


def wait_error(descriptor: InvalidationWait, able: GuestAbilities) -> QueueError | None:
    """Say why hardware would refuse a wait descriptor."""
    return QueueError.RESERVED if descriptor.PD and not able.drain else None
