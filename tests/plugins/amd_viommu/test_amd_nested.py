"""Nested HWPTs on AMD, through the uAPI: a guest's DTE is checked, merged and tagged as Linux's driver does it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.amd_viommu.guest import BASE, Guest
from tests.plugins.amd_viommu.program import AHEAD, PAGE, RID, Program, quadwords
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwptFlags
from viommu.policies import MAINLINE, Policy
from viommu_amd_viommu.hardware.features import MODELLED, MODELLED2
from viommu_amd_viommu.host import entries
from viommu_amd_viommu.host.entries import HostStage
from viommu_amd_viommu.spec.device_table import DTE

if TYPE_CHECKING:
    from viommu.objects.device import Device

IOVA = 0x7000_0000


@frozen
class Setting:
    """A program with one device, a guest's memory under a nesting parent, and a vIOMMU on it."""

    program: Program
    device: Device
    guest: Guest
    viommu: int

    @classmethod
    def make(cls, policy: Policy = AHEAD, levels: int = 4, **features: int) -> Setting:
        program = Program.make(policy, {"EFR": int(MODELLED.replace(**features)), "EFR2": int(MODELLED2)})
        device = program.bind(program.machine.add_device(RID))
        guest = Guest.make(program, device, levels=levels)
        return cls(program, device, guest, program.viommu(device, guest.parent))

    def refusal(self, entry: int, **more: int) -> int:
        return self.program.fails(self.program.nested_command(self.device, self.viommu, entry, **more))


# --- Linux 7.2


@pytest.mark.parametrize("kind", [1, 2, 3, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_linux_7_2_makes_a_viommu_of_any_type(kind: int) -> None:
    program = Program.make()
    device = program.bind(program.machine.add_device(RID))
    parent = Guest.make(program, device).parent

    assert program.viommu(device, parent, kind)


def test_with_linux_7_2_nothing_can_be_done_with_a_viommu() -> None:
    setting = Setting.make(MAINLINE)
    program, viommu = setting.program, setting.viommu

    assert setting.refusal(int(setting.guest.dte())) == errno.EOPNOTSUPP
    assert program.fails(program.invalidate_command(viommu, bytes(16), data_type=3, length=16)) == errno.EOPNOTSUPP
    queue = uapi.HwQueueAlloc.of(viommu_id=viommu, type=2, nesting_parent_iova=BASE, length=PAGE)
    assert program.fails(queue) == errno.EOPNOTSUPP
    assert program.vdevice(setting.device, viommu, 0x10)


def test_a_nested_hwpt_stands_on_no_paging_hwpt() -> None:
    setting = Setting.make()
    cmd = setting.program.nested_command(setting.device, setting.guest.parent, setting.guest.dte())

    assert setting.program.fails(cmd) == errno.EOPNOTSUPP


# --- what is checked, in the kernel's order


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (DTE(V=1, Mode=1), errno.EINVAL),
        (DTE(V=1, HostPageTableRoot=0x1000), errno.EINVAL),
        (DTE(V=1, GV=1), errno.EINVAL),
        (DTE(GuestPagingMode=2), errno.EINVAL),
        (DTE(GuestPagingMode=3), errno.EINVAL),
        (DTE(GLX=3), errno.EINVAL),
        (DTE(GuestPagingMode=1), errno.EOPNOTSUPP),
        (DTE(GuestPagingMode=1, GLX=3), errno.EINVAL),
        (DTE(GuestPagingMode=1, Mode=7), errno.EINVAL),
    ],
)
def test_an_entry_that_no_guest_may_have_is_refused(entry: DTE, code: int) -> None:
    assert Setting.make(GATS=0).refusal(int(entry)) == code


