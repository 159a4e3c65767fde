"""Attaching domains to devices, and blocking them (Linux: attach_dev, set_dev_pasid, blocked_domain)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import Busy, Invalid
from viommu_smmuv3_cmdqv.host import entries
from viommu_smmuv3_cmdqv.host.domain import PagingDomain, Place, Stage1Domain, Stage2Domain
from viommu_smmuv3_cmdqv.host.master import NO_PASID
from viommu_smmuv3_cmdqv.host.vsmmu import NestedDomain
from viommu_smmuv3_cmdqv.spec.stream_table import DefaultSubstream

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.host.domain import Domain
    from viommu_smmuv3_cmdqv.host.entries import Stream
    from viommu_smmuv3_cmdqv.host.master import Master
    from viommu_smmuv3_cmdqv.host.vsmmu import VirtualMaster


def attach(master: Master, pasid: int, domain: Domain) -> None:
    """Let a domain govern a device's PASID instead of whatever does now. If it raises, nothing has changed.

    Raises Invalid, Busy, NotThere (no vDEVICE), NoMemory.
    """
    with master.smmu.lock:
        if pasid != NO_PASID:
            _attach_pasid(master, pasid, domain)
        elif isinstance(domain, NestedDomain):
            _attach_nested(master, domain)
        elif isinstance(domain, Stage1Domain):
            _attach_stage1(master, domain)
        elif isinstance(domain, Stage2Domain):
            _attach_stage2(master, domain)


def block(master: Master, pasid: int) -> None:
    """Let nothing govern a device's PASID."""
    with master.smmu.lock:
        if pasid == NO_PASID:
            _block_stream(master)
        elif pasid in master.attached:
            _block_pasid(master, pasid)


def park(master: Master) -> None:
    """Block a device, every PASID of it, for the time of a reset, after which everything governs as before."""
    with master.smmu.lock:
        before = master.ste
        master.install(entries.ABORTS)
        if master.ats_on:
            master.forget_device_tlb()
        master.install(before)


@define
class Change:
    """A change of what governs a PASID: from `of` on the new domain's invalidations reach the device as well.

    ``ats``: whether the device will use ATS. ``virtual``: whose events a guest is to see from then on.
    """

    master: Master
    pasid: int
    new: Domain | None
    ats: bool
    virtual: VirtualMaster | None = None
    _had_ats: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        """From here to the end of the change the device may hold translations if it used ATS before or will use it."""
        self._had_ats = self.master.ats_on
        self.master.ats_on = self._had_ats or self.ats

    @classmethod
    def of(cls, master: Master, pasid: int, new: Domain, *, ats: bool = True) -> Change:
        """Prepare the change to a domain."""
        change = cls(master, pasid, new, master.ats and ats)
        _table_below(new).use(place_of(master, pasid, new))
        return change

    @property
    def stream(self) -> Stream:
        """What STEs say of the device."""
        return entries.Stream(self.master.smmu.able, stalls=self.master.stalls, ats=self.ats)

    def commit(self) -> None:
        """Hardware uses the new domain: the device forgets the old one's translations, and the old one the device."""
        master = self.master
        if self._had_ats:
            # With ATS going off for all of the device everything goes; else what this PASID has.
            master.forget_device_tlb(self.pasid or None if self.ats else None)
        elif self.ats:
            master.forget_device_tlb()
        old = master.attached.pop(self.pasid, None)
        if old is not None:
            _table_below(old).leave(place_of(master, self.pasid, old))
        if self.new is not None:
            master.attached[self.pasid] = self.new
        master.ats_on = self.ats
        if self.pasid == NO_PASID:
            master.virtual = self.virtual


def place_of(master: Master, pasid: int, domain: Domain) -> Place:
    """Name the use of a page table that an attached domain makes."""
    return Place(master, pasid, nested=isinstance(domain, NestedDomain))


def _table_below(domain: Domain) -> PagingDomain:
    return domain.parent if isinstance(domain, NestedDomain) else domain


def _check_smmu(master: Master, domain: Domain) -> None:
    if domain.smmu is not master.smmu:
        raise Invalid(master.name, "SMMU", bound=f"the domain's, {domain.smmu.name}")


def _check_no_substreams(master: Master) -> None:
    if master.has_substreams:
        raise Busy(master.name, "PASIDs", bound="none attached, as the domain uses no CD table of the host's")


def _attach_stage1(master: Master, domain: Stage1Domain) -> None:
    _check_smmu(master, domain)
    table = master.make_room(NO_PASID)
    change = Change.of(master, NO_PASID, domain)
    master.write_cd(NO_PASID, domain.cd(change.stream))
    master.install(entries.stage1(change.stream, table, DefaultSubstream.SUBSTREAM_0))
    change.commit()


def _attach_stage2(master: Master, domain: Stage2Domain) -> None:
    _check_smmu(master, domain)
    _check_no_substreams(master)
    change = Change.of(master, NO_PASID, domain)
    master.install(entries.stage2(change.stream, domain.stage))
    master.clear_cd(NO_PASID)
    change.commit()


def _attach_nested(master: Master, domain: NestedDomain) -> None:
    _check_smmu(master, domain)
    _check_no_substreams(master)
    virtual = domain.virtual_master(master)
    # The guest must ask for ATS: else it would not invalidate what the device keeps.
    change = Change.of(master, NO_PASID, domain, ats=domain.ats)
    change.virtual = virtual
    master.install(domain.entry(change.stream))
    change.commit()


def _block_stream(master: Master) -> None:
    """Abort, or where PASIDs need the CD table, end what comes without one."""
    change = Change(master, NO_PASID, None, ats=master.ats_on and master.has_substreams)
    table = master.table
    if table is not None and master.has_substreams:
        master.install(entries.stage1(change.stream, table, DefaultSubstream.TERMINATE))
    else:
        master.install(entries.ABORTS)
    change.commit()
    master.clear_cd(NO_PASID)


def _attach_pasid(master: Master, pasid: int, domain: Domain) -> None:
    if not isinstance(domain, Stage1Domain):
        raise Invalid(master.name, "domain", bound="of stage 1, to govern a PASID")
    _check_smmu(master, domain)
    rid = master.attached.get(NO_PASID)
    if rid is not None and not isinstance(rid, Stage1Domain):
        raise Invalid(master.name, "domain without PASID", bound="of stage 1, or none, beside PASIDs")
    table = master.make_room(pasid)
    change = Change.of(master, pasid, domain)
    master.write_cd(pasid, domain.cd(change.stream))
    default = DefaultSubstream.TERMINATE if rid is None else DefaultSubstream.SUBSTREAM_0
    master.install(entries.stage1(change.stream, table, default))
    change.commit()


def _block_pasid(master: Master, pasid: int) -> None:
    change = Change(master, pasid, None, ats=master.ats_on)
    master.clear_cd(pasid)
    change.commit()
    if NO_PASID not in master.attached and not master.has_substreams:
        _block_stream(master)
