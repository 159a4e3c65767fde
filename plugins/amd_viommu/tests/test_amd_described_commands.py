"""Runs of commands through the queue, which the engine executes, beside the same ones executed by plain arithmetic."""

from __future__ import annotations

import numpy as np
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from plugins.amd_viommu.tests import plain_commands as plain
from plugins.amd_viommu.tests.programmed import GUEST_PAGE, HOLE, HOST_PAGE, RAM, Programmed
from viommu import Access
from viommu_amd_viommu.spec.commands import (
    CompletionWait,
    InvalidateDevtabEntry,
    InvalidateInterruptTable,
    InvalidateIommuAll,
    InvalidateIommuPages,
    Opcode,
    PrefetchIommuPages,
)

PAGES = (0, 1, 2, 0x1F, 0x20, 0x1FF)
HOSTS = {0x10: 0x11, 0x11: 0x12, 0x12: 0x11}
GUESTS = {0x20: 0x11, 0x21: 0x13}
PASIDS = (0, 5)
READ_ONLY = 0x6000_0000
MAILBOX = RAM + 0x70_0000
REQUESTS = [*((device, None) for device in HOSTS), *((device, pasid) for device in GUESTS for pasid in PASIDS)]

addresses = st.sampled_from(
    [*(page << 12 for page in PAGES), 0x1000, 0x3000, 0xF000, 0x1F_F000, 0x7FFF_FFFF_FFFF_F000, 0xFFFF_FFFF_FFFF_F000]
)
bits = st.integers(0, 1)
domains = st.sampled_from([0x11, 0x12, 0x13, 0x14])
devices = st.sampled_from([*HOSTS, *GUESTS, 0x99])
pasids = st.sampled_from([0, 5, 6])
spoiled = st.sampled_from([0] * 24 + [1])
"""Now and then a bit that is reserved, somewhere."""

commands = st.one_of(
    st.builds(
        InvalidateIommuPages,
        Opcode=st.just(Opcode.INVALIDATE_IOMMU_PAGES),
        DomainID=domains,
        PASID=pasids,
        S=bits,
        PDE=bits,
        GN=bits,
        Address=addresses,
    ),
    st.builds(
        PrefetchIommuPages,
        Opcode=st.just(Opcode.PREFETCH_IOMMU_PAGES),
        DeviceID=devices,
        PASID=pasids,
        PFCount=st.integers(0, 3),
        S=bits,
        GN=bits,
        Inval=bits,
        Address=addresses,
    ),
    st.builds(InvalidateDevtabEntry, Opcode=st.just(Opcode.INVALIDATE_DEVTAB_ENTRY), DeviceID=devices),
    st.builds(InvalidateInterruptTable, Opcode=st.just(Opcode.INVALIDATE_INTERRUPT_TABLE), DeviceID=devices),
    st.builds(InvalidateIommuAll, Opcode=st.just(Opcode.INVALIDATE_IOMMU_ALL)),
    st.builds(
        CompletionWait,
        Opcode=st.just(Opcode.COMPLETION_WAIT),
        s=bits,
        f=bits,
        Address=st.sampled_from([MAILBOX, MAILBOX + 8] * 12 + [HOLE, READ_ONLY]),
        Data=st.integers(0, (1 << 64) - 1),
    ),
)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    raw = int(draw(commands))
    if draw(spoiled):
        raw ^= 1 << draw(st.integers(0, 123))
    return raw.to_bytes(16, "little")


runs = st.lists(st.one_of(*[entries()] * 15, st.binary(min_size=16, max_size=16)), max_size=24)


