"""What no source says of guests' IOMMUs is decided in one place: whoever changes it there changes the hardware."""

from __future__ import annotations

import pytest

from tests.plugins.amd_viommu.guest import BASE
from tests.plugins.amd_viommu.program import HARDWARE, PAGE, RID, Program
from tests.plugins.amd_viommu.vm import IOVA, RUNNING, VID, Vm, pages
from viommu.faults import Access
from viommu_amd_viommu.host.extensions import QueueType
from viommu_amd_viommu.spec import inferred
from viommu_amd_viommu.spec.commands import InvalidateDevtabEntry, InvalidateIommuAll, Opcode, PrefetchIommuPages
from viommu_amd_viommu.spec.events import EventCode

EVERYTHING = InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL)
OF_NO_DEVICE = InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=RID)


@pytest.fixture
def program() -> Program:
    return Program.make(HARDWARE, sanitize=False)


def codes(program: Program) -> list[int]:
    return [event.EventCode for event in program.unit.events]


@pytest.mark.parametrize("halts", [True, False])
def test_whether_a_device_that_is_not_mapped_halts_the_buffer(
    program: Program, monkeypatch: pytest.MonkeyPatch, halts: bool
) -> None:
    monkeypatch.setattr(inferred, "HALTS_ON_UNMAPPED_DEVICE", halts)
    vm = Vm(program)

    assert vm.give(OF_NO_DEVICE) is not halts
    assert vm.status.CmdBufRun == (not halts)
    assert codes(program) == [EventCode.VIOMMU_HW_ERROR]


@pytest.mark.parametrize("halts", [True, False])
def test_whether_a_domain_that_is_not_mapped_halts_the_buffer(
    program: Program, monkeypatch: pytest.MonkeyPatch, halts: bool
) -> None:
    monkeypatch.setattr(inferred, "HALTS_ON_UNMAPPED_DOMAIN", halts)

    assert Vm(program).give(pages(domain=9)) is not halts
    assert codes(program) == [EventCode.VIOMMU_HW_ERROR]


def test_which_commands_are_hosts_alone(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = (*inferred.OPCODES_OF_HOSTS, Opcode.PREFETCH_IOMMU_PAGES, Opcode.INVALIDATE_DEVTAB_ENTRY)
    monkeypatch.setattr(inferred, "OPCODES_OF_HOSTS", hosts)
    vm = Vm(program)
    for command in (
        PrefetchIommuPages(Opcode=Opcode.PREFETCH_IOMMU_PAGES, DeviceID=VID),
        InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=VID),
    ):
        vm.store(0x08, 0)
        vm.store(0x00, 0)
        vm.switch(RUNNING.replace(CmdBufEn=0))
        vm.switch(RUNNING)
        assert not vm.give(command)

    assert [event.EventCode for event in vm.events] == [EventCode.ILLEGAL_COMMAND_ERROR] * 2


@pytest.mark.parametrize("command", [EVERYTHING, pages(GN=0, PDE=0)], ids=["ALL", "GN=0"])
@pytest.mark.parametrize("alone", [True, False])
def test_whether_what_went_through_host_tables_alone_is_spared(
    program: Program, monkeypatch: pytest.MonkeyPatch, command: InvalidateIommuAll, alone: bool
) -> None:
    monkeypatch.setattr(inferred, "GUEST_TABLES_ALONE", alone)
    vm = Vm(program)
    vm.device.replace(program.nested(vm.device, vm.viommu, vm.guest.dte(GIOV=0)))
    program.reaches(BASE)
    before = program.machine.translator.counters()["walks"]
    assert vm.give(command)
    program.reaches(BASE)

    assert (program.machine.translator.counters()["walks"] == before) is alone


@pytest.mark.parametrize("to_the_host", [True, False])
def test_where_events_go_while_a_guest_keeps_no_log(
    program: Program, monkeypatch: pytest.MonkeyPatch, to_the_host: bool
) -> None:
    monkeypatch.setattr(inferred, "EVENTS_OF_PARKED_GUESTS_GO_TO_THE_HOST", to_the_host)
    vm = Vm(program, control=RUNNING.replace(EventLogEn=0))
    program.reaches(IOVA + PAGE)

    assert codes(program) == [EventCode.IO_PAGE_FAULT] * to_the_host
    assert not vm.events


def test_which_events_are_guests(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inferred, "EVENTS_OF_GUESTS", ())
    vm = Vm(program)
    program.reaches(IOVA + PAGE)

    assert codes(program) == [EventCode.IO_PAGE_FAULT]
    assert not vm.events


@pytest.mark.parametrize("to_the_host", [True, False])
def test_where_page_requests_go_while_a_guest_has_no_log_of_them(
    program: Program, monkeypatch: pytest.MonkeyPatch, to_the_host: bool
) -> None:
    monkeypatch.setattr(inferred, "REQUESTS_OF_PARKED_GUESTS_GO_TO_THE_HOST", to_the_host)
    vm = Vm(program, queues=(QueueType.COMMANDS, QueueType.EVENTS))
    before = program.unit.registers["PPRTAIL"]
    assert vm.endpoint.ats is not None
    vm.endpoint.ats.request_page(IOVA, Access.READ, 5, group=1)

    assert (program.unit.registers["PPRTAIL"] != before) is to_the_host


@pytest.mark.parametrize("told", [True, False])
def test_whether_events_that_memory_does_not_take_are_told(
    program: Program, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    monkeypatch.setattr(inferred, "TELLS_ALL_LOST_EVENTS", told)
    vm = Vm(program)
    program.unmap(vm.guest.ioas, BASE, 256 * PAGE)
    program.reaches(IOVA + PAGE)

    assert codes(program) == [EventCode.GUEST_EVENT_FAULT] * told
    assert not vm.status.EventLogRun
