"""Hardware that runs a guest's IOMMU: commands, events and page requests pass between guest and hardware alone."""

from __future__ import annotations

import errno
from copy import deepcopy

import pytest

from tests.plugins.amd_viommu.guest import BASE
from tests.plugins.amd_viommu.program import AHEAD, HARDWARE, PAGE, RID, Program
from tests.plugins.amd_viommu.vm import EVERYTHING, IOVA, QUEUE_BYTES, RUNNING, VID, Vm, pages, queue_command
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.platform import Interrupt, ResponseCode
from viommu_amd_viommu.hardware.features import MODELLED, MODELLED2
from viommu_amd_viommu.host.extensions import QueueType
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
)
from viommu_amd_viommu.spec.events import (
    EventCode,
    GuestEventFault,
    IllegalCommandError,
    IoPageFault,
    ViommuHardwareError,
)

EVENTS, REQUESTS, COMMANDS = QueueType.EVENTS, QueueType.PAGE_REQUESTS, QueueType.COMMANDS


@pytest.fixture
def program() -> Program:
    return Program.make(HARDWARE, sanitize=False)


@pytest.fixture
def vm(program: Program) -> Vm:
    return Vm(program)


# --- commands


@pytest.mark.parametrize(
    "command",
    [
        pages(),
        pages(S=0, Address=IOVA, PDE=0),
        pages(GN=0),
        pages(GN=0, PDE=0, S=0),
        InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL),
    ],
    ids=lambda command: f"{type(command).__name__} {int(command):#x}",
)
def test_a_guests_own_doorbell_lets_the_new_page_be_seen(vm: Vm, command: InvalidateIommuPages) -> None:
    assert vm.look() == b"old"
    vm.guest.map(IOVA, b"new")
    assert vm.look() == b"old"

    assert vm.give(command)

    assert vm.look() == b"new"


@pytest.mark.parametrize(
    "command",
    [pages(pasid=5), pages(S=0, Address=IOVA + PAGE, PDE=0)],
    ids=["another PASID", "another page"],
)
def test_what_does_not_cover_the_page_leaves_it(vm: Vm, command: InvalidateIommuPages) -> None:
    vm.look()
    vm.guest.map(IOVA, b"new")
    assert vm.give(command)

    assert vm.look() == b"old"


def test_a_completion_wait_stores_in_guest_memory_and_interrupts_the_guest() -> None:
    program = Program.make(HARDWARE, sanitize=False)
    heard: list[Interrupt] = []
    program.machine._board.on_interrupt = heard.append
    vm = Vm(program)
    word = vm.guest.page()
    wait = CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, i=1, Address=word, Data=0x1122334455667788)

    assert vm.give(pages(), wait, pages())

    assert vm.guest.load(word) == 0x1122334455667788
    assert vm.status.ComWaitInt
    assert heard == [Interrupt("completion wait", guest=1)]


def test_commands_wrap_around_the_guests_buffer_which_no_run_of_pages_need_hold(program: Program) -> None:
    vm = Vm(program)
    other = vm.guest.page()
    # The second page of the buffer moves: the guest's addresses stay what they were.
    program.unmap(vm.guest.ioas, BASE, 256 * PAGE)
    base = vm.bases[COMMANDS]
    for page in range(256):
        at = BASE + page * PAGE
        source = other if at == base + PAGE else at
        cmd = uapi.IoasMap.of(
            flags=uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.READABLE | uapi.MapFlags.WRITEABLE,
            ioas_id=vm.guest.ioas,
            user_va=vm.guest.memory.address + source - BASE,
            length=PAGE,
            iova=at,
        )
        program.must(cmd)
    word = vm.guest.page()
    waits = [CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, Address=word, Data=number) for number in range(800)]
    for number, wait in enumerate(waits):
        tail = vm.load(8)
        place = base + tail if tail < PAGE else other + tail - PAGE
        vm.guest.write(place, wait.encode())
        vm.store(8, (tail + 16) % QUEUE_BYTES)
        assert vm.guest.load(word) == number