@pytest.mark.parametrize("entry", [DTE(), DTE(GV=1), DTE(V=1), DTE(V=1, GV=1, GCR3=0x1000), DTE(TV=1, IR=1, SE=1)])
def test_an_entry_that_translates_nothing_is_taken(entry: DTE) -> None:
    setting = Setting.make()

    assert setting.program.nested(setting.device, setting.viommu, entry)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"data_type": 1}, errno.EOPNOTSUPP),
        ({"data_len": 31}, errno.EINVAL),
        ({"data_len": 40}, errno.EINVAL),
        ({"flags": HwptFlags.NEST_PARENT}, errno.EOPNOTSUPP),
        ({"flags": HwptFlags.DIRTY_TRACKING}, errno.EOPNOTSUPP),
    ],
)
def test_data_of_another_type_or_size_is_refused(more: dict[str, int], code: int) -> None:
    setting = Setting.make()

    assert setting.refusal(int(setting.guest.dte()), **more) == code


def test_no_domain_id_left_is_enospc() -> None:
    setting = Setting.make()
    ids = setting.program.unit.ids
    while len(ids.taken) < 0xFFFF:
        ids.take("a test")

    assert setting.refusal(int(setting.guest.dte())) == errno.ENOSPC


# --- what becomes part of the entry that hardware reads

QUADWORD = st.integers(0, (1 << 64) - 1)


@given(raw=st.tuples(QUADWORD, QUADWORD, QUADWORD, QUADWORD), dirty=st.booleans(), ats=st.booleans())
def test_the_hosts_entry_takes_from_the_guests_what_linux_takes(
    raw: tuple[int, int, int, int], dirty: bool, ats: bool
) -> None:
    given_entry = sum(word << 64 * index for index, word in enumerate(raw))
    made = entries.nested(0x1234, HostStage(0xABC000, 4, dirty), DTE.decode(given_entry), ats=ats)

    from_guest = 0x7F << 52 & ~(1 << 53) & ~(1 << 55) | 0x7 << 58  # PPR, GIOV, GLX, GCR3[14:12]
    assert quadwords(int(made)) == (
        raw[0] & from_guest & ((1 << 61) - 1) | 0b11 | dirty * 3 << 7 | 4 << 9 | 0xABC000 | 1 << 55 | 3 << 61,
        0x1234 | raw[1] & (0xFFFF << 16) | ats << 32 | raw[1] & (0x1FFFFF << 43),
        raw[2] & 3 << 54,
        0,
    )


# --- what it does


@pytest.mark.parametrize("levels", [4, 5])
def test_dma_goes_through_the_guests_tables_and_the_hosts(levels: int) -> None:
    setting = Setting.make(levels=levels)
    program, guest = setting.program, setting.guest
    page = guest.map(IOVA, b"nested")
    setting.device.attach(program.nested(setting.device, setting.viommu, guest.dte()))

    assert program.text_at(IOVA, 6) == b"nested"
    assert program.machine.dma_write(RID, IOVA + 8, b"written") is None
    assert guest.read(page + 8, 7) == b"written"
    assert program.reaches(IOVA + PAGE) == "IO_PAGE_FAULT"
    program.clean()


def test_pasids_are_the_guests_own() -> None:
    setting = Setting.make()
    program, guest = setting.program, setting.guest
    guest.map(IOVA, b"zero")
    guest.map(IOVA, b"nine", pasid=9)
    setting.device.attach(program.nested(setting.device, setting.viommu, guest.dte()))

    assert program.text_at(IOVA, 4) == b"zero"
    assert program.text_at(IOVA, 4, pasid=9) == b"nine"
    assert program.reaches(IOVA, pasid=10) == "IO_PAGE_FAULT"


def test_without_giov_requests_without_pasid_see_the_guests_physical_memory() -> None:
    setting = Setting.make()
    program, guest = setting.program, setting.guest
    page = guest.page()
    guest.write(page, b"physical")
    setting.device.attach(program.nested(setting.device, setting.viommu, guest.dte(GIOV=0)))

    assert program.text_at(page, 8) == b"physical"


def test_what_the_parent_loses_no_guest_reaches() -> None:
    setting = Setting.make()
    program, guest = setting.program, setting.guest
    guest.map(IOVA, b"here")
    setting.device.attach(program.nested(setting.device, setting.viommu, guest.dte()))
    assert program.text_at(IOVA, 4) == b"here"

    program.unmap(guest.ioas, BASE, 256 * PAGE)

    assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    program.clean()


