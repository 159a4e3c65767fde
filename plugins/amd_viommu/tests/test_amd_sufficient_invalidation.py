"""Whatever software edits: after the commands that Linux sends for it, caches say what a fresh walk says."""

from __future__ import annotations

from itertools import pairwise

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from plugins.amd_viommu.tests.programmed import DEVICE, DEVICE_TABLE, GUEST_PAGE, HOST_PAGE, Programmed
from viommu import Access
from viommu_amd_viommu.spec.commands import AnyCommand, InvalidateDevtabEntry, InvalidateIommuPages, Opcode
from viommu_amd_viommu.spec.device_table import DTE

PAGES = range(8)
EVERYTHING = 0x7FFF_FFFF_FFFF_F000
HOST, NESTED = DEVICE, DEVICE + 1
PASIDS = (1, 2)
REQUESTS = ((HOST, None), (NESTED, None), *((NESTED, pasid) for pasid in PASIDS))

EDITS = st.one_of(
    st.tuples(st.just("host page"), st.sampled_from((0x10, 0x20)), st.sampled_from(PAGES), st.integers(0, 7)),
    st.tuples(st.just("guest page"), st.sampled_from(PASIDS), st.sampled_from(PAGES), st.integers(0, 7)),
    st.tuples(st.just("guest root"), st.sampled_from(PASIDS), st.sampled_from(PASIDS), st.just(0)),
    st.tuples(st.just("device"), st.sampled_from((HOST, NESTED)), st.sampled_from((0x10, 0x20)), st.just(0)),
)


def pages(domain: int, **fields: int) -> InvalidateIommuPages:
    return InvalidateIommuPages(Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=domain, **fields)


@define
class Edited:
    """Two host domains (identity but for their first pages), and guest tables whose pages lie in those."""

    machine: Programmed = field(factory=lambda: Programmed().start())
    hosts: dict[int, int] = field(factory=dict)
    guests: dict[int, tuple[int, int]] = field(factory=dict)
    gcr3: int = 0
    domains: dict[int, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        machine = self.machine
        for domain in (0x10, 0x20):
            root, low = machine.page(), machine.page()
            machine.store(root, low | 1 << 9 | HOST_PAGE)
            for slot in range(0x80, 0x84):  # 2 MiB each: where the tables of guests lie
                machine.store(root + slot * 8, slot << 21 | HOST_PAGE)
            self.hosts[domain] = root
            self.hosts[-domain] = low
        self.gcr3 = machine.page()
        for pasid in PASIDS:
            tables = [machine.page() for _ in range(4)]
            for above, below in pairwise(tables):
                machine.store(above, below | GUEST_PAGE)
            machine.store(self.gcr3 + 8 * pasid, tables[0] | 1)
            self.guests[pasid] = (tables[0], tables[-1])
        for requester in (HOST, NESTED):
            self.device(requester, 0x10)

    def device(self, requester: int, domain: int) -> list[AnyCommand]:
        """Move a device into a domain."""
        before = self.domains.get(requester, domain)
        self.domains[requester] = domain
        guest = {"GV": 1, "GCR3": self.gcr3} if requester == NESTED else {}
        entry = DTE(V=1, TV=1, IR=1, IW=1, Mode=2, HostPageTableRoot=self.hosts[domain], DomainID=domain, **guest)
        assert self.machine.memory.write(DEVICE_TABLE + requester * DTE.size, entry.encode())
        return [
            InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=requester),
            *(pages(one, S=1, PDE=1, Address=EVERYTHING) for one in {before, domain}),
        ]

    def host_page(self, domain: int, page: int, value: int) -> list[AnyCommand]:
        """Change one page; 0 unmaps it."""
        self.machine.store(self.hosts[-domain] + 8 * page, value << 12 | HOST_PAGE if value else 0)
        return [pages(domain, Address=page << 12)]

    def guest_page(self, pasid: int, page: int, value: int) -> list[AnyCommand]:
        self.machine.store(self.guests[pasid][1] + 8 * page, value << 12 | GUEST_PAGE if value else 0)
        return [pages(self.domains[NESTED], GN=1, PASID=one, Address=page << 12) for one in PASIDS]

    def guest_root(self, pasid: int, of: int, _: int) -> list[AnyCommand]:
        self.machine.store(self.gcr3 + 8 * pasid, self.guests[of][0] | 1)
        return [pages(self.domains[NESTED], GN=1, PASID=pasid, S=1, PDE=1, Address=EVERYTHING)]

    def edit(self, what: str, first: int, second: int, value: int) -> None:
        if what == "device":
            self.machine.submit(*self.device(first, second))
            return
        change = {"host page": self.host_page, "guest page": self.guest_page, "guest root": self.guest_root}[what]
        self.machine.submit(*change(first, second, value))

    def judge(self) -> None:
        iovas = [page << 12 for page in PAGES]
        for requester, pasid in REQUESTS:
            cached = self.machine.machine.translate_many(requester, iovas, int(Access.READ), pasid)
            fresh = self.machine.machine.probe_many(requester, iovas, int(Access.READ), pasid)
            assert (cached.pa == fresh.pa).all()
            assert (cached.page_lg2 == fresh.page_lg2).all()


@given(st.lists(EDITS, min_size=1, max_size=12))
def test_caches_agree_with_fresh_walks_after_sufficient_invalidations(edits: list[tuple[str, int, int, int]]) -> None:
    edited = Edited()
    edited.judge()

    for edit in edits:
        edited.edit(*edit)
        edited.judge()

    assert edited.machine.idle