def test_ids_of_devices_are_the_guests(vm: Vm) -> None:
    assert vm.endpoint.ats is not None
    vm.endpoint.ats.translate(IOVA)
    assert len(vm.endpoint.ats.tlb) == 1
    assert vm.give(
        InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=VID),
        InvalidateInterruptTable(Opcode=Opcode.INVALIDATE_INTERRUPT_TABLE, DeviceID=VID),
        PrefetchIommuPages(Opcode=Opcode.PREFETCH_IOMMU_PAGES, DeviceID=VID),
        InvalidateIotlbPages(Opcode=Opcode.INVALIDATE_IOTLB_PAGES, DeviceID=VID, S=1, Address=EVERYTHING),
    )

    assert not len(vm.endpoint.ats.tlb)


@pytest.mark.parametrize(
    ("opcode", "layout"),
    [
        (Opcode.INVALIDATE_DEVTAB_ENTRY, InvalidateDevtabEntry),
        (Opcode.INVALIDATE_IOTLB_PAGES, InvalidateIotlbPages),
        (Opcode.INVALIDATE_INTERRUPT_TABLE, InvalidateInterruptTable),
        (Opcode.PREFETCH_IOMMU_PAGES, PrefetchIommuPages),
        (Opcode.COMPLETE_PPR_REQUEST, CompletePprRequest),
    ],
)
def test_a_device_that_the_guest_has_not_halts_the_guest_and_is_told_to_the_host(
    vm: Vm, opcode: Opcode, layout: type[InvalidateDevtabEntry]
) -> None:
    assert not vm.give(layout(Opcode=opcode, DeviceID=RID), pages())

    assert not vm.status.CmdBufRun
    assert not vm.events
    (event,) = vm.program.unit.events
    assert isinstance(event, ViommuHardwareError)
    assert (event.GuestID, event.Source, event.Address) == (1, 0, vm.bases[COMMANDS])


def test_a_domain_that_the_guest_has_not_is_told_to_the_host_and_passed_over(vm: Vm) -> None:
    vm.look()
    vm.guest.map(IOVA, b"new")

    assert vm.give(pages(domain=9), pages())

    (event,) = vm.program.unit.events
    assert isinstance(event, ViommuHardwareError)
    assert (event.GuestID, event.Source) == (1, 1)
    assert vm.look() == b"new"


@pytest.mark.parametrize(
    "command",
    [
        InsertGuestEvent(Opcode=Opcode.INSERT_GUEST_EVENT, GuestID=2).encode(),
        ResetVmmio(Opcode=Opcode.RESET_VMMIO, GuestID=2).encode(),
        bytes(16),
        (0xF << 60).to_bytes(16, "little"),
        (int(pages()) | 1 << 30).to_bytes(16, "little"),
        pages(Address=0xFFFF_FFFF_FFFF_F000).encode(),
    ],
    ids=["a host's", "a host's too", "opcode 0", "opcode 15", "reserved bits", "no size"],
)
def test_an_illegal_command_is_told_to_the_guest_which_goes_on_once_it_has_mended_it(vm: Vm, command: bytes) -> None:
    vm.look()
    vm.guest.map(IOVA, b"new")
    assert not vm.give(pages(domain=1, pasid=5), command, pages())

    assert vm.events == [
        IllegalCommandError(EventCode=EventCode.ILLEGAL_COMMAND_ERROR, Address=vm.bases[COMMANDS] + 16)
    ]
    assert not vm.program.unit.events
    assert (vm.status.CmdBufRun, vm.load(0)) == (0, 16)
    assert vm.look() == b"old"
    vm.guest.write(vm.bases[COMMANDS] + 16, pages().encode())
    vm.switch(RUNNING.replace(CmdBufEn=0))
    vm.switch(RUNNING)
    assert (vm.status.CmdBufRun, vm.load(0)) == (1, 48)
    assert vm.look() == b"new"


def test_a_buffer_that_guest_memory_does_not_have_halts(vm: Vm) -> None:
    vm.program.must(uapi.Destroy.of(id=vm.queue_ids[COMMANDS]))
    vm.bases[COMMANDS] = 0x5000_0000
    vm.program.must(queue_command(vm.viommu, COMMANDS, 0x5000_0000))
    vm.store(8, 16)

    (event,) = vm.events
    assert event.EventCode == EventCode.COMMAND_HW_ERROR
    assert not vm.status.CmdBufRun


@pytest.mark.parametrize("bit", ["vCmdEn", "vIommuEn"])
def test_nothing_runs_while_the_host_has_switched_it_off(vm: Vm, bit: str) -> None:
    vm.look()
    vm.guest.map(IOVA, b"new")
    vm.program.unit.registers.switch(**{bit: 0})
    vm.give(pages())
    assert vm.look() == b"old"

    vm.program.unit.registers.switch(**{bit: 1})
    vm.give(pages())

    assert vm.look() == b"new"


