"""What a program does with a dma-tester behind each vendor's IOMMU."""

from __future__ import annotations

import time
import zlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import asdict

from tests.service.tester import (
    ADD,
    ASK,
    ATS,
    CAS,
    COMPARE,
    COPY,
    DATA,
    EXECUTE,
    FENCE,
    FILL,
    INTERRUPT,
    NOP,
    PAGE,
    PRI,
    PRIVILEGED,
    READ,
    SWAP,
    TRANSLATE,
    WRITE,
    Owner,
    descriptor,
    raised,
)
from viommu.models import dma_tester
from viommu.policies import MAINLINE, Policy
from viommu.vfio.uapi import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu import Machine
    from viommu.api.events import FaultQueue, PageRequest
    from viommu.vfio.function import Function

VENDORS = ["vtd", "smmuv3_cmdqv", "amd_viommu"]
DONE, FAULT, NO_MEMORY, NO_RIGHTS, UNSUPPORTED, ABORTED, REFUSED, NOT_MASTER, BAD, IMPOSSIBLE = range(10)
PASIDS_ON_AMD = Policy(invalidate_by_viommu=True)
"""Linux 7.2 attaches nothing to PASIDs of an AMD IOMMU; ahead of it, it may be done."""
HOLE = DATA + (1 << 30)


def plugged(options: dict[str, str], function: Function, machine: Machine) -> None:
    model = dma_tester.viommu_model(function.bus, options)
    assert model is not None
    assert model.shape.features is not None
    endpoint = machine.add_device(0x0108, name=function.name, **asdict(model.shape.features))
    function.plug(model, endpoint)


@pytest.fixture
def owner_of() -> Callable[..., Owner]:
    def made(driver: str = "vtd", policy: Policy = MAINLINE, **options: str) -> Owner:
        return Owner.make(driver, partial(plugged, options), policy)

    return made


@pytest.fixture(params=VENDORS)
def owner(request: pytest.FixtureRequest, owner_of: Callable[..., Owner]) -> Owner:
    """One that is attached to an IOAS where everything is mapped."""
    found = owner_of(request.param)
    found.attach()
    found.enable()
    return found