def test_the_tlb_of_a_guests_device_loses_what_the_parent_loses_whatever_the_pasid() -> None:
    program = Program.make(AHEAD)
    endpoint = program.machine.add_device(RID, ats=True, pasid_bits=6)
    device = program.bind(endpoint)
    guest = Guest.make(program, device)
    guest.map(IOVA)
    guest.map(IOVA, pasid=63)
    device.attach(program.nested(device, program.viommu(device, guest.parent), guest.dte()))
    assert endpoint.ats is not None
    endpoint.ats.translate(IOVA)
    endpoint.ats.translate(IOVA, pasid=63)
    assert len(endpoint.ats.tlb) == 2

    program.unmap(guest.ioas, BASE, 256 * PAGE)

    assert not len(endpoint.ats.tlb)


def test_dirty_tracking_of_a_parent_sees_what_guests_devices_write() -> None:
    program = Program.make(AHEAD)
    device = program.bind(program.machine.add_device(RID))
    guest = Guest.make(program, device, HwptFlags.DIRTY_TRACKING)
    page = guest.map(IOVA)
    device.attach(program.nested(device, program.viommu(device, guest.parent), guest.dte()))
    program.must(uapi.HwptSetDirtyTracking.of(flags=1, hwpt_id=guest.parent))
    program.machine.dma_write(RID, IOVA, b"x")
    bitmap = program.buffer()
    program.must(
        uapi.HwptGetDirtyBitmap.of(hwpt_id=guest.parent, iova=page, length=PAGE, page_size=PAGE, data=bitmap.address)
    )

    assert bitmap.pages[0] == 1


# --- DomainIDs


def test_a_guests_domain_id_is_one_of_the_hosts_for_as_long_as_it_is_used() -> None:
    setting = Setting.make()
    program = setting.program
    first = program.nested(setting.device, setting.viommu, setting.guest.dte(DomainID=7))
    second = program.nested(setting.device, setting.viommu, setting.guest.dte(DomainID=7))
    third = program.nested(setting.device, setting.viommu, setting.guest.dte(DomainID=8))

    def tag(hwpt: int) -> int:
        setting.device.replace(hwpt) if setting.device.attached_to() else setting.device.attach(hwpt)
        return program.entry().DomainID

    tags = [tag(first), tag(second), tag(third)]
    assert tags[0] == tags[1] != tags[2]
    setting.device.detach()
    for hwpt in (first, second, third):
        program.must(uapi.Destroy.of(id=hwpt))
    assert program.unit.ids.take("a test") == min(tags)


def test_equal_domain_ids_of_two_guests_never_share_translations() -> None:
    program = Program.make(AHEAD)
    texts = {RID: b"one", RID + 8: b"two"}
    for requester, text in texts.items():
        device = program.bind(program.machine.add_device(requester))
        guest = Guest.make(program, device)
        guest.map(IOVA, text)
        device.attach(program.nested(device, program.viommu(device, guest.parent), guest.dte(DomainID=1)))

    for requester, text in texts.items():
        assert program.text_at(IOVA, 3, requester=requester) == text
    assert program.entry(RID).DomainID != program.entry(RID + 8).DomainID
    program.clean()


def test_a_guests_table_replaces_a_guests_table_and_a_host_table() -> None:
    setting = Setting.make()
    program, guest = setting.program, setting.guest
    guest.map(IOVA, b"first")
    setting.device.attach(guest.parent)
    assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    setting.device.replace(program.nested(setting.device, setting.viommu, guest.dte()))
    assert program.text_at(IOVA, 5) == b"first"
    other = Guest(program, guest.memory, guest.ioas, guest.parent, levels=5, next=guest.next)
    other.map(IOVA, b"other")
    setting.device.replace(program.nested(setting.device, setting.viommu, other.dte()))
    assert program.text_at(IOVA, 5) == b"other"
    setting.device.replace(guest.parent)

    assert program.reaches(IOVA) == "IO_PAGE_FAULT"
    assert isinstance(program.reaches(BASE, Access.WRITE), int)
    program.clean()
