"""What each command does, seen in where DMA goes afterwards (AMD 48882, 2.4)."""

from __future__ import annotations

import pytest

from plugins.amd_viommu.tests.programmed import DEVICE, FEATURES, GUEST_PAGE, HOLE, HOST_PAGE, RAM, Programmed
from viommu import Access
from viommu.platform import ResponseCode
from viommu_amd_viommu.spec.commands import (
    CompletePprRequest,
    CompletionWait,
    InsertGuestEvent,
    InvalidateDevtabEntry,
    InvalidateInterruptTable,
    InvalidateIommuAll,
    InvalidateIommuPages,
    InvalidateIotlbPages,
    Opcode,
    PrefetchIommuPages,
    ResetVmmio,
    decode_command,
)
from viommu_amd_viommu.spec.events import CommandHardwareError, EventCode, IllegalCommandError, IotlbInvTimeout

SEMAPHORE = RAM + 0x70_0000
EVERYTHING = 0x7FFF_FFFF_FFFF_F000


def wait(**fields: int) -> CompletionWait:
    return CompletionWait(Opcode=Opcode.COMPLETION_WAIT, **fields)


def pages(**fields: int) -> InvalidateIommuPages:
    return InvalidateIommuPages(**{"Opcode": Opcode.INVALIDATE_IOMMU_PAGES, "DomainID": 0x77} | fields)


def device_pages(**fields: int) -> InvalidateIotlbPages:
    return InvalidateIotlbPages(**{"Opcode": Opcode.INVALIDATE_IOTLB_PAGES, "DeviceID": DEVICE} | fields)


def entry(requester: int = DEVICE) -> InvalidateDevtabEntry:
    return InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=requester)


def prefetch(**fields: int) -> PrefetchIommuPages:
    return PrefetchIommuPages(**{"Opcode": Opcode.PREFETCH_IOMMU_PAGES, "DeviceID": DEVICE} | fields)


@pytest.fixture
def machine() -> Programmed:
    return Programmed().start()


@pytest.fixture
def host(machine: Programmed) -> Programmed:
    """Pages 0 to 15 of the device lead to 0x5000_0000 and on, are cached, and are unmapped."""
    table = machine.host()
    for page in range(16):
        machine.store(table + 8 * page, 0x5000_0000 + page * 0x1000 | HOST_PAGE)
        machine.pa(page << 12)
        machine.store(table + 8 * page, 0)
    return machine


@pytest.fixture
def guest(machine: Programmed) -> Programmed:
    """The same with guest tables of PASID 5."""
    table = machine.guest(pasid=5)
    for page in range(16):
        machine.store(table + 8 * page, 0x5000_0000 + page * 0x1000 | GUEST_PAGE)
        machine.pa(page << 12, pasid=5)
        machine.store(table + 8 * page, 0)
    return machine


def cached(machine: Programmed, pasid: int | None = None) -> list[int]:
    """The pages that are still translated."""
    found = machine.machine.translate_many(DEVICE, [page << 12 for page in range(16)], 1, pasid)
    return [page for page in range(16) if found.fault(page) is None]


def without(*pages: int) -> list[int]:
    return [page for page in range(16) if page not in pages]


def test_a_completion_wait_stores_its_data(machine: Programmed) -> None:
    machine.submit(wait(s=1, Address=SEMAPHORE, Data=0x1122_3344_5566_7788))

    assert machine.memory.load(SEMAPHORE) == 0x1122_3344_5566_7788
    assert machine.idle
    assert not machine.interrupts


def test_a_completion_wait_without_s_stores_nothing(machine: Programmed) -> None:
    machine.submit(wait(f=1, Address=SEMAPHORE, Data=1))

    assert machine.memory.load(SEMAPHORE) == 0
    assert machine.idle


def test_a_completion_wait_interrupts_where_it_is_asked_and_enabled(machine: Programmed) -> None:
    machine.submit(wait(i=1), wait(i=1))
    assert [one.source for one in machine.interrupts] == ["completion wait"]
    assert machine.status.ComWaitInt

    machine.switch(ComWaitIntEn=0)
    machine.write("STATUS", 4)
    machine.submit(wait(i=1))

    assert machine.status.ComWaitInt
    assert len(machine.interrupts) == 1