@define
class Warm:
    """An IOMMU whose caches hold all of some tables: host tables of two domains, guest tables of two."""

    machine: Programmed = field(factory=lambda: Programmed(walk_cache_entries=256).start())
    roots: dict[int, int] = field(factory=lambda: dict(GUESTS))

    def __attrs_post_init__(self) -> None:
        machine = self.machine
        machine.memory.place(READ_ONLY, np.zeros(0x1000, np.uint8), writable=False)
        for device, domain in HOSTS.items():
            root, table = machine.page(), machine.page()
            machine.store(root, table | 1 << 9 | HOST_PAGE)
            machine.device(device, Mode=2, HostPageTableRoot=root, DomainID=domain)
            for page in PAGES:
                machine.store(table + 8 * page, page << 12 | HOST_PAGE)
        for device, domain in GUESTS.items():
            table = machine.guest(0, device, DomainID=domain, GIOV=1)
            gcr3 = machine._next_page - 4 * 0x1000
            machine.store(gcr3 + 8 * 5, (gcr3 + 0x1000) | 1)
            for page in PAGES:
                machine.store(table + 8 * page, page << 12 | GUEST_PAGE)
        for device, pasid in REQUESTS:
            for page in PAGES:
                machine.pa(page << 12, pasid=pasid, requester=device)
        machine.machine.translator.reset_counters()

    def plainly(self, run: list[bytes]) -> tuple[int, dict[str, int]]:
        """Execute by plain arithmetic, up to the first command that halts: how many, and of what names."""
        kinds: dict[str, int] = {}
        domain_of = HOSTS | GUESTS
        for done, raw in enumerate(run):
            caches, memory = self.machine.machine.translator, self.machine.memory
            name = plain.execute(raw, caches, memory.write, domain_of, self.roots)
            if name is None:
                return done, kinds
            kinds[name] = kinds.get(name, 0) + 1
        return len(run), kinds

    def state(self) -> object:
        translator = self.machine.machine.translator
        invalidations = translator.counters()["invalidations"]
        contexts = [translator.cached_context(*request) is not None for request in map(as_asked, REQUESTS)]
        return invalidations, contexts, self._probed(), self.machine.memory.read(MAILBOX, 16)

    def _probed(self) -> list[tuple[int, int]]:
        """Whether each page hits, and how many entries are read where it does not."""
        translator, found = self.machine.machine.translator, []
        for request in map(as_asked, REQUESTS):
            for page in PAGES:
                before = translator.counters()
                translator.translate(request[0], page << 12, int(Access.READ), request[1])
                after = translator.counters()
                found.append((after["hits"] - before["hits"], after["entry_loads"] - before["entry_loads"]))
        return found


def as_asked(request: tuple[int, int | None]) -> tuple[int, int]:
    return request[0], 0xFFFF_FFFF if request[1] is None else request[1]


@given(run=runs)
def test_the_queue_does_what_plain_arithmetic_does(run: list[bytes]) -> None:
    run = [raw for raw in run if raw[7] >> 4 not in {4, 7, 10} and not (raw[7] >> 4 == 1 and raw[0] & 2)]
    queued, plainly = Warm(), Warm()

    queued.machine.submit(*run)
    done, kinds = plainly.plainly(run)

    assert queued.machine.read("CMDHEAD") == 16 * done
    assert queued.machine.status.CmdBufRun == (done == len(run))
    assert len(queued.machine.events()) == (done != len(run))
    assert dict(queued.machine.machine.command_counts) == kinds
    assert queued.state() == plainly.state()


def test_guest_roots_go_with_the_domain_that_they_were_cached_under() -> None:
    for guest, pasid, gone in ((0, 0, {None, 0, 5}), (1, 0, {None, 0, 5}), (1, 5, {5})):
        warm = Warm()
        asked = InvalidateIommuPages(
            Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=0x11, PASID=pasid, PDE=1, GN=guest, Address=0x9000
        )
        warm.machine.submit(asked)
        translator = warm.machine.machine.translator
        kept = {pasid for device, pasid in REQUESTS if translator.cached_context(*as_asked((device, pasid)))}
        assert translator.cached_context(0x20, 5) is None
        assert (translator.cached_context(0x20, 0) is None) == (0 in gone)
        assert translator.cached_context(0x21, 5) is not None
        assert None in kept  # host tables have no such roots
