"""The bus that device models get says what each transaction came to, and never raises."""

from __future__ import annotations

from functools import partial
from queue import Queue
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.service.test_dma_tester import HOLE, VENDORS, plugged
from tests.service.tester import DATA, PAGE, TRANSLATE, Owner
from viommu.faults import Access
from viommu.modelspecs import PLAIN, Attributes, Granted, Refused, Why
from viommu.vfio.uapi import Region

if TYPE_CHECKING:
    from viommu.vfio.bus import FunctionBus

FULL = (1 << 64) - 8


@pytest.fixture(params=VENDORS)
def owner(request: pytest.FixtureRequest) -> Owner:
    found = Owner.make(request.param, partial(plugged, {}))
    found.attach()
    return found


@pytest.fixture
def bus(owner: Owner) -> FunctionBus:
    return owner.function.bus


@pytest.mark.parametrize("attributes", [PLAIN, Attributes(ats=True)])
def test_what_is_refused_says_where_and_how_far_it_came(bus: FunctionBus, attributes: Attributes) -> None:
    end = DATA + (1 << 20)
    room = bytearray(2 * PAGE)
    read = bus.read_into(end - PAGE - 5, room, attributes)
    written = bus.write_from(end - 5, bytes(16), attributes)
    for refused, moved in ((read, PAGE + 5), (written, 5)):
        assert refused is not None
        assert (refused.iova, refused.moved) == (end, moved)
        assert refused.why in {Why.FAULT, Why.NO_ACCESS, Why.UNSUPPORTED}


def test_without_bus_mastering_nothing_goes_out(owner: Owner, bus: FunctionBus) -> None:
    owner.function.store(Region.CONFIG, 4, b"\2\0")
    refused = [
        bus.read_into(DATA, bytearray(8)),
        bus.write_from(DATA, bytes(8)),
        bus.copy(DATA, DATA + PAGE, 8),
        bus.update(DATA, 8, lambda _: 1),
        bus.translate(DATA),
    ]
    assert all(isinstance(one, Refused) and one.why is Why.NOT_MASTER for one in refused)
    assert bus.read(DATA, 8) is None
    assert not bus.write(DATA, bytes(8))
    assert not bus.request_page(DATA, Access.READ, lambda _: None)


@pytest.mark.parametrize("pasid", [1 << 20, 1 << 40, -1])
def test_what_no_device_can_send_is_refused(bus: FunctionBus, pasid: int) -> None:
    attributes = Attributes(pasid=pasid)
    refused = [
        bus.read_into(DATA, bytearray(8), attributes),
        bus.write_from(DATA, bytes(8), attributes),
        bus.copy(DATA, DATA + PAGE, 8, pasid),
        bus.update(DATA, 8, lambda _: 1, attributes),
        bus.read_into(FULL, bytearray(16)),
        bus.copy(DATA, FULL, 16),
        bus.update(DATA + 4, 8, lambda _: 1),
        bus.update(DATA, 2, lambda _: 1),
    ]
    assert [one.why for one in refused if isinstance(one, Refused)] == [Why.IMPOSSIBLE] * len(refused)
    assert bus.read(DATA, 8, pasid) is None
    assert not bus.request_page(DATA, Access.READ, lambda _: None, pasid)
    assert not bus.request_page(DATA, Access.READ, lambda _: None, group=512)


def test_an_access_carries_its_rights_to_the_iommu(owner: Owner, bus: FunctionBus) -> None:
    every = Attributes(privileged=True, execute=True)
    for refused, wanted in (
        (bus.read_into(HOLE, bytearray(8), every), Access.READ | Access.EXECUTE),
        (bus.write_from(HOLE, bytes(8), every), Access.WRITE),
    ):
        assert refused is not None
        assert refused.fault is not None
        # VT-d takes requests without a PASID as its context entry says, whatever they say of privilege.
        privileged = Access(0) if owner.machine.name == "vtd" else Access.PRIVILEGED
        assert refused.fault.access == wanted | privileged


def test_a_fault_that_does_not_stall_is_waited_for_in_vain(bus: FunctionBus) -> None:
    refused = bus.read_into(HOLE, bytearray(8))
    assert refused is not None
    assert not refused.stalled
    told: Queue[bool] = Queue()
    bus.wait(refused, told.put)
    assert told.get(timeout=10) is False


def test_work_that_was_put_off_is_forgotten_at_a_reset(owner: Owner, bus: FunctionBus) -> None:
    done: list[str] = []
    bus.after(0.05, lambda: done.append("before"))
    owner.function.reset()
    later = Event()
    bus.after(0.1, later.set)
    assert later.wait(10)
    assert not done


def test_a_reset_empties_the_devices_own_tlb(owner: Owner) -> None:
    owner.enable()
    owner.do(TRANSLATE, source=DATA)
    assert owner.load(0x14) == 1
    owner.function.reset()
    assert owner.load(0x14) == 0


@pytest.mark.parametrize("resets", [True, False])
def test_a_stalled_access_that_is_answered_after_a_reset_is_nobodys(resets: bool) -> None:
    owner = Owner.make("smmuv3_cmdqv", partial(plugged, {"stalls": "yes"}))
    ioas, faults = owner.iommu.ioas_alloc(), owner.iommu.fault_alloc()
    owner.device.attach(ioas.hwpt_alloc(owner.device, fault=faults, dirty_tracking=True))
    refused = owner.function.bus.read_into(HOLE, bytearray(8))
    assert refused is not None
    assert refused.stalled
    told: Queue[bool] = Queue()
    owner.function.bus.wait(refused, told.put)
    if resets:
        owner.function.reset()
    (request,) = faults.read()
    faults.respond(request, success=False)
    later = Event()
    owner.function.bus.after(0, later.set)
    assert later.wait(10)
    assert told.qsize() == (0 if resets else 1)


def test_a_device_that_hangs_keeps_what_it_should_have_dropped(owner: Owner) -> None:
    ioas = owner.iommu.ioas_alloc()
    owner.map_all(ioas)
    owner.device.replace(ioas)
    owner.enable()
    owner.do(TRANSLATE, source=DATA)
    owner.store(0x10, 2)
    ioas.unmap(DATA, len(owner.data))
    assert owner.load(0x14) == 1
    owner.store(0x10, 0)
    assert isinstance(owner.function.bus.translate(DATA), Granted)
    owner.store(0x10, 1)
    assert isinstance(owner.function.bus.translate(DATA), Refused)


def test_one_piece_of_work_that_fails_does_not_keep_others_from_it(bus: FunctionBus) -> None:
    done = Event()

    def fails() -> None:
        raise ValueError("a bug of the model")

    bus.after(0, fails)
    bus.after(0, done.set)
    assert done.wait(10)
