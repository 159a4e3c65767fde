"""HST: no byte of a guest's, of user space's or in memory raises, hangs, or leads out of what the guest has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from viommu.api.buffers import copied
from viommu.faults import Access, Fault
from viommu.iommufd.uapi_types import HWPT_TYPES, type_of
from viommu.kernel_errors import KernelError
from viommu.testing.rule import Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import BASE, GUEST_PAGES, IOVA, guest, host

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalIommu
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest

Flip = tuple[int, int]
"""A word of the guest's memory, counted from the first that it has taken, and what it is changed by."""

FLIPS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, (1 << 64) - 1)), min_size=1, max_size=12)
BITS = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.integers(0, 63).map(lambda bit: 1 << bit)), min_size=1, max_size=12
)


def _flips(subject: Subject) -> st.SearchStrategy[list[Flip]]:  # noqa: ARG001
    return st.one_of(FLIPS, BITS)


@rule(
    "HST-001",
    "Whatever a guest writes into its tables and structures, DMA of its device stays in the guest's memory.",
    source="nested translation: stage 2 is the host's; HardwareModel.configure never raises for what memory holds",
    needs=(Need.NESTING,),
    plan=_flips,
    examples=60,
)
def guests_stay_in_their_memory(subject: Subject, plan: list[Flip]) -> None:
    """Change words of what the guest has written, and send accesses."""
    with guest(subject, cached=False) as one:
        space = one.attached()
        for place in range(4):
            space.tables.map(IOVA + place * PAGE, one.page())
        used = (one.next - BASE) // 8
        words = one.memory.view(np.uint64)
        for index, changes in plan:
            words[index % used] ^= np.uint64(changes)
        for place in range(4):
            for access in (Access.READ, Access.WRITE, Access.EXECUTE):
                outcome = one.device.translate(IOVA + place * PAGE, access, space.space.pasid)
                if isinstance(outcome, Fault):
                    one.host.machine.report(outcome)
                    continue
                _expect_inside(one, outcome.pa)


def _expect_inside(one: Guest, pa: int) -> None:
    """Find out whether a physical address is of the guest's memory, by writing there and looking."""
    memory = one.host.machine.memory
    before = one.memory.copy()
    raw = memory.read(pa & -8, 8) or bytes(8)
    memory.write(pa & -8, bytes(byte ^ 0xFF for byte in raw))
    changed = int((one.memory != before).sum())
    memory.write(pa & -8, raw)
    expect(changed == 8, f"DMA reaches {pa:#x}, which is none of the guest's {GUEST_PAGES} pages")


@rule(
    "HST-002",
    "Whatever data a nested HWPT is made of, it is made or refused; DMA then stays in the guest's memory.",
    source="viommu_alloc_nested_on, viommu_attach, Raises",
    needs=(Need.NESTING,),
    plan=lambda subject: st.lists(st.tuples(st.integers(0, 1 << 12), st.booleans()), min_size=1, max_size=6),  # noqa: ARG005
    examples=60,
)
def any_nested_data_is_survived(subject: Subject, plan: list[tuple[int, bool]]) -> None:
    """Flip bits of good data."""
    with guest(subject, cached=False) as one:
        space = one.space()
        space.tables.map(IOVA, one.page())
        data = copied(space.space.data)
        for bit, attach in plan:
            changed = bytearray(data.tobytes())
            changed[bit // 8 % len(changed)] ^= 1 << bit % 8
            below = one.parent if one.viommu is None else one.viommu
            kind = type_of(space.space.data, HWPT_TYPES, space.space.data_type)
            try:
                hwpt = below.hwpt_alloc(one.device, bytes(changed), data_type=kind)
            except KernelError:
                continue
            try:
                one.device.attach(hwpt)
            except KernelError:
                hwpt.destroy()
                continue
            for access in (Access.READ, Access.WRITE) if attach else (Access.READ,):
                outcome = one.device.translate(IOVA, access, space.space.pasid)
                if not isinstance(outcome, Fault):
                    _expect_inside(one, outcome.pa)
            one.device.detach()
            hwpt.destroy()
        space.attach()
        expect(space.reaches(IOVA) is not None, "a good HWPT does not work any more")


@rule(
    "HST-003",
    "Whatever is written to any register of running hardware, nothing is raised.",
    source="LiveHardware: no register value, index or byte in memory may raise, hang or grow memory without bound",
    needs=(Need.HOST, Need.LIVE),
    plan=lambda subject: st.lists(  # noqa: ARG005
        st.tuples(
            st.one_of(st.integers(0, 0x400).map(lambda word: word * 4), st.integers(0, 1 << 26)),
            st.sampled_from([4, 8]),
            st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 63).map(lambda bit: 1 << bit), st.integers(0, 7)),
        ),
        min_size=1,
        max_size=20,
    ),
    examples=80,
)
def any_register_is_survived(subject: Subject, plan: list[tuple[int, int, int]]) -> None:
    """Write registers, with nobody of the host listening, and use the device."""
    with host(subject, abandoned=True) as world:
        device, machine = world.device(), world.machine
        ioas = world.iommu.ioas_alloc()
        ioas.map(machine.buffer(PAGE), world.base)
        device.attach(ioas.hwpt_alloc(device))
        machine.handle_interrupts(None)
        for offset, size, value in plan:
            machine.write_register(offset, value & (1 << 8 * size) - 1, size)
            found = machine.read_register(offset, size)
            expect(0 <= found < 1 << 8 * size, f"register {offset:#x} of {size} bytes reads as {found:#x}")
        for access in (Access.READ, Access.WRITE):
            outcome = machine.translate(device.endpoint.requester, world.base, access)
            if isinstance(outcome, Fault):
                machine.report(outcome)