def noise(size: int, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def test_it_says_what_it_is(owner: Owner) -> None:
    assert (owner.load(0), owner.load(4)) == (0x54414D44, 1)
    able = owner.load(8, 8)
    assert able & 0x1F == 0b01111
    assert (able >> 8 & 0x1F, able >> 16 & 0xF) == (20, 4)


def test_it_copies_fills_compares_and_sums(owner: Owner) -> None:
    owner.data[: 70 * PAGE] = noise(70 * PAGE)
    size = 65 * PAGE + 77
    assert owner.do(COPY, source=DATA + 5, target=DATA + 100 * PAGE + 1, length=size).result == size
    assert np.array_equal(owner.data[100 * PAGE + 1 :][:size], owner.data[5:][:size])
    assert owner.do(READ, source=DATA + 5, length=size).result == zlib.crc32(owner.data[5 : 5 + size].tobytes())
    same = owner.do(COMPARE, source=DATA + 5, target=DATA + 100 * PAGE + 1, length=size)
    assert (same.status, same.result) == (DONE, size)
    owner.data[100 * PAGE + 1 + 50_000] ^= 1
    assert owner.do(COMPARE, source=DATA + 5, target=DATA + 100 * PAGE + 1, length=size).result == 50_000
    assert owner.do(FILL, target=DATA + 200 * PAGE + 3, length=8195, operand=0x0807060504030201).result == 8195
    expected = np.resize(np.arange(1, 9, dtype=np.uint8), 8195)
    assert np.array_equal(owner.data[200 * PAGE + 3 :][:8195], expected)
    assert not owner.data[200 * PAGE + 3 + 8195]
    owner.do(WRITE, target=DATA + 7, length=11, operand=0x1111111111111111, operand2=0x222222)
    assert owner.data[7:19].tobytes() == b"\x11" * 8 + b"\x22" * 3 + owner.data[18:19].tobytes()


def test_atomic_operations_give_what_was_there(owner: Owner) -> None:
    words = owner.data.view(np.uint64)
    words[4] = 0xFFFF_FFFF_0000_0005
    assert owner.do(ADD, target=DATA + 32, length=4, operand=0xFFFF_FFFF).result == 5
    assert words[4] == 0xFFFF_FFFF_0000_0004
    assert owner.do(SWAP, target=DATA + 36, length=4, operand=7).result == 0xFFFF_FFFF
    assert words[4] == 0x7_0000_0004
    assert owner.do(CAS, target=DATA + 32, length=8, operand=1, operand2=2).result == 0x7_0000_0004
    assert words[4] == 0x7_0000_0004
    assert owner.do(CAS, target=DATA + 32, length=8, operand=0x7_0000_0004, operand2=2).result == 0x7_0000_0004
    assert words[4] == 2


@pytest.mark.parametrize("operation", [READ, WRITE, COPY, COMPARE, FILL, ADD])
def test_a_refusal_says_where_and_how_far_it_came(owner: Owner, operation: int) -> None:
    end = DATA + len(owner.data)
    before = 0 if operation == ADD else 8
    length = 8 if operation == ADD else 16
    record = owner.do(operation, source=end - before, target=end - before, length=length)
    assert (record.status, record.address, record.result) == (FAULT, end, before)
    assert record.at_target == (operation not in {READ, COPY, COMPARE})


@pytest.mark.parametrize("flags", [0, ATS])
def test_the_side_that_was_refused_is_told(owner_of: Callable[..., Owner], flags: int) -> None:
    owner = owner_of()
    owner.attach()
    owner.enable()
    for source, target in ((DATA, HOLE), (HOLE, DATA)):
        record = owner.do(COPY, flags, source=source, target=target, length=PAGE)
        assert record.status in {FAULT, NO_RIGHTS, UNSUPPORTED}
        assert (record.address, record.at_target, record.result) == (HOLE, target == HOLE, 0)


@pytest.mark.parametrize(
    ("operation", "flags", "fields", "status"),
    [
        (11, 0, {}, BAD),
        (NOP, PRIVILEGED, {}, DONE),
        (READ, PRIVILEGED, {"source": DATA, "length": 8}, BAD),
        (READ, EXECUTE, {"source": DATA, "length": 8}, BAD),
        (WRITE, 0, {"target": DATA, "length": 17}, BAD),
        (ADD, 0, {"target": DATA + 4, "length": 8}, BAD),
        (ADD, 0, {"target": DATA, "length": 2}, BAD),
        (READ, 0, {"source": DATA, "length": (1 << 40) + 1}, BAD),
        (COPY, 0, {"source": DATA, "length": 1 << 39, "operand": 3}, BAD),
        (READ, 0, {"source": (1 << 64) - 8, "length": 16}, IMPOSSIBLE),
        (ASK, 0, {"source": DATA, "length": 65 * PAGE, "operand": 1}, BAD),
        (ASK, 0, {"source": DATA, "length": 8, "operand": 8}, BAD),
        (READ, 0, {"source": DATA, "length": 0}, DONE),
        (COPY, 0, {"length": 0}, DONE),
        (COMPARE, ATS, {"length": 0}, DONE),
    ],
)
def test_a_descriptor_that_cannot_be_is_refused(
    owner_of: Callable[..., Owner], operation: int, flags: int, fields: dict[str, int], status: int
) -> None:
    owner = owner_of()
    owner.attach()
    owner.enable()
    assert owner.do(operation, flags, **fields).status == status


def test_reserved_bits_are_refused(owner_of: Callable[..., Owner]) -> None:
    owner = owner_of()
    owner.attach()
    owner.enable()
    raw = bytearray(descriptor(NOP))
    raw[63] = 1
    owner.submit(bytes(raw))
    assert owner.next_record().status == BAD


@pytest.mark.parametrize("missing", [{"ats": "no"}, {"pri": "no"}, {"pasid_bits": "0"}])
def test_what_the_device_has_not_is_refused(owner_of: Callable[..., Owner], missing: dict[str, str]) -> None:
    owner = owner_of(**missing)
    owner.attach()
    owner.enable()
    flags = PRIVILEGED if "pasid_bits" in missing else PRI
    pasid = 1 if "pasid_bits" in missing else None
    record = owner.do(READ, flags, source=DATA, length=8, source_pasid=pasid)
    assert record.status == IMPOSSIBLE


def test_a_ring_goes_round_and_its_phase_changes(owner: Owner) -> None:
    for _ in range(3):
        owner.submit(*[descriptor(NOP, cookie=n) for n in range(200)])
        assert [owner.next_record().cookie for _ in range(200)] == list(range(200))
    assert owner.load(0x1024) == owner.load(0x1028) == 600
    assert owner.load(0x102C) == 0


def test_each_ring_raises_its_own_vector(owner: Owner) -> None:
    fds = owner.listen()
    owner.do(NOP, INTERRUPT)
    owner.do(NOP)
    at = 0x1000 + 0x40 * 3
    owner.enable(ring=3)
    owner.ring[:64] = np.frombuffer(descriptor(NOP, INTERRUPT), np.uint8)
    owner.store(at + 0x20, 1)
    assert owner.next_record().status == DONE
    assert raised(fds) == [1, 0, 0, 1]


@pytest.mark.parametrize(("operation", "error"), [("size", 4), ("tail", 3), ("fetch", 1), ("record", 2)])
def test_a_ring_that_cannot_go_on_stops_and_says_why(owner: Owner, operation: str, error: int) -> None:
    fds = owner.listen()
    owner.store(0x1018, 0)
    address = 0
    if operation == "size":
        owner.store(0x1010, 17)
    elif operation == "fetch":
        owner.store(0x1000, HOLE, 8)
        address = HOLE
    elif operation == "record":
        owner.store(0x1008, HOLE, 8)
        address = HOLE
    owner.store(0x1018, 1)
    owner.store(0x1020, 257 if operation == "tail" else 1)
    time.sleep(0.01)
    assert owner.load(0x101C) == error << 8
    assert owner.load(0x1030, 8) == address
    assert raised(fds) == [1, 0, 0, 0]
    owner.enable()
    assert owner.do(NOP).status == DONE


def test_a_program_that_stops_the_ring_hears_no_more_of_it(owner: Owner) -> None:
    owner.submit(*[descriptor(COPY, source=DATA, target=DATA + 64 * PAGE, length=PAGE, operand=1 << 20)] * 3)
    owner.store(0x1018, 0)
    assert owner.load(0x101C) & 1 == 0
    owner.enable()
    assert owner.do(NOP).status == DONE


def test_registers_are_answered_while_a_long_copy_runs(owner: Owner) -> None:
    owner.submit(descriptor(COPY, source=DATA, target=DATA + 64 * PAGE, length=1 << 18, operand=1 << 14))
    slowest = 0.0
    for _ in range(20):
        before = time.monotonic()
        assert owner.load(0) == 0x54414D44
        slowest = max(slowest, time.monotonic() - before)
    assert slowest < 2
    owner.store(0x1018, 0)


def test_without_bus_mastering_nothing_is_sent(owner: Owner) -> None:
    owner.function.store(Region.CONFIG, 4, (2).to_bytes(2, "little"))
    owner.submit(descriptor(NOP))
    time.sleep(0.01)
    assert owner.load(0x101C) >> 8 == 1


def test_a_reset_forgets_everything(owner: Owner) -> None:
    owner.do(NOP)
    owner.function.reset()
    assert owner.load(0x101C) == owner.load(0x1024) == owner.load(0x1000, 8) == 0
    assert owner.load(8, 8) != 0
    owner.enable()
    assert owner.do(NOP).status == DONE


def test_repeated_copies_count_every_byte(owner: Owner) -> None:
    owner.data[: 3 * PAGE] = noise(3 * PAGE, 4)
    record = owner.do(COPY, source=DATA, target=DATA + 16 * PAGE, length=3 * PAGE, operand=1000)
    assert record.result == 3000 * PAGE
    assert np.array_equal(owner.data[: 3 * PAGE], owner.data[16 * PAGE : 19 * PAGE])


# --- the device's own TLB


@pytest.mark.parametrize("driver", ["vtd", "amd_viommu", "smmuv3_cmdqv"])
def test_translations_are_held_until_they_are_invalidated(owner_of: Callable[..., Owner], driver: str) -> None:
    owner = owner_of(driver)
    ioas = owner.iommu.ioas_alloc()
    owner.map_all(ioas)
    owner.device.attach(ioas)
    owner.enable()
    record = owner.do(TRANSLATE, source=DATA + 0x123, operand=1)
    if record.status == UNSUPPORTED:
        pytest.skip(f"{driver} does not let this device use ATS")
    assert (record.status, record.detail & 3) == (DONE, 3)
    assert record.result % PAGE == 0x123
    assert owner.load(0x14) == 1
    before = owner.load(0x18, 8)
    owner.do(COPY, ATS, source=DATA, target=DATA + PAGE, length=8)
    ioas.unmap(DATA, len(owner.data))
    assert owner.load(0x18, 8) > before
    assert owner.load(0x14) == 0
    assert owner.do(READ, ATS, source=DATA, length=8).status != DONE


def test_the_program_drops_what_the_device_holds(owner_of: Callable[..., Owner]) -> None:
    owner = owner_of()
    owner.attach()
    owner.enable()
    owner.do(TRANSLATE, source=DATA)
    assert owner.load(0x14) == 1
    owner.store(0x10, 1)
    assert (owner.load(0x14), owner.load(0x10)) == (0, 0)


# --- several at once


def test_what_waits_for_a_page_does_not_hold_up_others(owner_of: Callable[..., Owner]) -> None:
    owner = owner_of()
    ioas = owner.iommu.ioas_alloc()
    owner.map_all(ioas, data=False)
    faults = owner.iommu.fault_alloc()
    owner.device.attach(ioas.hwpt_alloc(owner.device, fault=faults))
    owner.enable()
    waiting = descriptor(FILL, PRI | ATS, target=DATA, length=PAGE, operand=1, cookie=1)
    fenced = descriptor(NOP, FENCE, cookie=3)
    owner.submit(waiting, descriptor(NOP, cookie=2), fenced, descriptor(NOP, cookie=4))
    assert owner.next_record().cookie == 2
    (request,) = faults.read()
    assert (request.addr, request.perm & 2) == (DATA, 2)
    time.sleep(0.01)
    assert owner.load(0x1028) == 1
    ioas.map(owner.data, DATA)
    faults.respond(request)
    assert [owner.next_record().cookie for _ in range(3)] == [1, 3, 4]
    assert owner.data[:PAGE].tobytes() == (1).to_bytes(8, "little") * (PAGE // 8)


@pytest.mark.parametrize("driver", ["vtd", "amd_viommu"])
@pytest.mark.parametrize("success", [True, False])
def test_a_page_that_is_missing_is_asked_for(owner_of: Callable[..., Owner], driver: str, success: bool) -> None:
    owner = owner_of(driver, PASIDS_ON_AMD)
    ioas = owner.iommu.ioas_alloc()
    owner.map_all(ioas, data=False)
    faults = owner.iommu.fault_alloc()
    pasid = 5
    owner.device.attach(ioas.hwpt_alloc(owner.device, pasid=True))
    owner.device.attach(ioas.hwpt_alloc(owner.device, pasid=True, fault=faults), pasid=pasid)
    owner.enable()
    owner.submit(
        descriptor(COPY, PRI | ATS, source=DATA, target=DATA + PAGE, length=8, source_pasid=pasid, target_pasid=pasid)
    )
    request = _request(faults)
    assert (request.addr, request.pasid) == (DATA, pasid)
    owner.data[:8] = noise(8)
    if success:
        ioas.map(owner.data, DATA)
    faults.respond(request, success=success)
    record = owner.next_record()
    assert (record.status, record.detail) == ((DONE, 0) if success else (REFUSED, 1))
    assert (owner.load(0x20, 8), owner.load(0x28, 8)) == (1, 1)
    if success:
        assert np.array_equal(owner.data[PAGE : PAGE + 8], owner.data[:8])


@pytest.mark.parametrize("success", [True, False])
def test_a_group_of_pages_is_asked_for_and_answered_once(owner_of: Callable[..., Owner], success: bool) -> None:
    owner = owner_of()
    ioas = owner.iommu.ioas_alloc()
    owner.map_all(ioas, data=False)
    faults = owner.iommu.fault_alloc()
    owner.device.attach(ioas.hwpt_alloc(owner.device, fault=faults))
    owner.enable()
    owner.submit(descriptor(ASK, source=DATA + 100, length=3 * PAGE - 100, operand=3, cookie=9))
    requests = faults.read()
    assert [one.addr for one in requests] == [DATA, DATA + PAGE, DATA + 2 * PAGE]
    assert len({one.group for one in requests}) == 1
    faults.respond(requests[-1], success=success)
    record = owner.next_record()
    assert (record.cookie, record.status, record.detail) == (9, *((DONE, 0) if success else (REFUSED, 1)))


@pytest.mark.parametrize("success", [True, False])
def test_an_access_that_stalls_goes_on_when_it_is_answered(owner_of: Callable[..., Owner], success: bool) -> None:
    owner = owner_of("smmuv3_cmdqv", stalls="yes")
    ioas = owner.iommu.ioas_alloc()
    owner.map_all(ioas, data=False)
    faults = owner.iommu.fault_alloc()
    owner.device.attach(ioas.hwpt_alloc(owner.device, fault=faults, dirty_tracking=True))
    owner.enable()
    owner.submit(descriptor(FILL, target=DATA, length=3 * PAGE, operand=7))
    request = _request(faults)
    assert request.addr & -PAGE == DATA
    if success:
        ioas.map(owner.data, DATA)
    faults.respond(request, success=success)
    record = owner.next_record()
    assert record.status == (DONE if success else ABORTED)
    assert (owner.data[: 3 * PAGE].sum() == 7 * 3 * PAGE // 8) == success


def test_a_reset_while_something_waits_leaves_nothing_behind(owner_of: Callable[..., Owner]) -> None:
    owner = owner_of()
    ioas = owner.iommu.ioas_alloc()
    owner.map_all(ioas, data=False)
    faults = owner.iommu.fault_alloc()
    owner.device.attach(ioas.hwpt_alloc(owner.device, fault=faults))
    owner.enable()
    owner.submit(descriptor(READ, PRI | ATS, source=DATA, length=8))
    (request,) = faults.read()
    owner.function.reset()
    owner.enable()
    faults.respond(request)
    assert owner.do(NOP).status == DONE
    assert owner.load(0x1028) == 1


def _request(faults: FaultQueue) -> PageRequest:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        found = faults.read()
        if found:
            return found[0]
        time.sleep(0.001)
    raise AssertionError("no page request came")
