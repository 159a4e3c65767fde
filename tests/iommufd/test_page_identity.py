"""Which page is which: the recordings' checks nearly always pass, so here they have to fail, as the kernel's do."""

from __future__ import annotations

import errno

import pytest

from tests.iommufd.client import APERTURE, BUFFER, PAGE, Client
from tests.iommufd.state import pins_of
from viommu.oracle.pages import Backing
from viommu.oracle.processes import Area

HALF = PAGE // 2
FILE_AT = 0x7C00_0000_0000
FILE_AGAIN = 0x7B00_0000_0000
HUGE_AT = 0x7A00_0000_0000


class Mapped:
    """Two pages of user memory, mapped in an IOAS that a mock device is attached to."""

    def __init__(self) -> None:
        self.client = client = Client()
        self.ioas = client.ioas()
        _, self.hwpt, _ = client.device(self.ioas)
        client.map(self.ioas, APERTURE, 2 * PAGE)
        assert client.result == 0

    def check_map(self, iova: int, length: int, address: int, hwpt: int | None = None) -> int:
        number = self.hwpt if hwpt is None else hwpt
        self.client.test(3, number, ("Q", iova), ("Q", length), ("Q", address))
        return self.client.result

    def check_refs(self, address: int, length: int, refs: int) -> int:
        self.client.test(4, 0, ("Q", length), ("Q", address), ("I", refs))
        return self.client.result

    def has_file(self, pages: int = 4) -> None:
        backing = Backing(self.client.process.world.frames, pages * PAGE)
        for start in (FILE_AT, FILE_AGAIN):
            self.client.process.map(Area(start, start + pages * PAGE, 3, True, backing, 0))


@pytest.fixture
def mapped() -> Mapped:
    return Mapped()


def test_a_domain_translates_to_the_page_that_was_mapped(mapped: Mapped) -> None:
    assert mapped.check_map(APERTURE, 2 * PAGE, BUFFER) == 0
    assert mapped.check_map(APERTURE + HALF, HALF, BUFFER + HALF) == 0
    assert mapped.check_map(APERTURE + PAGE, PAGE, BUFFER + PAGE) == 0


def test_another_page_or_another_half_of_it_is_found_out(mapped: Mapped) -> None:
    assert mapped.check_map(APERTURE, PAGE, BUFFER + PAGE) == -errno.EINVAL
    assert mapped.check_map(APERTURE, HALF, BUFFER + HALF) == -errno.EINVAL
    assert mapped.check_map(APERTURE, 2 * PAGE, BUFFER + PAGE) == -errno.EINVAL


def test_what_is_not_mapped_translates_to_nothing(mapped: Mapped) -> None:
    assert mapped.check_map(APERTURE + 2 * PAGE, PAGE, BUFFER) == -errno.EINVAL
    assert mapped.check_map(APERTURE, PAGE, 0x1000) == -errno.EFAULT


@pytest.mark.parametrize(("iova", "length", "address"), [(1, PAGE, 0), (0, HALF + 1, 0), (0, PAGE, 1024)])
def test_a_check_of_less_than_a_granule_is_refused(mapped: Mapped, iova: int, length: int, address: int) -> None:
    assert mapped.check_map(APERTURE + iova, length, BUFFER + address) == -errno.EINVAL


def test_two_addresses_of_one_file_are_the_same_page(mapped: Mapped) -> None:
    mapped.has_file()
    mapped.client.map(mapped.ioas, APERTURE + 4 * PAGE, PAGE, FILE_AT + PAGE)
    assert mapped.check_map(APERTURE + 4 * PAGE, PAGE, FILE_AGAIN + PAGE) == 0
    assert mapped.check_map(APERTURE + 4 * PAGE, PAGE, FILE_AGAIN) == -errno.EINVAL


def test_a_pin_outlives_the_address_it_was_made_by(mapped: Mapped) -> None:
    mapped.has_file()
    mapped.client.map(mapped.ioas, APERTURE + 4 * PAGE, PAGE, FILE_AT)
    mapped.client.process.unmap(FILE_AT, FILE_AT + 4 * PAGE)
    assert mapped.check_map(APERTURE + 4 * PAGE, PAGE, FILE_AGAIN) == 0


def test_pages_are_counted_once_for_each_storage(mapped: Mapped) -> None:
    assert mapped.check_refs(BUFFER, 2 * PAGE, 1) == 0
    assert mapped.check_refs(BUFFER, 2 * PAGE, 0) == -errno.EIO
    assert mapped.check_refs(BUFFER + 2 * PAGE, PAGE, 0) == 0
    mapped.client.map(mapped.ioas, APERTURE + 8 * PAGE, PAGE)
    assert mapped.check_refs(BUFFER, PAGE, 2) == 0
    assert mapped.check_refs(BUFFER, 2 * PAGE, 2) == -errno.EIO
    mapped.client.unmap(mapped.ioas, APERTURE, 2 * PAGE)
    assert mapped.check_refs(BUFFER, PAGE, 1) == 0
    assert mapped.check_refs(BUFFER + PAGE, PAGE, 0) == 0


@pytest.mark.parametrize(("address", "length", "code"), [(1, PAGE, 22), (0, 100, 22), (-BUFFER, PAGE, 14)])
def test_a_count_of_no_whole_pages_is_refused(mapped: Mapped, address: int, length: int, code: int) -> None:
    assert mapped.check_refs(BUFFER + address, length, 0) == -code


def test_parts_of_huge_pages_count_for_nothing(mapped: Mapped) -> None:
    backing = Backing(mapped.client.process.world.frames, page_size=2 << 20)
    mapped.client.process.map(Area(HUGE_AT, HUGE_AT + (2 << 20), 3, True, backing, 0))
    mapped.client.map(mapped.ioas, APERTURE + (2 << 20), PAGE, HUGE_AT)
    assert mapped.check_refs(HUGE_AT, PAGE, 0) == 0
    assert mapped.check_refs(HUGE_AT, PAGE, 17) == 0


def test_an_access_that_pinned_other_pages_than_it_names_lets_them_go(mapped: Mapped) -> None:
    client = mapped.client
    fd = int.from_bytes(client.test(5, mapped.ioas, ("I", 0), ("I", 1))[:4], "little")
    before = pins_of(client)
    client.test(7, fd, ("I", 0), ("I", 0), ("Q", APERTURE), ("Q", PAGE), ("Q", BUFFER + PAGE))
    assert client.result == -errno.EBADE
    assert pins_of(client) == before
    client.test(7, fd, ("I", 0), ("I", 0), ("Q", APERTURE), ("Q", PAGE), ("Q", BUFFER))
    assert client.result == 0


def test_memory_of_a_process_that_is_gone_cannot_be_pinned() -> None:
    client = Client()
    ioas = client.ioas()
    client.map(ioas, APERTURE)
    other = client.process.world.process(1)
    owner, client.process = client.process, other
    other.everything_mapped = True
    owner.exit()
    client.test(12, ioas, ("I", 0), ("I", 0), ("I", 0), ("I", 0))
    assert client.result == -errno.EFAULT
