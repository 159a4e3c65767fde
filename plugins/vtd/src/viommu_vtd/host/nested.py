"""Nested domains: a guest's first stage on a second stage of the host's (iommu_hwpt_vtd_s1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.iommufd.uapi import HwptVtdS1, HwptVtdS1Invalidate
from viommu.kernel_errors import Invalid, Unsupported
from viommu.ops import DomainFlags
from viommu_vtd.host import entries, pasid_entries
from viommu_vtd.host.domain import Domain, Drop
from viommu_vtd.host.entries import StageOneFlags
from viommu_vtd.host.paging import SecondStageDomain
from viommu_vtd.host.requests import EVERYTHING, Pages

if TYPE_CHECKING:
    from viommu.ops import UserArray, UserData
    from viommu_vtd.host.abilities import Abilities
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.guest_unit import GuestUnit

DATA_TYPE = 1
"""IOMMU_HWPT_DATA_VTD_S1"""
INVALIDATE_TYPE = 0
"""IOMMU_HWPT_INVALIDATE_DATA_VTD_S1"""
LEAF = 1
"""Flag of an invalidation: only leaves have changed."""

GATHERED = 1024
"""Requests that are executed together."""

FOUR_LEVELS, FIVE_LEVELS = 48, 57
PAGE = 4096
U64_MAX = (1 << 64) - 1
WHAT = "nested domain"


@define(eq=False, kw_only=True)
class NestedDomain(Domain):
    """A guest's table, as user space gave it: what is wrong with it is found when it is attached."""

    by_first_stage = True
    parent: SecondStageDomain
    table: int
    width: int
    flags: StageOneFlags
    guest: GuestUnit | None = None
    """The vIOMMU that it was made on."""
    guest_domain: int | None = None
    """The DID by which the guest knows it, if that was told."""

    def check(self, able: Abilities) -> None:
        """Refuse a unit that the parent does not fit. Raises Invalid."""
        self.parent.check(able)

    def check_settings(self, able: Abilities) -> None:
        """Refuse what the unit's first stage lacks. Raises Invalid."""
        if self.width != FOUR_LEVELS and not (self.width == FIVE_LEVELS and able.cap.FL5LP):
            known = "48 or 57" if able.cap.FL5LP else "48 (CAP.FL5LP is 0)"
            raise Invalid(WHAT, "addr_width", self.width, known)
        if StageOneFlags.SRE in self.flags and not able.ecap.SRS:
            raise Invalid(WHAT, "flags", int(self.flags), "without SRE (ECAP.SRS is 0)")
        if StageOneFlags.EAFE in self.flags and not able.ecap.EAFS:
            raise Invalid(WHAT, "flags", int(self.flags), "without EAFE (ECAP.EAFS is 0)")

    def install(self, device: HostDevice, pasid: int, domain: int) -> None:
        """Install a PASID table entry. Raises Invalid, Busy, NoMemory."""
        self.check_settings(device.unit.able)
        first = entries.GuestStage(self.table & -PAGE, self.width == FIVE_LEVELS, self.flags)
        entry = entries.nested(device.unit.able, domain, first, self.parent.stage, snoop=self.parent.snoop)
        pasid_entries.set_up(device, pasid, entry)

    def govern(self, device: HostDevice, pasid: int) -> None:
        """Take note of a device's PASID; changes of the parent reach its caches too."""
        super().govern(device, pasid)
        self.parent.tags.update(self._tags_of(device, pasid, nested=True))

    def ungovern(self, device: HostDevice, pasid: int) -> None:
        """Forget a device's PASID."""
        super().ungovern(device, pasid)
        self.parent.forget_tags(self._tags_of(device, pasid, nested=True))

    def free(self) -> None:
        """Leave the parent."""
        self.parent.nested.remove(self)
        if self.guest is not None:
            self.guest.nested.remove(self)

    def invalidate(self, requests: UserArray) -> None:
        """Execute IOMMU_HWPT_INVALIDATE, up to the first request that is wrong; those before it are executed.

        Raises Invalid, Unsupported, BadAddress; ``requests.done`` tells how many came before.
        """
        if requests.type != INVALIDATE_TYPE:
            raise Invalid(WHAT, "data_type", requests.type, f"{INVALIDATE_TYPE}")
        while requests.done < requests.count:
            self._invalidate_some(requests)

    def _invalidate_some(self, requests: UserArray) -> None:
        """Gather requests, and have them executed at once."""
        wanted: list[Drop] = []
        last = min(requests.count, requests.done + GATHERED)
        try:
            for index in range(requests.done, last):
                raw = requests.entry(index, INVALIDATE_TYPE, HwptVtdS1Invalidate.total, HwptVtdS1Invalidate.total)
                wanted.append(_drop(HwptVtdS1Invalidate.decode(raw)))
        finally:
            if wanted:
                self.drop(*wanted)
            requests.done += len(wanted)


def make(able: Abilities, parent: object, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Make one of what user space gives. Fields are not looked at yet. Raises Unsupported, Invalid, BadAddress."""
    if not able.nested or flags & ~DomainFlags.PASID:
        raise Unsupported(WHAT, "flags", int(flags), "PASID alone, on hardware that nests (ECAP.NEST)")
    if data.type != DATA_TYPE:
        raise Unsupported(WHAT, "data_type", data.type, f"{DATA_TYPE}")
    if not isinstance(parent, SecondStageDomain) or not parent.nest_parent:
        raise Invalid(WHAT, "parent", bound="second stage, allocated with NEST_PARENT")
    given = copy(data)
    return _add(NestedDomain(parent=parent, table=given.pgtbl_addr, width=given.addr_width, flags=_known(given.flags)))


def copy(data: UserData) -> HwptVtdS1:
    """Copy what user space gives. Raises Invalid, BadAddress."""
    return HwptVtdS1.decode(data.copy(DATA_TYPE, HwptVtdS1.total, HwptVtdS1.total))


def on_guest(guest: GuestUnit, flags: int, table: int, width: int, guest_domain: int | None) -> NestedDomain:
    """Make one on a vIOMMU; ``guest_domain`` None: every DID that the guest names may be meant. Raises Invalid."""
    if guest.parent is None:
        raise Invalid(guest.viommu.title, "stage 2", bound="set before anything nests on it")
    made = NestedDomain(
        parent=guest.parent, table=table, width=width, flags=_known(flags), guest=guest, guest_domain=guest_domain
    )
    guest.nested.append(made)
    return _add(made)


def _add(domain: NestedDomain) -> NestedDomain:
    domain.parent.nested.append(domain)
    return domain


def _known(flags: int) -> StageOneFlags:
    """Drop flags that mean nothing: nobody refuses them."""
    return StageOneFlags(flags & sum(StageOneFlags))


def _drop(request: HwptVtdS1Invalidate) -> Drop:
    """Give what a request names. Raises Unsupported, Invalid."""
    if request.flags & ~LEAF or request.reserved:
        raise Unsupported("invalidation", "flags", request.flags, "of LEAF, and __reserved 0")
    if request.addr % PAGE:
        raise Invalid("invalidation", "addr", request.addr, f"a multiple of {PAGE:#x}")
    leaf_only = bool(request.flags & LEAF)
    if request.npages == U64_MAX:
        if request.addr:
            raise Invalid("invalidation", "addr", request.addr, "0 where npages means everything")
        return Drop(EVERYTHING, leaf_only)
    # The kernel does not refuse 0 pages; it drops one.
    last = min(request.addr + max(request.npages, 1) * PAGE - 1, U64_MAX)
    return Drop(Pages.around(request.addr, last), leaf_only)
