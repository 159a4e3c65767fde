"""HWPT_INVALIDATE on an AMD vIOMMU: a guest's commands in batches, its ids its own."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.amd_viommu.guest import Guest
from tests.plugins.amd_viommu.program import AHEAD, RID, Program
from viommu.policies import Policy
from viommu_amd_viommu.host.extensions import TYPE
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

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu_amd_viommu.spec.commands import AnyCommand

IOVA = 0x7000_0000
EVERYTHING = 0x7FFF_FFFF_FFFF_F000
VID = 0x0A10


@define(eq=False)
class Tenant:
    """A guest with one device, its page at `IOVA` already in the IOTLB."""

    program: Program
    requester: int
    endpoint: Endpoint = field(init=False)
    guest: Guest = field(init=False)
    viommu: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.endpoint = self.program.machine.add_device(self.requester, ats=True, pasid_bits=8)
        device = self.program.bind(self.endpoint)
        self.guest = Guest.make(self.program, device)
        self.viommu = self.program.viommu(device, self.guest.parent)
        self.program.vdevice(device, self.viommu, VID)
        self.guest.map(IOVA, b"old")
        self.guest.map(IOVA, b"old", pasid=5)
        device.attach(self.program.nested(device, self.viommu, self.guest.dte()))
        self.look()

    def look(self, pasid: int | None = None) -> object:
        return self.program.text_at(IOVA, 3, pasid, self.requester)

    def remap(self, pasid: int = 0) -> None:
        self.guest.map(IOVA, b"new", pasid)

    def give(self, *commands: AnyCommand | bytes) -> int:
        """Give commands; how many were done. ``program.result`` is what the ioctl answered."""
        raw = [command if isinstance(command, bytes) else command.encode() for command in commands]
        cmd = self.program.invalidate_command(self.viommu, *raw, data_type=TYPE, length=16)
        return self.program.call(cmd).entry_num


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(Program.make(AHEAD, sanitize=False), RID)


def pages(domain: int = 1, pasid: int = 0, **fields: int) -> InvalidateIommuPages:
    usual = {"GN": 1, "PDE": 1, "S": 1, "Address": EVERYTHING}
    return InvalidateIommuPages(Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=domain, PASID=pasid, **usual | fields)


@pytest.mark.parametrize(
    "command",
    [
        pages(),
        pages(S=0, Address=IOVA, PDE=0),
        pages(GN=0),
        pages(GN=0, S=0, Address=IOVA),
        InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL),
    ],
    ids=lambda command: f"{type(command).__name__} {int(command):#x}",
)
def test_what_covers_a_page_lets_the_new_one_be_seen(tenant: Tenant, command: AnyCommand) -> None:
    tenant.remap()
    assert tenant.look() == b"old"

    assert tenant.give(command) == 1

    assert tenant.look() == b"new"


@pytest.mark.parametrize(
    "command",
    [pages(domain=2), pages(pasid=5), pages(S=0, Address=IOVA + 0x1000, PDE=0)],
    ids=["another domain", "another PASID", "another page"],
)
def test_what_does_not_leaves_the_iotlb_alone(tenant: Tenant, command: AnyCommand) -> None:
    tenant.remap()

    assert tenant.give(command) == 1

    assert tenant.look() == b"old"


def test_a_pasid_is_invalidated_alone(tenant: Tenant) -> None:
    assert tenant.look(5) == b"old"
    tenant.remap()
    tenant.remap(5)
    tenant.give(pages(pasid=5))

    assert (tenant.look(5), tenant.look()) == (b"new", b"old")


def test_no_command_of_a_guest_reaches_anothers_entries() -> None:
    program = Program.make(AHEAD, sanitize=False)
    ours, theirs = Tenant(program, RID), Tenant(program, RID + 8)
    theirs.remap()
    domain = program.entry(theirs.requester).DomainID
    ours.give(
        *(pages(domain=number, GN=number & 1) for number in range(1, domain + 2)),
        InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL),
        InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=VID),
    )
    assert program.result == 0

    assert theirs.look() == b"old"


def test_the_tlb_of_a_device_is_told_by_the_guests_id_for_it(tenant: Tenant) -> None:
    assert tenant.endpoint.ats is not None
    tenant.endpoint.ats.translate(IOVA)
    command = InvalidateIotlbPages(
        Opcode=Opcode.INVALIDATE_IOTLB_PAGES, DeviceID=VID, QueueID=VID, S=1, Address=EVERYTHING
    )

    assert tenant.give(command) == 1

    assert not len(tenant.endpoint.ats.tlb)


def test_commands_of_devices_that_the_guest_has_not_are_eio(tenant: Tenant) -> None:
    for opcode, layout in {
        Opcode.INVALIDATE_DEVTAB_ENTRY: InvalidateDevtabEntry,
        Opcode.INVALIDATE_IOTLB_PAGES: InvalidateIotlbPages,
        Opcode.INVALIDATE_INTERRUPT_TABLE: InvalidateInterruptTable,
        Opcode.PREFETCH_IOMMU_PAGES: PrefetchIommuPages,
        Opcode.COMPLETE_PPR_REQUEST: CompletePprRequest,
    }.items():
        assert tenant.give(layout(Opcode=opcode, DeviceID=RID)) == 0
        assert tenant.program.result == -errno.EIO


@pytest.mark.parametrize(
    "command",
    [
        InsertGuestEvent(Opcode=Opcode.INSERT_GUEST_EVENT),
        ResetVmmio(Opcode=Opcode.RESET_VMMIO),
        bytes(16),
        int(pages(PDE=1)).to_bytes(16, "little")[:-16] + (int(pages()) | 1 << 30).to_bytes(16, "little"),
        (0xF << 60).to_bytes(16, "little"),
    ],
    ids=["a host's", "a host's too", "opcode 0", "reserved bits", "opcode 15"],
)
def test_a_batch_ends_before_a_command_that_no_guest_may_give(tenant: Tenant, command: AnyCommand | bytes) -> None:
    tenant.remap()

    assert tenant.give(pages(), command, pages()) == 1

    assert tenant.program.result == -errno.EIO
    assert tenant.look() == b"new"


def test_a_command_that_hardware_refuses_ends_the_batch_there(tenant: Tenant) -> None:
    bad_size = pages(Address=0xFFFF_FFFF_FFFF_F000)
    tenant.remap()

    assert tenant.give(pages(), pages(), bad_size, pages()) == 2

    assert tenant.program.result == -errno.EIO
    tenant.remap()
    assert tenant.give(pages()) == 1
    assert tenant.look() == b"new"


def test_a_completion_wait_stores_where_the_guest_means_it(tenant: Tenant) -> None:
    word = tenant.guest.page()
    wait = CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, i=1, Address=word, Data=0x1122334455667788)

    assert tenant.give(pages(), wait) == 2
    assert tenant.guest.load(word) == 0x1122334455667788
    assert tenant.give(pages(), wait.replace(Address=0xDEAD_0000_0000), pages()) == 1
    assert tenant.program.result == -errno.EIO


def test_a_device_that_does_not_answer_ends_nothing(tenant: Tenant) -> None:
    assert tenant.endpoint.ats is not None
    tenant.endpoint.ats.answers = False
    command = InvalidateIotlbPages(Opcode=Opcode.INVALIDATE_IOTLB_PAGES, DeviceID=VID, S=1, Address=EVERYTHING)

    assert tenant.give(command, pages()) == 2


@pytest.mark.parametrize(
    ("data_type", "length", "code"), [(TYPE + 1, 16, errno.EINVAL), (0, 16, errno.EINVAL), (TYPE, 17, 0)]
)
def test_the_arrays_type_is_checked_and_longer_entries_may_end_in_zeros(
    tenant: Tenant, data_type: int, length: int, code: int
) -> None:
    cmd = tenant.program.invalidate_command(tenant.viommu, pages().encode(), data_type=data_type, length=length)
    tenant.program.call(cmd)

    assert tenant.program.result == -code


def test_more_commands_than_the_buffer_holds_are_executed(tenant: Tenant) -> None:
    tenant.remap()

    assert tenant.give(*[pages(domain=9)] * 1500, pages()) == 1501
    assert tenant.look() == b"new"


def test_a_machine_may_have_both_faces_of_the_policy() -> None:
    assert Program.make(Policy()).unit.profile.nested is False
    assert Program.make(AHEAD).unit.profile.nested is True