@rule(
    "HST-004",
    "Whatever bits of the host's own tables and queues flip, hardware answers with a translation or a fault.",
    source="HardwareModel.configure: never raises for what memory holds",
    needs=(Need.HOST, Need.LIVE),
    plan=lambda subject: st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(0, 63)), min_size=1, max_size=40),  # noqa: ARG005
    examples=60,
)
def any_memory_is_survived(subject: Subject, plan: list[Flip]) -> None:
    """Flip bits of words that are not zero, with nobody of the host listening."""
    with host(subject, cached=False, abandoned=True) as world:
        device, machine = world.device(), world.machine
        ioas = world.iommu.ioas_alloc()
        ioas.map(machine.buffer(PAGE * 4), world.base)
        device.attach(ioas.hwpt_alloc(device))
        machine.translate(device.endpoint.requester, world.base)
        machine.handle_interrupts(None)
        places = used_words(world.machine.host())
        for index, bit in plan:
            at = places[index % len(places)]
            machine.memory.store(at, (machine.memory.load(at) or 0) ^ 1 << bit)
        machine.translator.invalidate_contexts()
        pasids = (None, 1) if subject.has(Need.PASIDS) else (None,)
        for requester in subject.requesters:
            for access in (Access.READ, Access.WRITE, Access.READ | Access.EXECUTE):
                for pasid in pasids:
                    outcome = machine.translate(requester, world.base, access, pasid)
                    if isinstance(outcome, Fault):
                        machine.report(outcome)
                    machine.explain(requester, world.base, access)


def used_words(iommu: PhysicalIommu) -> list[int]:
    """List the physical addresses of words that the host has written to its frames."""
    found: list[int] = []
    for pa, length in iommu.port.frames.stretches():
        raw = iommu.port.memory.read(pa, length)
        if raw is not None:
            words = np.frombuffer(raw, np.uint64)
            found += [pa + 8 * int(place) for place in np.flatnonzero(words)]
    return found


@rule(
    "HST-005",
    "Whatever is asked of an access, a PASID, an address or rights that hardware may see, it ends.",
    source="Iommu.translate; DriverInfo.requester_bits, pasid_bits",
    plan=lambda subject: st.lists(  # noqa: ARG005
        st.tuples(st.integers(0, (1 << 64) - 1), st.integers(1, 15), st.integers(0, 1 << 20), st.integers(0, 1 << 32)),
        min_size=1,
        max_size=8,
    ),
    examples=60,
)
def any_access_ends(subject: Subject, plan: list[tuple[int, int, int, int]]) -> None:
    """Send accesses to hardware that nobody has programmed."""
    info = subject.driver.info
    with subject.machine() as machine:
        for iova, access, pasid, requester in plan:
            if not access & 7:
                continue
            sent = pasid % (1 << info.pasid_bits) if info.pasid_bits and pasid & 1 else None
            outcome = machine.translate(requester % (1 << info.requester_bits), iova, Access(access), sent)
            if isinstance(outcome, Fault):
                machine.report(outcome)
