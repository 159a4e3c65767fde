"""Domains of the host driver govern devices on the hardware model: attach, replace, detach, map, unmap."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from plugins.vtd.tests.hosted import Hosted
from plugins.vtd.tests.plain_table import PlainTable
from viommu.faults import Access
from viommu.kernel_errors import Invalid, NoSpace, Unsupported
from viommu.ops import Prot
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host.attach import attach, block
from viommu_vtd.host.entries import StageOneFlags
from viommu_vtd.host.nested import NestedDomain
from viommu_vtd.host.paging import FirstStageDomain, PagingDomain, SecondStageDomain

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu_vtd.spec.registers import CAP, ECAP

RID = 0x0108
PASID = 0x123
RW = Prot.READ | Prot.WRITE
IOVA, PA = 0x40_0000, 0x1_0080_0000
BLOCKED = ("0x51", "0x59")
"""No PASID table, or an entry in it that is not present."""

MODES = {
    "legacy": (FULL_CAP, FULL_ECAP.replace(SMTS=0), "second_stage"),
    "second stage": (FULL_CAP, FULL_ECAP, "second_stage"),
    "first stage": (FULL_CAP, FULL_ECAP, "first_stage"),
    "second stage, caching mode": (FULL_CAP.replace(CM=1), FULL_ECAP, "second_stage"),
    "legacy, caching mode": (FULL_CAP.replace(CM=1), FULL_ECAP.replace(SMTS=0), "second_stage"),
}


def mode(name: str) -> tuple[Hosted, PagingDomain]:
    cap, ecap, kind = MODES[name]
    hosted = Hosted.make(cap, ecap, sanitize=True)
    domain: PagingDomain = getattr(hosted, kind)()
    return hosted, domain


def clean(hosted: Hosted) -> None:
    """The sanitizer found no translation in use that software had not invalidated."""
    assert hosted.machine.sanitizer is not None
    assert not hosted.machine.sanitizer.reports


@pytest.mark.parametrize("name", MODES)
def test_dma_goes_where_the_domain_maps_and_nowhere_else(name: str) -> None:
    hosted, domain = mode(name)
    device = hosted.device(RID)
    domain.map(IOVA, PA, 0x3000, RW, None)
    attach(device, 0, domain)
    assert [hosted.reaches(RID, IOVA + offset) for offset in (0x123, 0x2FFF)] == [PA + 0x123, PA + 0x2FFF]
    assert isinstance(hosted.reaches(RID, IOVA + 0x3000), str)
    domain.map(IOVA + 0x3000, PA + 0x7000, 0x1000, RW, None)
    assert hosted.reaches(RID, IOVA + 0x3000) == PA + 0x7000
    domain.unmap(IOVA, 0x2000)
    assert isinstance(hosted.reaches(RID, IOVA), str)
    assert hosted.reaches(RID, IOVA + 0x2000) == PA + 0x2000
    clean(hosted)


@pytest.mark.parametrize("name", MODES)
def test_a_detached_device_reaches_nothing_and_its_did_is_free(name: str) -> None:
    hosted, domain = mode(name)
    device = hosted.device(RID)
    domain.map(IOVA, PA, 0x1000, RW, None)
    attach(device, 0, domain)
    assert hosted.reaches(RID, IOVA) == PA
    block(device, 0)
    assert isinstance(hosted.reaches(RID, IOVA), str)
    assert (hosted.unit.ids.taken, domain.tags, domain.devices) == (set(), {}, [])
    block(device, 0)
    clean(hosted)


@pytest.mark.parametrize("name", MODES)
def test_a_replaced_domain_governs_no_more(name: str) -> None:
    hosted, domain = mode(name)
    other: PagingDomain = getattr(hosted, MODES[name][2])()
    device = hosted.device(RID)
    domain.map(IOVA, PA, 0x1000, RW, None)
    other.map(IOVA, PA + 0x5000, 0x1000, RW, None)
    attach(device, 0, domain)
    assert hosted.reaches(RID, IOVA) == PA
    attach(device, 0, other)
    assert hosted.reaches(RID, IOVA) == PA + 0x5000
    clean(hosted)


@pytest.mark.parametrize("name", MODES)
def test_devices_of_one_domain_share_a_did_and_leave_one_by_one(name: str) -> None:
    hosted, domain = mode(name)
    devices = [hosted.device(RID + offset) for offset in range(3)]
    domain.map(IOVA, PA, 0x1000, RW, None)
    for device in devices:
        attach(device, 0, domain)
    assert len(hosted.unit.ids.taken) == 1
    block(devices[0], 0)
    assert [isinstance(hosted.reaches(device.source, IOVA), str) for device in devices] == [True, False, False]
    domain.unmap(IOVA, 0x1000)
    assert all(isinstance(hosted.reaches(device.source, IOVA), str) for device in devices)
    clean(hosted)


def test_everything_goes_back_when_domain_device_and_unit_go() -> None:
    hosted, domain = mode("second stage")
    device = hosted.device(RID, pasids=1 << 20)
    domain.map(IOVA, PA, 0x1000, RW, None)
    attach(device, 0, domain)
    attach(device, PASID, domain)
    for pasid in (0, PASID):
        block(device, pasid)
    domain.free()
    device.release()
    hosted.unit.stop()
    assert not hosted.frames.taken


# --- PASIDs


def test_pasids_and_requests_without_one_are_governed_each_by_its_own() -> None:
    hosted = Hosted.make(sanitize=True)
    device = hosted.device(RID, pasids=1 << 20)
    domains = {0: hosted.second_stage(), PASID: hosted.first_stage(), PASID + 1: hosted.second_stage()}
    for pasid, domain in domains.items():
        domain.map(IOVA, PA + (pasid << 12), 0x1000, RW, None)
        attach(device, pasid, domain)
    reached = [hosted.reaches(RID, IOVA, pasid) for pasid in (None, PASID, PASID + 1)]
    assert reached == [PA, PA + (PASID << 12), PA + (PASID + 1 << 12)]
    block(device, PASID)
    assert hosted.reaches(RID, IOVA, PASID) in BLOCKED
    assert hosted.reaches(RID, IOVA) == PA
    attach(device, PASID + 1, domains[PASID])
    assert hosted.reaches(RID, IOVA, PASID + 1) == PA + (PASID << 12)
    domains[PASID].unmap(IOVA, 0x1000)
    assert hosted.reaches(RID, IOVA, PASID + 1) == "0x71"
    clean(hosted)


def test_a_domain_that_notes_writes_is_not_for_pasids() -> None:
    hosted = Hosted.make()
    device = hosted.device(RID, pasids=1 << 20)
    with pytest.raises(Invalid, match="without DIRTY_TRACKING"):
        attach(device, PASID, hosted.second_stage(dirty=True))


def test_without_pasids_in_the_unit_none_is_attached() -> None:
    hosted = Hosted.make(ecap=FULL_ECAP.replace(PASID=0))
    with pytest.raises(Unsupported, match="PASID"):
        attach(hosted.device(RID), PASID, hosted.second_stage())


# --- what does not fit


@pytest.mark.parametrize(
    ("cap", "ecap", "kind", "what"),
    [
        (FULL_CAP, FULL_ECAP.replace(FSTS=0), "first", "first stage"),
        (FULL_CAP.replace(FL5LP=0), FULL_ECAP, "first 5", "levels"),
        (FULL_CAP.replace(FL1GP=0), FULL_ECAP, "first 1G", "page size"),
        (FULL_CAP, FULL_ECAP.replace(SSTS=0), "second", "second stage"),
        (FULL_CAP.replace(MGAW=38), FULL_ECAP, "second", "address width"),
        (FULL_CAP.replace(SAGAW=0b1010), FULL_ECAP, "second", "AW"),
        (FULL_CAP.replace(SSLPS=1), FULL_ECAP, "second 1G", "page size"),
        (FULL_CAP, FULL_ECAP.replace(SSADS=0), "second dirty", "dirty tracking"),
        (FULL_CAP, FULL_ECAP.replace(NEST=0), "second parent", "nesting"),
        (FULL_CAP, FULL_ECAP.replace(SC=0), "second snooping", "snoop control"),
    ],
)
def test_a_domain_that_the_unit_cannot_walk_is_refused_and_the_device_is_blocked(
    cap: CAP, ecap: ECAP, kind: str, what: str
) -> None:
    hosted = Hosted.make(cap, ecap)
    device = hosted.device(RID)
    domain = _domain(hosted, kind)
    with pytest.raises(Invalid, match=what):
        attach(device, 0, domain)
    assert hosted.reaches(RID, IOVA) in BLOCKED
    assert len(hosted.unit.ids.taken) == 0


def _domain(hosted: Hosted, kind: str) -> PagingDomain:
    domain: PagingDomain
    if kind.startswith("first"):
        domain = hosted.first_stage(5 if "5" in kind else 4)
    else:
        domain = hosted.second_stage(nest_parent="parent" in kind, dirty="dirty" in kind)
        domain.snoop = "snooping" in kind
    if "1G" in kind:
        domain.page_sizes |= 1 << 30
    return domain


def test_when_dids_run_out_a_pasid_keeps_what_it_has_and_a_device_is_blocked() -> None:
    hosted = Hosted.make(cap=FULL_CAP.replace(ND=0))
    device = hosted.device(RID, pasids=1 << 20)
    domains = [hosted.second_stage() for _ in range(15)]
    for pasid, domain in enumerate(domains[:14]):
        domain.map(IOVA, PA, 0x1000, RW, None)
        attach(device, pasid, domain)
    with pytest.raises(NoSpace):
        attach(device, 3, domains[14])
    assert hosted.reaches(RID, IOVA, 3) == PA


# --- nested


def nested(parent: SecondStageDomain, guest: PlainTable, flags: int = 0, width: int = 48) -> NestedDomain:
    domain = NestedDomain(parent=parent, table=guest.root, width=width, flags=StageOneFlags(flags))
    parent.nested.append(domain)
    return domain


def test_nested_translations_follow_changes_of_either_stage() -> None:
    hosted = Hosted.make(sanitize=True)
    device = hosted.device(RID, pasids=1 << 20)
    parent = hosted.second_stage(nest_parent=True)
    guest = PlainTable(hosted.frames, 4, first=True)
    # What the guest takes for physical is: its tables lie where they are, its page at 0x9000.
    parent.map(0x1_0000_0000, 0x1_0000_0000, 0x40_0000, RW, None)
    parent.map(0x9000, PA, 0x1000, RW, None)
    guest.map(IOVA, 0x9000, 0x1000, RW, None)
    domain = nested(parent, guest)
    attach(device, 0, domain)
    attach(device, PASID, domain)
    assert [hosted.reaches(RID, IOVA, pasid) for pasid in (None, PASID)] == [PA, PA]
    parent.unmap(0x9000, 0x1000)
    assert isinstance(hosted.reaches(RID, IOVA), str)
    assert isinstance(hosted.reaches(RID, IOVA, PASID), str)
    parent.map(0x9000, PA + 0x1000, 0x1000, RW, None)
    assert [hosted.reaches(RID, IOVA, pasid) for pasid in (None, PASID)] == [PA + 0x1000] * 2
    clean(hosted)
    block(device, 0)
    block(device, PASID)
    assert not parent.tags
    assert len(hosted.unit.ids.taken) == 0


@pytest.mark.parametrize(
    ("cap", "ecap", "flags", "width", "what"),
    [
        (FULL_CAP, FULL_ECAP, 0, 39, "addr_width"),
        (FULL_CAP.replace(FL5LP=0), FULL_ECAP, 0, 57, "addr_width"),
        (FULL_CAP, FULL_ECAP.replace(SRS=0), 1, 48, "SRE"),
        (FULL_CAP, FULL_ECAP.replace(EAFS=0), 2, 48, "EAFE"),
        (FULL_CAP, FULL_ECAP.replace(NEST=0), 0, 48, "nesting"),
    ],
)
def test_a_guests_table_that_hardware_cannot_walk_is_refused_when_it_is_attached(
    cap: CAP, ecap: ECAP, flags: int, width: int, what: str
) -> None:
    hosted = Hosted.make(cap, ecap)
    device = hosted.device(RID)
    guest = PlainTable(hosted.frames, 4, first=True)
    with pytest.raises(Invalid, match=what):
        attach(device, 0, nested(hosted.second_stage(nest_parent=True), guest, flags, width))
    assert hosted.reaches(RID, IOVA) in BLOCKED
    assert len(hosted.unit.ids.taken) == 0


# --- device TLBs, coherency, dirty tracking


def test_a_device_tlb_forgets_what_is_unmapped_replaced_or_detached() -> None:
    hosted = Hosted.make(sanitize=True)
    device = hosted.device(RID, ats=True, pasids=1 << 20)
    tlb = hosted.machine.device(RID)
    domain, other = hosted.second_stage(), hosted.second_stage()
    domain.map(IOVA, PA, 0x2000, RW, None)
    other.map(IOVA, PA + 0x5000, 0x2000, RW, None)
    for pasid in (0, PASID):
        attach(device, pasid, domain)
    tlb.translate(IOVA, Access.READ)
    tlb.translate(IOVA, Access.READ, PASID)
    assert len(tlb.tlb) == 2
    domain.unmap(IOVA + 0x1000, 0x1000)
    assert len(tlb.tlb) == 2
    attach(device, 0, other)
    assert len(tlb.tlb) == 1
    domain.unmap(IOVA, 0x1000)
    assert len(tlb.tlb) == 0
    tlb.translate(IOVA, Access.READ)
    block(device, 0)
    assert len(tlb.tlb) == 0
    clean(hosted)


def test_coherency_is_enforced_before_second_stage_has_leaves_and_at_any_time_on_first_stage() -> None:
    hosted = Hosted.make()
    second, first = hosted.second_stage(), hosted.first_stage()
    second.map(IOVA, PA, 0x1000, RW, None)
    assert not second.enforce_coherency()
    device = hosted.device(RID)
    attach(device, 0, first)
    assert device.tables is not None
    assert not device.tables.read(0).PGSNP
    assert first.enforce_coherency()
    assert device.tables.read(0).PGSNP


def test_coherency_is_not_promised_where_the_unit_cannot() -> None:
    hosted = Hosted.make(ecap=FULL_ECAP.replace(SC=0))
    domain = hosted.second_stage()
    attach(hosted.device(RID), 0, domain)
    assert not domain.enforce_coherency()


def test_dirty_tracking_is_switched_under_devices_and_under_what_is_nested() -> None:
    hosted = Hosted.make()
    parent = hosted.second_stage(nest_parent=True, dirty=True)
    guest = PlainTable(hosted.frames, 4, first=True)
    below, above = hosted.device(RID), hosted.device(RID + 1, pasids=1 << 20)
    attach(below, 0, parent)
    attach(above, PASID, nested(parent, guest))
    parent.set_tracking(enable=True)
    assert below.tables is not None
    assert above.tables is not None
    assert (below.tables.read(0).SSADE, above.tables.read(PASID).SSADE) == (1, 1)
    parent.set_tracking(enable=False)
    assert (below.tables.read(0).SSADE, above.tables.read(PASID).SSADE) == (0, 0)


def test_a_nesting_parent_takes_nothing_read_only() -> None:
    hosted = Hosted.make()
    parent, plain = hosted.second_stage(nest_parent=True), hosted.second_stage()
    plain.map(IOVA, PA, 0x1000, Prot.READ, None)
    with pytest.raises(Invalid, match="erratum 772415"):
        parent.map(IOVA, PA, 0x1000, Prot.READ, None)
    assert parent.physical(IOVA) is None


def test_first_stage_domains_are_what_their_class_says() -> None:
    assert FirstStageDomain.by_first_stage
    assert not SecondStageDomain.by_first_stage


# --- caching mode: what was absent may be cached, so that what appears must be told too


def told_by(hosted: Hosted, work: Callable[[], object]) -> dict[str, int]:
    """The descriptors that something took, without the waits."""
    before = Counter(hosted.commands)
    work()
    found = Counter(hosted.commands) - before
    del found["wait"]
    return dict(found)


def test_in_caching_mode_hardware_is_told_of_what_becomes_present() -> None:
    hosted = Hosted.make(FULL_CAP.replace(CM=1), FULL_ECAP)
    assert told_by(hosted, lambda: hosted.device(RID)) == {"context_cache": 1}
    device = hosted.unit.devices[RID]
    second, first = hosted.second_stage(), hosted.first_stage()
    assert told_by(hosted, lambda: attach(device, 0, second)) == {"pasid_cache": 1, "pasid_iotlb": 1}
    assert told_by(hosted, lambda: second.map(IOVA, PA, 0x1000, RW, None)) == {"iotlb": 1}
    block(device, 0)
    attach(device, 0, first)
    assert told_by(hosted, lambda: first.map(IOVA, PA, 0x1000, RW, None)) == {}


def test_in_caching_mode_a_legacy_context_entry_is_told_too() -> None:
    hosted = Hosted.make(FULL_CAP.replace(CM=1), FULL_ECAP.replace(SMTS=0))
    device, domain = hosted.device(RID), hosted.second_stage()
    assert told_by(hosted, lambda: attach(device, 0, domain)) == {"context_cache": 1, "iotlb": 1}


def test_else_nothing_is_told_of_what_becomes_present() -> None:
    hosted = Hosted.make()
    domain = hosted.second_stage()

    def appear() -> None:
        attach(hosted.device(RID), 0, domain)
        domain.map(IOVA, PA, 0x1000, RW, None)

    assert told_by(hosted, appear) == {}


def test_memory_of_tables_is_given_back_once_caches_have_forgotten_them() -> None:
    hosted = Hosted.make()
    domain = hosted.second_stage()
    table = domain.table
    assert isinstance(table, PlainTable)
    attach(hosted.device(RID), 0, domain)
    domain.map(IOVA, PA, 0x1000, RW, None)
    order: list[tuple[int, int]] = []
    hosted.machine.memory.watcher = lambda *_: order.append((table.freed, hosted.commands.get("iotlb", 0)))
    domain.unmap(IOVA, 0x1000)
    assert all(freed == 0 for freed, _ in order)
    assert (table.freed, hosted.commands["iotlb"]) == (1, 1)


# --- nothing missing, nothing superfluous


def superfluous(hosted: Hosted, work: Callable[[], object]) -> int:
    """How many invalidations of the IOTLB something took that removed nothing."""
    assert hosted.machine.sanitizer is not None
    before = hosted.machine.sanitizer.counts()["removed_nothing"]
    work()
    return hosted.machine.sanitizer.counts()["removed_nothing"] - before


@pytest.mark.parametrize("name", MODES)
def test_an_unmap_of_what_is_cached_takes_no_invalidation_in_vain(name: str) -> None:
    hosted, domain = mode(name)
    domain.map(IOVA, PA, 0x3000, RW, None)
    devices = [hosted.device(RID + offset) for offset in range(2)]
    for device in devices:
        attach(device, 0, domain)
        hosted.reaches(device.source, IOVA)
        hosted.reaches(device.source, IOVA + 0x2000)
    assert superfluous(hosted, lambda: domain.unmap(IOVA, 0x1000)) == 0
    assert superfluous(hosted, lambda: block(devices[0], 0)) == 0


def test_a_change_of_a_parent_takes_one_invalidation_for_each_guest_that_had_it_cached() -> None:
    hosted = Hosted.make(sanitize=True)
    parent, guests = hosted.second_stage(nest_parent=True), []
    parent.map(0x1_0000_0000, 0x1_0000_0000, 0x40_0000, RW, None)
    parent.map(0x9000, PA, 0x1000, RW, None)
    for offset in range(3):
        guest = PlainTable(hosted.frames, 4, first=True)
        guest.map(IOVA, 0x9000, 0x1000, RW, None)
        guests.append(hosted.device(RID + offset))
        attach(guests[-1], 0, nested(parent, guest))
        assert hosted.reaches(RID + offset, IOVA) == PA
    assert told_by(hosted, lambda: parent.unmap(0x9000, 0x1000)) == {"iotlb": 3}
    clean(hosted)
