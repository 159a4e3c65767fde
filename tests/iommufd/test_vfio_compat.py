"""VFIO's type-1 container on an iommufd, beyond what the recordings show."""

from __future__ import annotations

import errno
import struct

import pytest

from tests.iommufd.client import APERTURE, BUFFER, PAGE, STRUCT, Client
from tests.iommufd.state import pins_of
from viommu.iommufd import uapi, vfio_compat
from viommu.objects.ioas import Ioas

MAP, UNMAP, INFO, SET, EXTENSION = 0x3B71, 0x3B72, 0x3B70, 0x3B66, 0x3B65


class Container:
    """A container with an IOAS that a mock device is attached to."""

    def __init__(self, kind: int) -> None:
        self.client = Client()
        self.ioas = self.client.ioas()
        self.client.must(uapi.VfioIoas.of(ioas_id=self.ioas, op=uapi.VfioIoasOp.SET))
        self.client.device(self.ioas)
        assert self.ioctl(SET, kind) == 0

    def ioctl(self, number: int, argument: int) -> int:
        client = self.client
        return client.subject.ioctl(client.process, client.file, number, argument)

    def make(self, number: int, raw: bytes) -> int:
        self.client.process.write(STRUCT, raw)
        return self.ioctl(number, STRUCT)

    def map(self, iova: int, pages: int) -> int:
        cmd = vfio_compat.Map.of(argsz=32, flags=3, vaddr=BUFFER, iova=iova, size=pages * PAGE)
        return self.make(MAP, cmd.encode())

    def unmap(self, iova: int, length: int) -> tuple[int, int]:
        """The answer, and how many bytes went."""
        result = self.make(UNMAP, vfio_compat.Unmap.of(argsz=24, iova=iova, size=length).encode())
        after = vfio_compat.Unmap.decode(self.client.process.read(STRUCT, 24) or b"")
        return result, after.size

    @property
    def areas(self) -> list[tuple[int, int]]:
        (ioas,) = (found for found in self.client.file.context.table if isinstance(found, Ioas))
        return [(area.start, area.length) for area in ioas.space.areas]


def test_the_first_type_unmaps_the_middle_of_a_mapping() -> None:
    container = Container(kind=1)
    assert container.map(APERTURE, 8) == 0
    assert container.unmap(APERTURE + 2 * PAGE, 3 * PAGE) == (0, 3 * PAGE)
    assert container.areas == [(APERTURE, 2 * PAGE), (APERTURE + 5 * PAGE, 3 * PAGE)]
    assert sum(pins_of(container.client).values()) == 5


def test_the_second_type_unmaps_whole_mappings_alone() -> None:
    container = Container(kind=3)
    assert container.map(APERTURE, 8) == 0
    assert container.unmap(APERTURE + 2 * PAGE, 3 * PAGE) == (-errno.ENOENT, 0)
    assert container.areas == [(APERTURE, 8 * PAGE)]


def test_what_went_before_a_failure_is_told() -> None:
    container = Container(kind=3)
    assert container.map(APERTURE, 1) == 0
    assert container.map(APERTURE + PAGE, 4) == 0
    assert container.unmap(APERTURE, 3 * PAGE) == (-errno.ENOENT, PAGE)


def test_unmapping_nothing_is_fine_here() -> None:
    assert Container(kind=3).unmap(APERTURE, PAGE) == (0, 0)


def test_a_split_mapping_can_be_unmapped_piece_by_piece() -> None:
    container = Container(kind=1)
    container.map(APERTURE, 4)
    for page in (1, 3, 0, 2):
        assert container.unmap(APERTURE + page * PAGE, PAGE) == (0, PAGE)
    assert container.areas == []
    assert not pins_of(container.client)
    assert container.client.process.account.pinned == 0


@pytest.mark.parametrize("room", [24, 35, 36, 39, 40, 71, 72, 100])
def test_capabilities_come_as_far_as_there_is_room(room: int) -> None:
    container = Container(kind=1)
    assert container.make(INFO, struct.pack("<I", room).ljust(100, b"\xaa")) == 0
    raw = container.client.process.read(STRUCT, 100) or b""
    info = vfio_compat.Info.decode(raw[:24])
    assert (info.argsz, info.cap_offset) == (72, 24 if room >= 72 else 0)
    assert raw[room:] == b"\xaa" * (100 - room)
    assert (raw[24:26] == b"\3\0") == (room >= 36)
    assert (raw[28:32] == struct.pack("<I", 40)) == (room >= 40)
    assert (raw[40:42] == b"\1\0") == (room >= 72)


def test_without_an_ioas_there_is_no_container() -> None:
    client = Client()
    for number, argument in ((SET, 1), (EXTENSION, 4)):
        assert client.subject.ioctl(client.process, client.file, number, argument) == -errno.ENODEV


def test_a_range_beyond_the_last_address_unmaps_nothing_and_says_so() -> None:
    container = Container(kind=3)
    assert container.map(APERTURE, 1) == 0
    assert container.unmap((1 << 64) - PAGE, 2 * PAGE) == (-errno.EOVERFLOW, 0)
    assert container.areas == [(APERTURE, PAGE)]