@pytest.mark.parametrize("address", [HOLE, 0xF_FFFF_FFFF_FFF8])
def test_a_store_that_nobody_takes_is_a_hardware_error_and_halts(machine: Programmed, address: int) -> None:
    machine.submit(wait(), wait(s=1, Address=address), wait(i=1))

    (event,) = machine.events()
    assert isinstance(event, CommandHardwareError)
    assert (event.Address, event.Type) == (address, 1)
    assert (machine.read("CMDHEAD"), machine.status.CmdBufRun, machine.status.ComWaitInt) == (16, 0, 0)
    assert machine.read("HWEVTSTATUS") == 1


def test_a_store_into_read_only_memory_is_told_as_refused(machine: Programmed) -> None:
    machine.memory.place(HOLE, bytes(0x1000), writable=False)

    machine.submit(wait(s=1, Address=HOLE))

    (event,) = machine.events()
    assert isinstance(event, CommandHardwareError)
    assert event.Type == 2


def test_a_device_table_entry_is_read_again_once_it_is_invalidated(machine: Programmed) -> None:
    machine.device()
    machine.device(DEVICE + 1)
    machine.pa(0x1000)
    machine.pa(0x1000, requester=DEVICE + 1)
    machine.device(TV=0)
    machine.device(DEVICE + 1, TV=0)
    assert machine.pa(0x1000) == 0x1000

    machine.submit(entry())

    machine.fault(0x1000)
    machine.pa(0x1000, requester=DEVICE + 1)


def test_translations_outlive_their_device_table_entry(host: Programmed) -> None:
    host.submit(entry())

    assert cached(host) == without()


def test_an_invalidated_entry_lets_the_next_fault_be_logged_under_se(machine: Programmed) -> None:
    machine.device(TV=0, SE=1)
    machine.fault(0x1000)
    machine.fault(0x2000)

    machine.submit(entry())
    machine.fault(0x3000)

    assert [int(event) >> 64 for event in machine.events()] == [0x1000, 0x3000]


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"Address": 0x3000}, [3]),
        ({"Address": 0x2000, "S": 1}, [2, 3]),
        ({"Address": 0x5000, "S": 1}, [4, 5, 6, 7]),
        ({"Address": 0x7000, "S": 1}, list(range(16))),
        ({"Address": 0x1_7000, "S": 1}, []),
        ({"Address": EVERYTHING, "S": 1}, list(range(16))),
        ({"Address": EVERYTHING, "S": 1, "PDE": 1}, list(range(16))),
        ({"Address": 0x3000, "DomainID": 0x78}, []),
        ({"Address": 0x3000, "GN": 1, "PASID": 0}, []),
    ],
)
def test_host_pages_are_invalidated_by_size(host: Programmed, fields: dict[str, int], dropped: list[int]) -> None:
    host.submit(pages(**fields))

    assert cached(host) == without(*dropped)


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"GN": 1, "PASID": 5, "Address": 0x3000}, [3]),
        ({"GN": 1, "PASID": 5, "Address": 0x3000, "S": 1, "PDE": 1}, list(range(8))),
        ({"GN": 1, "PASID": 5, "Address": EVERYTHING, "S": 1}, list(range(16))),
        ({"GN": 1, "PASID": 6, "Address": EVERYTHING, "S": 1}, []),
        ({"GN": 1, "PASID": 5, "DomainID": 0x78, "Address": EVERYTHING, "S": 1}, []),
        ({"Address": EVERYTHING, "S": 1}, list(range(16))),
        ({"Address": 0x1_0000}, list(range(16))),
    ],
)
def test_guest_pages_are_invalidated_by_pasid_or_with_their_domain(
    guest: Programmed, fields: dict[str, int], dropped: list[int]
) -> None:
    guest.submit(pages(**fields))

    assert cached(guest, pasid=5) == without(*dropped)


