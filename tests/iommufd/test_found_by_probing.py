"""What random calls on a real kernel (7.2.12, IOMMUFD_TEST) showed and nothing else had: one test each."""

from __future__ import annotations

import errno
import struct

import pytest

from tests.iommufd.client import APERTURE, BUFFER, DATA, PAGE, STRUCT, Client
from viommu.iommufd import uapi
from viommu.oracle.processes import PROT_READ

CHECK_MAP, REFS, CHECK_PASID, DIRTY = 3, 4, 21, 13
BY_AREA = 1 << 16
READ_WRITE, READ_EXEC = 3, 5
SHARED = 1


def refs(client: Client, va: int, pages: int, wanted: int) -> int:
    client.test(REFS, 0, ("Q", pages * PAGE), ("Q", va), ("I", wanted))
    return client.result


def test_pins_are_compared_page_by_page_before_a_page_that_is_missing() -> None:
    client = Client()
    client.process.guess("unmapped", (BUFFER + PAGE) // PAGE)
    assert refs(client, BUFFER, 2, 1) == -errno.EIO
    assert refs(client, BUFFER, 2, 0) == -errno.EFAULT


def test_a_copy_of_a_test_kernel_finds_its_source_by_the_number_of_an_area() -> None:
    client = Client()
    ioas = client.ioas()
    for index in range(3):
        client.map(ioas, APERTURE + index * 4 * PAGE, 2 * PAGE)
    fixed_by_area = uapi.MapFlags.READABLE | BY_AREA
    copy = uapi.IoasCopy.of(flags=fixed_by_area, dst_ioas_id=ioas, src_ioas_id=ioas, length=PAGE)
    copy.src_iova = 1 | PAGE << 32
    after = client.must(copy)
    assert (after.src_iova, after.flags) == (APERTURE + 5 * PAGE, uapi.MapFlags.READABLE)
    copy.src_iova = 9
    client.call(copy)
    assert client.result == -errno.ENOENT


def test_a_pasid_is_compared_with_a_hwpt_and_nothing_else() -> None:
    client = Client()
    stdev, _, device = client.device(client.ioas(), flags=4)
    client.test(CHECK_PASID, stdev, ("I", 1), ("I", device))
    assert client.result == -errno.EINVAL
    client.test(CHECK_PASID, stdev, ("I", 1), ("I", 99))
    assert client.result == -errno.ENOENT


def test_marks_are_read_while_tracking_is_off() -> None:
    client = Client()
    ioas = client.ioas()
    _, _, device = client.device(ioas)
    hwpt = client.hwpt(device, ioas, flags=2)
    client.map(ioas, APERTURE)
    client.must(uapi.HwptSetDirtyTracking.of(hwpt_id=hwpt, flags=1))
    client.process.write(DATA, b"\1")
    client.test(DIRTY, hwpt, ("Q", 0), ("Q", APERTURE), ("Q", PAGE), ("Q", PAGE), ("Q", DATA))
    client.must(uapi.HwptSetDirtyTracking.of(hwpt_id=hwpt, flags=0))
    client.process.write(DATA, b"\0")
    client.must(uapi.HwptGetDirtyBitmap.of(hwpt_id=hwpt, iova=APERTURE, length=PAGE, page_size=2048, data=DATA))
    assert client.process.read(DATA, 1) == b"\1"


def test_more_marks_than_a_bitmap_of_16_mib_holds_are_refused_before_the_hwpt_is_looked_for() -> None:
    client = Client()
    client.test(DIRTY, 99, ("Q", 0), ("Q", 0), ("Q", (128 << 20) + 1), ("Q", 1), ("Q", DATA))
    assert client.result == -errno.EOVERFLOW


@pytest.mark.parametrize("is_attached", [False, True])
def test_no_page_table_takes_a_mapping_without_rights(is_attached: bool) -> None:
    client = Client()
    ioas = client.ioas()
    if is_attached:
        client.device(ioas)
    client.must(uapi.VfioIoas.of(ioas_id=ioas, op=1))
    client.process.write(STRUCT, struct.pack("<IIQQQ", 32, 0, BUFFER, APERTURE, PAGE))
    assert client.subject.ioctl(client.process, client.file, 0x3B71, STRUCT) == (-errno.EINVAL if is_attached else 0)


def test_a_queue_whose_pages_no_allocation_could_list_is_refused_before_its_memory_is_looked_at() -> None:
    client = Client()
    ioas = client.ioas()
    _, _, device = client.device(ioas)
    viommu = client.viommu(device, client.hwpt(device, ioas, flags=1))
    queue = uapi.HwQueueAlloc.of(viommu_id=viommu, type=0xDEADBEEF, nesting_parent_iova=APERTURE)
    for length, answer in ((1 << 63, errno.ENOMEM), (1 << 40, errno.ENOMEM), (1 << 39, errno.ENOENT)):
        queue.length = length
        client.call(queue)
        assert client.result == -answer


def test_files_are_mapped_by_the_rules_of_every_file_first() -> None:
    client = Client()
    events = client.process.file(client.must(uapi.FaultAlloc.of()).out_fault_fd)
    reader = client.subject.open("/dev/iommu", 0, client.process)

    def mapped(file: object, length: int, prot: int, flags: int) -> int:
        return client.subject.mmap(client.process, file, length, prot, flags, PAGE)

    assert mapped(events, PAGE, READ_WRITE, SHARED) == -errno.ENODEV
    assert mapped(events, PAGE, READ_EXEC, SHARED) == -errno.EPERM
    assert mapped(reader, PAGE, READ_WRITE, SHARED) == -errno.EACCES
    assert mapped(reader, PAGE, PROT_READ, SHARED) == -errno.EINVAL
    assert mapped(None, 0, READ_WRITE, SHARED) == -errno.EBADF
    assert mapped(client.file, 0, READ_WRITE, SHARED) == -errno.EINVAL
    assert mapped(client.file, 1 << 62, READ_WRITE, SHARED) == -errno.ENOMEM
    assert mapped(client.file, PAGE, READ_WRITE, 0) == -errno.EINVAL
    assert client.subject.write(client.process, reader, DATA, 8) == -errno.EBADF


def test_ranges_that_fit_are_told_where_their_capability_does_not() -> None:
    client = Client()
    ioas = client.ioas()
    client.test(1, ioas, ("Q", APERTURE), ("Q", PAGE))
    client.must(uapi.VfioIoas.of(ioas_id=ioas, op=1))
    whole = 24 + 16 + 16 + 2 * 16
    client.process.write(STRUCT, struct.pack("<I", whole - 1).ljust(whole, b"\0"))
    assert client.subject.ioctl(client.process, client.file, 0x3B70, STRUCT) == 0
    told = client.process.read(STRUCT, whole) or b""
    assert struct.unpack_from("<I", told) == (whole,)
    assert struct.unpack_from("<I", told, 16) == (0,)
    assert told[40:56] == bytes(16)
    assert struct.unpack_from("<QQ", told, 56) == (0, APERTURE - 1)
    assert told[72:] == bytes(16)


def test_a_paging_hwpt_takes_no_page_requests_of_pasids_that_only_a_guests_table_can_have() -> None:
    client = Client()
    ioas = client.ioas()
    _, _, device = client.device(ioas, flags=4)
    fault = client.must(uapi.FaultAlloc.of())
    queue = client.process.file(fault.out_fault_fd)
    hwpt = client.hwpt(device, ioas, flags=4, fault=fault.out_fault_id)
    parent = client.hwpt(device, ioas, flags=1)
    nested = client.hwpt(device, parent, flags=4, data=struct.pack("<II", 0, 0), fault=fault.out_fault_id)
    for attached, told in ((hwpt, 0), (nested, 40)):
        _, _, requester = client.device(attached, flags=4)
        client.test(15, 0, ("I", requester), ("I", 7), ("I", 1), ("I", 1), ("Q", APERTURE))
        assert queue.read(client.process, DATA, 80) == told


def test_more_invalidations_than_one_allocation_holds_are_refused_before_any_is_read() -> None:
    client = Client()
    ioas = client.ioas()
    _, _, device = client.device(ioas)
    viommu = client.viommu(device, client.hwpt(device, ioas, flags=1))
    client.process.guess("unmapped", DATA // PAGE)
    batch = uapi.HwptInvalidate.of(hwpt_id=viommu, data_uptr=DATA, data_type=0xDEADBEEF, entry_len=12)
    for count, answer in ((0x80000, errno.ENOMEM), (4 << 20, errno.EINVAL), (300_000, errno.EFAULT)):
        batch.entry_num = count
        assert client.call(batch).entry_num == (count if answer == errno.ENOMEM else 0)
        assert client.result == -answer


def test_a_hole_below_the_first_aligned_place_is_looked_at_from_there_on() -> None:
    client = Client()
    ioas = client.ioas()
    client.map(ioas, 0x800, 0x801, BUFFER)
    free = uapi.IoasMap.of(flags=6, ioas_id=ioas, user_va=BUFFER + 0x5800, length=0x100)
    assert client.must(free).iova == 0x1800
    free.length = 0x80
    assert client.must(free).iova == 0x1900


def test_the_last_page_of_all_overflows_where_it_would_be_pinned() -> None:
    client = Client()
    ioas = client.ioas()
    client.map(ioas, APERTURE, 0x800, (1 << 64) - PAGE)
    assert client.result == 0
    _, hwpt, _ = client.device(client.ioas())
    client.test(CHECK_MAP, hwpt, ("Q", APERTURE), ("Q", 0x800), ("Q", (1 << 64) - PAGE))
    assert client.result == -errno.EOVERFLOW
    client.test(2, ioas)
    assert client.result == -errno.EOVERFLOW