# --- events


def test_a_fault_of_the_guests_device_reaches_guest_memory_and_nobody_else(vm: Vm) -> None:
    assert vm.program.reaches(IOVA + PAGE, Access.WRITE, 5) == "IO_PAGE_FAULT"

    assert vm.events == [
        IoPageFault(
            EventCode=EventCode.IO_PAGE_FAULT, DeviceID=VID, DomainIDOrPASID=5, GN=1, RW=1, US=1, Address=IOVA + PAGE
        )
    ]
    assert not vm.program.unit.events
    assert vm.status.EventLogInt


def test_the_guests_log_overflows_as_any_log_does(vm: Vm) -> None:
    for page in range(QUEUE_BYTES // 16 + 4):
        vm.program.reaches(IOVA + PAGE + page * PAGE)

    assert (vm.status.EventOverflow, vm.status.EventLogRun) == (1, 0)
    assert len(vm.events) == QUEUE_BYTES // 16 - 1
    vm.store(0x20, 1)
    vm.switch(RUNNING.replace(EventLogEn=0))
    vm.switch(RUNNING)
    vm.program.reaches(IOVA + PAGE)
    assert len(vm.events) == 1


def test_an_event_that_guest_memory_does_not_take_is_told_to_the_host(vm: Vm) -> None:
    vm.program.unmap(vm.guest.ioas, BASE, 256 * PAGE)
    vm.program.reaches(IOVA + PAGE)

    (event,) = vm.program.unit.events
    assert isinstance(event, GuestEventFault)
    assert event.GuestID == 1
    assert not vm.status.EventLogRun


def test_while_the_guest_keeps_no_log_its_events_are_the_hosts(program: Program) -> None:
    Vm(program, control=RUNNING.replace(EventLogEn=0))
    program.reaches(IOVA + PAGE)

    (event,) = program.unit.events
    assert isinstance(event, IoPageFault)
    assert event.DeviceID == RID


# --- page requests, in both ways


def test_a_page_request_is_answered_by_the_guest_with_nobody_between(vm: Vm) -> None:
    assert vm.endpoint.ats is not None
    vm.endpoint.ats.request_page(IOVA + PAGE, Access.WRITE, 5, group=3)
    (request,) = vm.requests
    assert (request.DeviceID, request.PASID, request.WRITE, request.Address) == (VID, 5, 1, IOVA + PAGE)
    vm.guest.map(IOVA + PAGE, b"now", pasid=5)

    assert vm.give(
        CompletePprRequest(Opcode=Opcode.COMPLETE_PPR_REQUEST, DeviceID=VID, PASID=5, GN=1, Tag=request.Tag & 0x1FF)
    )

    assert [(one.requester, one.pasid, one.group, one.code) for one in vm.endpoint.ats.responses] == [
        (RID, 5, 3, ResponseCode.SUCCESS)
    ]


def test_without_a_ppr_log_page_requests_come_to_the_fault(program: Program) -> None:
    vm = Vm(program, queues=(COMMANDS, EVENTS))
    fault = program.must(uapi.FaultAlloc.of())
    vm.device.replace(
        program.nested(
            vm.device,
            vm.viommu,
            vm.guest.dte(PPR=1),
            flags=uapi.HwptFlags.FAULT_ID_VALID,
            fault=fault.out_fault_id,
        )
    )
    assert vm.endpoint.ats is not None
    vm.endpoint.ats.request_page(IOVA, Access.READ, 5, group=1)
    room = program.buffer()

    assert program.process.files[fault.out_fault_fd].read(program.process, room.address, 40) == 40
    assert not vm.endpoint.ats.responses


def test_a_full_ppr_log_answers_by_itself_where_the_guest_asks_it_to(program: Program) -> None:
    vm = Vm(program, control=RUNNING.replace(PPRAutoRspEn=1))
    assert vm.endpoint.ats is not None
    for number in range(QUEUE_BYTES // 16):
        vm.endpoint.ats.request_page(IOVA, Access.READ, 5, group=number % 512)

    assert vm.status.PPROverflow
    assert len(vm.endpoint.ats.responses) == 1


def test_events_and_page_requests_reach_guest_memory_with_no_call_of_the_host(vm: Vm) -> None:
    machine = vm.program.machine
    assert vm.endpoint.ats is not None
    before = deepcopy(machine.activity)
    for number in range(40):
        vm.program.reaches(IOVA + PAGE, pasid=5)
        vm.endpoint.ats.request_page(IOVA + PAGE, Access.WRITE, 5, group=number)
        (request,) = vm.requests
        answer = CompletePprRequest(Opcode=Opcode.COMPLETE_PPR_REQUEST, DeviceID=VID, PASID=5, GN=1, Tag=number)
        assert (request.Tag & 0x1FF, vm.give(pages(pasid=5), answer)) == (number, True)
    assert len(vm.events) == 40

    did = machine.activity
    assert did.guest_records == {"IO_PAGE_FAULT": 40, "PAGE_REQUEST": 40}
    assert did.guest_commands == {"INVALIDATE_IOMMU_PAGES": 40, "COMPLETE_PPR_REQUEST": 40}
    assert did.host_calls == before.host_calls > 5
    assert (did.register_reads, did.register_writes) == (before.register_reads, before.register_writes)
    assert did.guest_writes > before.guest_writes


# --- several guests, and what is left of one


def test_guests_with_equal_ids_do_not_meet(program: Program) -> None:
    ours, theirs = Vm(program), Vm(program, RID + 8)
    for vm in (ours, theirs):
        vm.look()
        vm.guest.map(IOVA, b"new")

    assert ours.give(pages(), InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL))

    assert (ours.look(), theirs.look()) == (b"new", b"old")
    program.reaches(IOVA + PAGE, requester=theirs.requester)
    assert not ours.events
    assert len(theirs.events) == 1


def test_registers_of_a_guest_are_its_own_page(program: Program) -> None:
    ours, theirs = Vm(program), Vm(program, RID + 8)
    ours.store(0x10, 0x40)
    ours.store(0x38, 0x80)
    ours.page.write(3, b"\xff")
    ours.page.write(0x10, b"\xff" * 2)

    assert (ours.load(0x10), ours.load(0x38)) == (0x40, 0x80)
    assert (theirs.load(0x10), theirs.load(0x38)) == (0, 0)
    assert ours.load(0x800) == 0


def test_what_a_guest_had_is_free_again_and_clean(program: Program) -> None:
    vm = Vm(program)
    hardware = program.unit.hardware
    assert hardware is not None
    (translating,) = hardware.translating
    program.reaches(IOVA + PAGE)
    vm.device.detach()
    for number in (*vm.queue_ids.values(), vm.hwpt):
        program.must(uapi.Destroy.of(id=number))
    owner = vm.endpoint.physical.owner
    assert owner is not None
    assert owner.vdevice is not None
    program.must(uapi.Destroy.of(id=owner.vdevice.id))
    vm.page.close()
    vm.switches.close()
    program.must(uapi.Destroy.of(id=vm.viommu))

    assert (hardware.guests.taken, hardware.translating) == (set(), set())
    program.must(uapi.Destroy.of(id=vm.guest.parent))
    assert not program.entry(translating).TV
    assert program.unit.ids.taken == {hardware.space.domain}
    assert not program.unit.events
    again = Vm(program, RID + 8)
    assert (again.load(0x10), again.load(0x18), again.look()) == (0, 0, b"old")


def test_a_vdevice_that_goes_takes_its_id_along(vm: Vm) -> None:
    owner = vm.endpoint.physical.owner
    assert owner is not None
    assert owner.vdevice is not None
    vm.device.detach()
    vm.program.must(uapi.Destroy.of(id=owner.vdevice.id))

    assert not vm.give(InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=VID))
    with pytest.raises(OSError, match="vDEVICE") as refused:
        vm.device.attach(vm.hwpt)
    assert refused.value.errno == errno.ENOENT