@pytest.mark.parametrize("pasid", [5, None])
def test_a_changed_gcr3_entry_is_read_again_once_its_pasid_is_invalidated(
    machine: Programmed, pasid: int | None
) -> None:
    """Linux flushes the PASID, and no more, when it has set or cleared an entry."""
    machine.guest(pasid=pasid or 0, GIOV=1)
    machine.fault(0x1000, pasid=pasid)
    table = machine.guest(pasid=pasid or 0, GIOV=1)
    machine.store(table + 8, 0x9000 | GUEST_PAGE)

    machine.submit(pages(GN=1, PASID=(pasid or 0) + 1, Address=EVERYTHING, S=1, PDE=1))
    machine.fault(0x1000, pasid=pasid)
    machine.submit(pages(GN=1, PASID=pasid or 0, Address=EVERYTHING, S=1, PDE=1))

    assert machine.pa(0x1234, pasid=pasid) == 0x9234


def test_a_gcr3_entry_behind_host_tables_goes_with_them(machine: Programmed) -> None:
    machine.guest(pasid=5)
    machine.fault(0x1000, pasid=5)
    table = machine.guest(pasid=5)
    machine.store(table + 8, 0x9000 | GUEST_PAGE)

    machine.submit(pages(Address=EVERYTHING, S=1, PDE=1))

    assert machine.pa(0x1234, pasid=5) == 0x9234


def test_an_interrupt_table_can_be_invalidated(machine: Programmed) -> None:
    machine.submit(InvalidateInterruptTable(Opcode=Opcode.INVALIDATE_INTERRUPT_TABLE, DeviceID=DEVICE))

    assert machine.idle


def test_a_prefetch_may_forget_pages_first(host: Programmed) -> None:
    host.submit(prefetch(PFCount=2, Address=0x3000))
    assert cached(host) == without()

    host.submit(prefetch(PFCount=2, Inval=1, Address=0x3000))

    assert cached(host) == without(3, 4)


def test_a_prefetch_for_a_pasid_forgets_its_pages_alone(guest: Programmed) -> None:
    guest.submit(prefetch(PFCount=1, Inval=1, GN=1, PASID=5, Address=0x3000))

    assert cached(guest, pasid=5) == without(3)


def test_a_prefetch_for_a_device_that_translates_nothing_is_a_hint_too(machine: Programmed) -> None:
    machine.submit(prefetch(Inval=1, PFCount=255, S=1, Address=EVERYTHING, DeviceID=0x77))

    assert machine.idle


def test_invalidating_all_forgets_everything(host: Programmed) -> None:
    host.device(DEVICE + 1, SE=1, TV=0)
    host.fault(0x1000, requester=DEVICE + 1)
    host.events()

    host.submit(InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL))
    host.fault(0x1000, requester=DEVICE + 1)

    assert cached(host) == []
    assert len(host.events()) == 1 + 16


def test_a_page_request_is_answered_with_its_pasid_and_tag(machine: Programmed) -> None:
    device = machine.machine.device(DEVICE)
    answer = {"Opcode": Opcode.COMPLETE_PPR_REQUEST, "DeviceID": DEVICE, "GN": 1, "PASID": 0xA_BCDE}

    machine.submit(
        *(CompletePprRequest(**answer, Tag=tag, Status=status) for tag, status in ((0x1FF, 0), (1, 1), (2, 15), (3, 2)))
    )
    machine.submit(CompletePprRequest(Opcode=Opcode.COMPLETE_PPR_REQUEST, DeviceID=DEVICE, PASID=9))

    given = [(one.pasid, one.group, one.code) for one in device.responses]
    assert given == [
        (0xA_BCDE, 0x1FF, ResponseCode.SUCCESS),
        (0xA_BCDE, 1, ResponseCode.INVALID),
        (0xA_BCDE, 2, ResponseCode.FAILURE),
        (0xA_BCDE, 3, ResponseCode.FAILURE),
        (None, 0, ResponseCode.SUCCESS),
    ]


@pytest.mark.parametrize(
    ("raw", "feature"),
    [
        (prefetch().encode(), "PreF"),
        (CompletePprRequest(Opcode=Opcode.COMPLETE_PPR_REQUEST).encode(), "PPR"),
        (InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL).encode(), "IA"),
        (pages(GN=1).encode(), "GT"),
        (device_pages(GN=1).encode(), "GT"),
    ],
)
def test_a_command_of_a_feature_that_hardware_lacks_is_illegal(raw: bytes, feature: str) -> None:
    Programmed().start().submit(raw)
    lacking = Programmed(features=FEATURES | {feature: 0}).start()

    lacking.submit(raw)

    assert [event.EventCode for event in lacking.events()] == [EventCode.ILLEGAL_COMMAND_ERROR]


