"""Nested HWPTs on a nesting parent, as mainline has them: a guest's first stage, its checks, its invalidation."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.plugins.vtd.guest import BASE, Guest
from tests.plugins.vtd.program import PAGE, RID, Program, entry
from viommu.faults import Fault
from viommu.iommufd import uapi
from viommu.kernel_errors import Invalid
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP

if TYPE_CHECKING:
    from viommu.objects.device import Device
    from viommu_vtd.spec.registers import CAP, ECAP

IOVA = 0x40_0000
SECOND_IOVA = IOVA + PAGE
PASID = 0x123
NESTED = uapi.HwptFlags.PASID


def setup(*, ats: bool = False, cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP) -> tuple[Program, Device, Guest]:
    program = Program.make(cap, ecap)
    device = program.bind(program.host.device(RID, ats=ats, pasids=1 << 20))
    return program, device, Guest.make(program, device, uapi.HwptFlags.PASID)


def read(program: Program, iova: int = IOVA, pasid: int | None = None) -> bytes | None:
    found = program.host.machine.dma_read(RID, iova, 3, pasid)
    return found if isinstance(found, bytes) else None


def test_dma_goes_through_the_guests_table_and_the_hosts() -> None:
    program, device, guest = setup()
    guest.map(IOVA, b"one")
    device.attach(program.nested(device, guest.parent, guest.root))
    assert read(program) == b"one"
    assert read(program, SECOND_IOVA) is None
    guest.map(SECOND_IOVA, b"two")
    assert read(program, SECOND_IOVA) == b"two"
    device.detach()
    assert read(program) is None
    program.clean()


def test_a_guest_that_lets_a_device_pass_is_given_second_stage_alone() -> None:
    program, device, guest = setup()
    page = guest.map(IOVA, b"one")
    device.attach(program.nested(device, guest.parent, guest.root))
    assert [read(program), read(program, page)] == [b"one", None]
    device.replace(guest.parent)
    assert [read(program), read(program, page)] == [None, b"one"]
    device.replace(program.nested(device, guest.parent, guest.root))
    assert [read(program), read(program, page)] == [b"one", None]
    program.clean()


def test_the_rid_and_a_pasid_have_a_guests_table_each() -> None:
    program, device, guest = setup()
    other = guest.page()
    guest.map(IOVA, b"one")
    guest.map(IOVA, b"two", other)
    device.attach(program.nested(device, guest.parent, guest.root, NESTED))
    device.attach(program.nested(device, guest.parent, other, NESTED), PASID)
    assert [read(program), read(program, pasid=PASID)] == [b"one", b"two"]
    device.replace(program.nested(device, guest.parent, guest.root, NESTED), PASID)
    assert read(program, pasid=PASID) == b"one"
    program.clean()


def test_the_guests_accessed_and_dirty_flags_are_stored_in_its_memory() -> None:
    program, device, guest = setup()
    page = guest.map(IOVA, b"one")
    guest.store(guest.leaf(IOVA), page | 7)
    device.attach(program.nested(device, guest.parent, guest.root))
    assert read(program) == b"one"
    assert guest.load(guest.leaf(IOVA)) == page | 0x27
    program.host.machine.dma_write(RID, IOVA, b"x")
    assert guest.load(guest.leaf(IOVA)) == page | 0x67


def test_a_guest_that_changes_its_table_must_say_so_and_then_it_counts() -> None:
    program, device, guest = setup()
    guest.map(IOVA, b"one")
    guest.map(SECOND_IOVA, b"two")
    hwpt = program.nested(device, guest.parent, guest.root)
    device.attach(hwpt)
    assert [read(program), read(program, SECOND_IOVA)] == [b"one", b"two"]
    guest.map(IOVA, b"new")
    guest.map(SECOND_IOVA, b"NEW")
    assert [read(program), read(program, SECOND_IOVA)] == [b"one", b"two"]
    assert program.must(program.invalidate_command(hwpt, entry(IOVA, 1, 1))).entry_num == 1
    assert [read(program), read(program, SECOND_IOVA)] == [b"new", b"two"]
    program.must(program.invalidate_command(hwpt, entry()))
    assert read(program, SECOND_IOVA) == b"NEW"


def test_an_invalidation_empties_the_device_tlb_too() -> None:
    program, device, guest = setup(ats=True)
    tlb = program.host.machine.device(RID)
    guest.map(IOVA, b"one")
    guest.map(SECOND_IOVA, b"two")
    hwpt = program.nested(device, guest.parent, guest.root)
    device.attach(hwpt)
    tlb.translate(IOVA)
    tlb.translate(SECOND_IOVA)
    program.must(program.invalidate_command(hwpt, entry(IOVA, 1)))
    assert len(tlb.tlb) == 1
    program.must(program.invalidate_command(hwpt, entry()))
    assert len(tlb.tlb) == 0


def test_when_the_ioas_changes_no_cache_remembers_what_the_guest_had_there() -> None:
    program, device, guest = setup(ats=True)
    tlb = program.host.machine.device(RID)
    far = BASE + (1 << 30)
    page = program.buffer()
    page.pages[:3] = b"far"
    program.map(guest.ioas, far, page)
    guest.store(guest.leaf(IOVA), far | 0x67)
    device.attach(program.nested(device, guest.parent, guest.root))
    assert read(program) == b"far"
    tlb.translate(IOVA)
    program.unmap(guest.ioas, far, PAGE)
    assert read(program) is None
    assert len(tlb.tlb) == 0
    other = program.buffer()
    other.pages[:3] = b"new"
    program.map(guest.ioas, far, other)
    assert read(program) == b"new"
    program.clean()


# --- HWPT_ALLOC


def test_whatever_fields_say_the_hwpt_is_made() -> None:
    program, device, guest = setup()
    program.nested(device, guest.parent, 0xFFFF_FFFF_FFFF_FFFF, s1_flags=(1 << 64) - 1, width=1, reserved=7)


@pytest.mark.parametrize(
    ("more", "flags", "code"),
    [
        ({"data_type": 2}, 0, errno.EOPNOTSUPP),
        ({"data_len": 23}, 0, errno.EINVAL),
        ({"data_len": 25}, 0, errno.EINVAL),
        ({}, uapi.HwptFlags.DIRTY_TRACKING, errno.EOPNOTSUPP),
        ({}, uapi.HwptFlags.NEST_PARENT, errno.EOPNOTSUPP),
    ],
)
def test_a_nested_hwpt_of_another_type_size_or_with_flags_is_refused(
    more: dict[str, int], flags: int, code: int
) -> None:
    program, device, guest = setup()
    assert program.fails(program.nested_command(device, guest.parent, guest.root, flags, **more)) == code


def test_a_parent_must_be_second_stage_and_meant_for_it() -> None:
    program, device, guest = setup()
    for flags in (0, uapi.HwptFlags.DIRTY_TRACKING):
        plain = program.hwpt(device, guest.ioas, flags)
        assert program.fails(program.nested_command(device, plain, guest.root)) == errno.EINVAL


def test_data_that_is_not_there_is_a_fault() -> None:
    program, device, guest = setup()
    cmd = program.nested_command(device, guest.parent, guest.root)
    cmd.data_uptr = 1 << 46
    assert program.fails(cmd) == errno.EFAULT


# --- attach


@pytest.mark.parametrize(
    ("cap", "ecap", "more"),
    [
        (FULL_CAP, FULL_ECAP, {"width": 39}),
        (FULL_CAP.replace(FL5LP=0), FULL_ECAP, {"width": 57}),
        (FULL_CAP, FULL_ECAP.replace(SRS=0), {"s1_flags": 1}),
        (FULL_CAP, FULL_ECAP.replace(EAFS=0), {"s1_flags": 2}),
    ],
)
def test_settings_are_refused_when_they_are_attached_and_the_device_is_blocked_then(
    cap: CAP, ecap: ECAP, more: dict[str, int]
) -> None:
    program, device, guest = setup(cap=cap, ecap=ecap)
    guest.map(IOVA, b"one")
    device.attach(program.nested(device, guest.parent, guest.root))
    assert read(program) == b"one"
    hwpt = program.nested(device, guest.parent, guest.root, **more)
    with pytest.raises(Invalid):
        device.replace(hwpt)
    assert read(program) is None
    device.detach()
    program.clean()


@pytest.mark.parametrize(
    ("s1_flags", "sre", "wpe", "eafe"),
    [(0, 0, 0, 0), (1, 1, 0, 0), (4, 0, 0, 0), (5, 1, 1, 0), (7, 1, 1, 1), (0xFFF8, 0, 0, 0)],
)
def test_flags_that_are_known_reach_the_pasid_entry(s1_flags: int, sre: int, wpe: int, eafe: int) -> None:
    program, device, guest = setup()
    device.attach(program.nested(device, guest.parent, guest.root | 0xFFF, s1_flags=s1_flags))
    tables = device.physical.data.tables
    found = tables.read(0)
    assert (sre, wpe, eafe, guest.root, 3) == (found.SRE, found.WPE, found.EAFE, found.FSPTPTR, found.PGTT)


# --- HWPT_INVALIDATE


GOOD = entry(IOVA, 1)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (entry(flags=2), errno.EOPNOTSUPP),
        (entry(flags=0x8000_0001), errno.EOPNOTSUPP),
        (entry(reserved=1), errno.EOPNOTSUPP),
        (entry(IOVA + 1, 1), errno.EINVAL),
        (entry(IOVA), errno.EINVAL),
        (entry(IOVA + 1, 1, flags=2), errno.EOPNOTSUPP),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_the_first_wrong_request_stops_and_is_counted(before: int, bad: bytes, code: int) -> None:
    program, device, guest = setup()
    hwpt = program.nested(device, guest.parent, guest.root)
    after = program.call(program.invalidate_command(hwpt, *[GOOD] * before, bad, GOOD))
    assert (-program.result, after.entry_num) == (code, before)


@pytest.mark.parametrize(("data_type", "length"), [(1, 24), (0, 23), (0, 25)])
def test_requests_of_another_type_or_size_are_invalid(data_type: int, length: int) -> None:
    program, device, guest = setup()
    hwpt = program.nested(device, guest.parent, guest.root)
    after = program.call(program.invalidate_command(hwpt, GOOD, data_type=data_type, length=length))
    assert (-program.result, after.entry_num) == (errno.EINVAL, 0)


def test_no_requests_are_fine() -> None:
    program, device, guest = setup()
    hwpt = program.nested(device, guest.parent, guest.root)
    program.must(uapi.HwptInvalidate.of(hwpt_id=hwpt, entry_num=0))


@pytest.mark.parametrize("npages", [0, 1, 3, 1 << 40, (1 << 52) - 1, 1 << 52, (1 << 64) - 2])
def test_no_number_of_pages_is_refused_and_the_first_is_always_dropped(npages: int) -> None:
    program, device, guest = setup()
    hwpt = program.nested(device, guest.parent, guest.root)
    guest.map(IOVA, b"one")
    device.attach(hwpt)
    assert read(program) == b"one"
    guest.map(IOVA, b"new")
    program.must(program.invalidate_command(hwpt, entry(IOVA, npages)))
    assert read(program) == b"new"


def test_a_paging_hwpt_takes_no_invalidation() -> None:
    program, _, guest = setup()
    assert program.fails(program.invalidate_command(guest.parent, GOOD)) == errno.EINVAL


def test_dma_of_one_guest_is_untouched_by_anothers_invalidations() -> None:
    program, device, guest = setup()
    other_device = program.bind(program.host.device(RID + 8))
    other = Guest.make(program, other_device)
    hwpts = []
    for one, where in ((guest, device), (other, other_device)):
        one.map(IOVA, b"one")
        hwpts.append(program.nested(where, one.parent, one.root))
        where.attach(hwpts[-1])
    assert program.host.machine.dma_read(RID + 8, IOVA, 3) == b"one"
    other.map(IOVA, b"new")
    program.must(program.invalidate_command(hwpts[0], entry()))
    assert program.host.machine.dma_read(RID + 8, IOVA, 3) == b"one"
    program.must(program.invalidate_command(hwpts[1], entry()))
    assert program.host.machine.dma_read(RID + 8, IOVA, 3) == b"new"


def test_a_table_that_leads_nowhere_is_a_fault_of_the_device_alone() -> None:
    program, device, guest = setup()
    device.attach(program.nested(device, guest.parent, BASE - PAGE))
    found = program.host.machine.translate(RID, IOVA)
    assert isinstance(found, Fault)
    assert program.host.machine.report(found).reason in {"0x75", "0x79"}