def test_events_of_an_attached_device_whose_vdevice_goes_are_the_hosts(vm: Vm) -> None:
    owner = vm.endpoint.physical.owner
    assert owner is not None
    assert owner.vdevice is not None
    vm.program.must(uapi.Destroy.of(id=owner.vdevice.id))
    assert vm.look() == b"old"
    assert vm.program.reaches(IOVA + PAGE) == "IO_PAGE_FAULT"

    assert not vm.events
    assert len(vm.program.unit.events) == 1
    vm.program.vdevice(vm.device, vm.viommu, VID + 1)
    vm.program.reaches(IOVA + PAGE)
    (event,) = vm.events
    assert isinstance(event, IoPageFault)
    assert event.DeviceID == VID + 1


INTERRUPTS = {
    "completion wait": {"ComWaitIntEn": 1},
    "event log": {"EventIntEn": 1},
    "event log overflow": {"EventIntEn": 1},
    "PPR log": {"PPRIntEn": 1},
    "PPR log overflow": {"PPRIntEn": 1},
}


def set_off(vm: Vm, source: str) -> None:
    """Let something happen that interrupts the guest."""
    assert vm.endpoint.ats is not None
    match source:
        case "completion wait":
            assert vm.give(CompletionWait(Opcode=Opcode.COMPLETION_WAIT, i=1))
        case "event log" | "event log overflow":
            for page in range(1, QUEUE_BYTES // 16 + 1 if "overflow" in source else 2):
                vm.program.reaches(IOVA + page * PAGE)
        case _:
            for group in range(QUEUE_BYTES // 16 if "overflow" in source else 1):
                vm.endpoint.ats.request_page(IOVA, Access.READ, 5, group=group % 512)


@pytest.mark.parametrize("source", INTERRUPTS)
@pytest.mark.parametrize("enabled", [True, False])
def test_a_guests_interrupts_are_signalled_to_it_alone_and_while_it_wants_them(source: str, enabled: bool) -> None:
    program = Program.make(HARDWARE, sanitize=False)
    heard: list[Interrupt] = []
    program.machine._board.on_interrupt = heard.append
    off = dict.fromkeys(("ComWaitIntEn", "EventIntEn", "PPRIntEn"), 0)
    vm = Vm(program, control=RUNNING.replace(**off | (INTERRUPTS[source] if enabled else {})))

    set_off(vm, source)

    assert (Interrupt(source, guest=1) in heard) is enabled
    assert all(interrupt.guest == 1 for interrupt in heard)
    assert not program.machine.activity.interrupts
    assert not program.unit.events


# --- what alloc refuses, and where there is no such hardware


@pytest.mark.parametrize(
    ("kind", "base", "length", "code"),
    [
        (1, BASE, QUEUE_BYTES, errno.EOPNOTSUPP),
        (5, BASE, QUEUE_BYTES, errno.EOPNOTSUPP),
        (COMMANDS, BASE, QUEUE_BYTES, errno.EEXIST),
        (EVENTS, BASE + 16, QUEUE_BYTES, errno.EINVAL),
        (EVENTS, 1 << 52, QUEUE_BYTES, errno.EINVAL),
        (EVENTS, BASE, 2048, errno.EINVAL),
        (EVENTS, BASE, 1 << 20, errno.EINVAL),
        (EVENTS, BASE, 12288, errno.EINVAL),
    ],
)
def test_a_queue_that_hardware_has_not_is_refused(
    program: Program, kind: int, base: int, length: int, code: int
) -> None:
    vm = Vm(program, queues=(COMMANDS,))

    assert program.fails(queue_command(vm.viommu, kind, base, length)) == code


def test_a_queue_at_a_physical_address_is_none_of_this_hardware(program: Program) -> None:
    vm = Vm(program, queues=())
    cmd = uapi.HwQueueAlloc.of(viommu_id=vm.viommu, type=COMMANDS, nesting_parent_iova=BASE, length=PAGE)

    assert program.fails(cmd) == errno.EOPNOTSUPP


def test_without_the_feature_or_the_policy_a_viommu_is_softwares() -> None:
    for policy, features in ((AHEAD, MODELLED), (HARDWARE, MODELLED.replace(vIOMMU=0))):
        program = Program.make(policy, {"EFR": int(features), "EFR2": int(MODELLED2)}, sanitize=False)
        assert program.unit.hardware is None
        control = program.unit.registers["CONTROL"]
        assert not control & (1 << 52 | 1 << 53 | 1 << 60)


def test_no_device_may_have_a_device_id_that_the_iommu_uses(program: Program) -> None:
    vm = Vm(program)
    hardware = program.unit.hardware
    assert hardware is not None
    for number in (2, *hardware.translating):
        with pytest.raises(OSError, match="DeviceID") as refused:
            program.machine.add_device(number)
        assert refused.value.errno == errno.EBUSY
    assert vm.look() == b"old"