def test_the_type_of_a_device_invalidation_is_reserved_without_its_feature() -> None:
    lacking, having = Programmed().start(), Programmed(features=FEATURES | {"InvIotlbType": 1}).start()

    for machine in (lacking, having):
        machine.submit(device_pages(Type=1))

    assert (lacking.idle, having.idle) == (False, True)


@pytest.mark.parametrize(
    "raw",
    [
        bytes(16),
        bytes(7) + b"\xb0" + bytes(8),
        bytes(7) + b"\xf0" + bytes(8),
        InsertGuestEvent(Opcode=Opcode.INSERT_GUEST_EVENT, GuestID=1).encode(),
        ResetVmmio(Opcode=Opcode.RESET_VMMIO, GuestID=1, All=1, vCMD=1).encode(),
        pages(S=1, Address=0xFFFF_FFFF_FFFF_F000).encode(),
        device_pages(S=1, Address=0xFFFF_FFFF_FFFF_F000).encode(),
    ],
    ids=["opcode 0", "opcode 0xB", "opcode 0xF", "guest event", "guest registers", "endless pages", "endless IOTLB"],
)
def test_a_command_that_hardware_does_not_know_is_illegal(machine: Programmed, raw: bytes) -> None:
    machine.submit(raw)

    assert [event.EventCode for event in machine.events()] == [EventCode.ILLEGAL_COMMAND_ERROR]
    assert not machine.status.CmdBufRun


@pytest.mark.parametrize("opcode", range(1, 9))
def test_every_reserved_bit_makes_a_command_illegal(opcode: int) -> None:
    plain = decode_command(bytes(7) + bytes([opcode << 4]) + bytes(8))
    reserved = plain.reserved_mask
    assert reserved

    machine = Programmed().start()
    for bit in range(128):
        if reserved >> bit & 1:
            machine.submit((int(plain) | 1 << bit).to_bytes(16, "little"))
            assert [event.EventCode for event in machine.events()] == [EventCode.ILLEGAL_COMMAND_ERROR], bit
            machine.write("CMDHEAD", machine.read("CMDTAIL"))
            machine.switch(CmdBufEn=0)
            machine.switch(CmdBufEn=1)


def test_a_device_tlb_is_invalidated_in_a_range_and_a_pasid(machine: Programmed) -> None:
    table = machine.guest(pasid=5, I=1, Mode=0)
    device = machine.machine.device(DEVICE)
    for page in range(4):
        machine.store(table + 8 * page, 0x5000_0000 + page * 0x1000 | GUEST_PAGE)
        device.translate(page << 12, pasid=5)

    machine.submit(device_pages(Address=0x1000))
    assert len(device.tlb) == 4
    machine.submit(device_pages(GN=1, PASID=5, Address=0x2000, S=1, QueueID=DEVICE, MaxPend=32))

    assert [device.tlb.find(5, page << 12, Access.READ) is None for page in range(4)] == [False, False, True, True]


def test_a_device_that_does_not_answer_is_an_event_and_the_buffer_goes_on(machine: Programmed) -> None:
    machine.machine.device(DEVICE).answers = False

    machine.submit(wait(), device_pages(), wait(i=1))

    (event,) = machine.events()
    assert isinstance(event, IotlbInvTimeout)
    assert (event.DeviceID, event.Address & 0xFFFFF) == (DEVICE, 0x10)
    assert machine.idle
    assert machine.status.ComWaitInt


def test_without_a_timeout_the_buffer_waits_for_the_device(machine: Programmed) -> None:
    machine.switch(InvTimeOut=0)
    device = machine.machine.device(DEVICE)
    device.answers = False
    machine.submit(wait(), device_pages(), wait(i=1))
    assert (machine.read("CMDHEAD"), machine.status.CmdBufRun, machine.status.ComWaitInt) == (16, 1, 0)

    device.answers = True
    machine.submit(wait())

    assert machine.idle
    assert machine.status.ComWaitInt
    assert machine.events() == []


def test_an_illegal_command_names_its_address(machine: Programmed) -> None:
    machine.submit(wait(), bytes(16))

    (event,) = machine.events()
    assert isinstance(event, IllegalCommandError)
    assert event.Address == machine.read("CMDBASE") % (1 << 52) + 16
