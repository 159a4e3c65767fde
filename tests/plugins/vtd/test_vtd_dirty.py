"""Dirty tracking on VT-d's second stage: what devices wrote is reported, by page, and forgotten when it is cleared."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.plugins.vtd.guest import BASE, Guest
from tests.plugins.vtd.program import FIXED, PAGE, RID, Program
from viommu.iommufd import uapi

if TYPE_CHECKING:
    from viommu.objects.device import Device

IOVA = 0x40_0000
PAGES = 64
DIRTY = uapi.HwptFlags.DIRTY_TRACKING
NO_CLEAR = uapi.DirtyFlags.NO_CLEAR


def setup(flags: int = DIRTY) -> tuple[Program, Device, int]:
    program = Program.make()
    device, ioas = program.bind(program.host.device(RID, pasids=1 << 20)), program.ioas()
    program.map(ioas, IOVA, program.buffer(PAGES * PAGE))
    hwpt = program.hwpt(device, ioas, flags)
    device.attach(hwpt)
    return program, device, hwpt


def track(program: Program, hwpt: int, enable: int = 1) -> None:
    program.must(uapi.HwptSetDirtyTracking.of(flags=enable, hwpt_id=hwpt))


def dirty_command(program: Program, hwpt: int, flags: int = 0, iova: int = IOVA) -> uapi.HwptGetDirtyBitmap:
    out = program.buffer()
    return uapi.HwptGetDirtyBitmap.of(
        hwpt_id=hwpt, flags=flags, iova=iova, length=PAGES * PAGE, page_size=PAGE, data=out.address
    )


def dirty(program: Program, hwpt: int, flags: int = 0, iova: int = IOVA) -> set[int]:
    program.must(dirty_command(program, hwpt, flags, iova))
    bits = int.from_bytes(program.buffers[-1].pages[: PAGES // 8], "little")
    return {page for page in range(PAGES) if bits >> page & 1}


def write(program: Program, *pages: int, pasid: int | None = None, iova: int = IOVA) -> None:
    for page in pages:
        assert program.host.machine.dma_write(RID, iova + page * PAGE, b"x", pasid) is None


def test_pages_that_were_written_are_reported_once() -> None:
    program, _, hwpt = setup()
    track(program, hwpt)
    write(program, 3, 7, 8, 63)
    program.host.machine.dma_read(RID, IOVA + 5 * PAGE, 1)
    assert dirty(program, hwpt, NO_CLEAR) == {3, 7, 8, 63}
    assert dirty(program, hwpt) == {3, 7, 8, 63}
    assert dirty(program, hwpt) == set()


def test_a_page_that_is_written_again_after_a_clear_is_reported_again() -> None:
    program, _, hwpt = setup()
    track(program, hwpt)
    for _ in range(3):
        write(program, 5)
        assert dirty(program, hwpt) == {5}


def test_what_was_written_before_tracking_is_not_reported() -> None:
    program, _, hwpt = setup()
    write(program, 1)
    track(program, hwpt)
    assert dirty(program, hwpt) == set()
    write(program, 2)
    track(program, hwpt, 0)
    write(program, 3)
    track(program, hwpt)
    assert dirty(program, hwpt) == set()


def test_without_tracking_nothing_is_reported_and_nothing_refused() -> None:
    program, _, hwpt = setup()
    write(program, 1)
    assert dirty(program, hwpt) == set()


def test_a_device_that_is_attached_while_tracking_is_on_is_tracked() -> None:
    program, device, hwpt = setup()
    track(program, hwpt)
    device.detach()
    device.attach(hwpt)
    write(program, 9)
    assert dirty(program, hwpt) == {9}


def test_writes_through_a_guests_table_mark_the_parents_pages() -> None:
    program = Program.make()
    device = program.bind(program.host.device(RID, pasids=1 << 20))
    guest = Guest.make(program, device, DIRTY | uapi.HwptFlags.PASID)
    page = guest.map(IOVA)
    device.attach(program.nested(device, guest.parent, guest.root, uapi.HwptFlags.PASID), 5)
    track(program, guest.parent)
    write(program, 0, pasid=5)
    written = dirty(program, guest.parent, iova=BASE)
    assert (page - BASE) // PAGE in written
    # The flags that hardware keeps in the guest's leaf were there already: its table was not written.
    assert (guest.leaf(IOVA) - BASE) // PAGE not in written


def test_a_store_to_the_guests_table_marks_that_table() -> None:
    program = Program.make()
    device = program.bind(program.host.device(RID))
    guest = Guest.make(program, device, DIRTY)
    page = guest.map(IOVA)
    leaf = guest.leaf(IOVA)
    guest.store(leaf, page | 7)
    device.attach(program.nested(device, guest.parent, guest.root))
    track(program, guest.parent)
    write(program, 0)
    assert (leaf - BASE) // PAGE in dirty(program, guest.parent, iova=BASE)


@pytest.mark.parametrize("flags", [0, uapi.HwptFlags.NEST_PARENT])
def test_a_hwpt_that_was_not_made_for_it_tracks_nothing(flags: int) -> None:
    program, _, hwpt = setup(flags)
    assert program.fails(uapi.HwptSetDirtyTracking.of(flags=1, hwpt_id=hwpt)) == errno.EOPNOTSUPP


def test_read_only_pages_are_never_dirty() -> None:
    program = Program.make()
    device, ioas = program.bind(program.host.device(RID)), program.ioas()
    program.map(ioas, IOVA, program.buffer(PAGES * PAGE), FIXED)
    hwpt = program.hwpt(device, ioas, DIRTY)
    device.attach(hwpt)
    track(program, hwpt)
    program.host.machine.dma_write(RID, IOVA, b"x")
    assert dirty(program, hwpt) == set()
