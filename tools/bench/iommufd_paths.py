"""What ioctls cost: of this process, through `IommuFd.ioctl`, on memory of this process."""

from __future__ import annotations

import ctypes
import mmap
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from tools.bench.paths import Path
from viommu import table_shapes
from viommu.io_page_table import IoPageTable
from viommu.iommufd import uapi
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.local import LocalProcess
from viommu.memory import PhysicalMemory
from viommu.objects.ioas import Ioas
from viommu.table_frames import TableFrames

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.io_page_table import TableShape
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.ops import Prot

PAGE, GIB = 4096, 1 << 30
ENTRY_BYTES = 8
CALLS = 200
FIRST_IOVA = 1 << 32
DESTROY, IOAS_ALLOC, IOAS_MAP, IOAS_UNMAP = 0x3B80, 0x3B81, 0x3B85, 0x3B86
FIXED_RW = int(uapi.MapFlags.FIXED_IOVA | uapi.MapFlags.READABLE | uapi.MapFlags.WRITEABLE)


@define(eq=False)
class Domain:
    """A host driver's page table; no hardware caches anything of it."""

    table: IoPageTable
    page_sizes: int = field(init=False)
    aperture: tuple[int, int] = field(init=False)
    dirty_tracking: bool = False

    def __attrs_post_init__(self) -> None:
        self.page_sizes = self.table.shape.page_sizes
        self.aperture = (0, (1 << self.table.shape.input_bits) - 1)

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map a range."""
        self.table.map(iova, pa, length, prot, largest)

    def unmap(self, iova: int, length: int) -> None:
        """Unmap a range."""
        self.table.unmap(iova, length).free()

    def physical(self, iova: int) -> int | None:
        """Translate."""
        return self.table.physical(iova)

    def enforce_coherency(self) -> bool:
        """There is no hardware that could."""
        return False


class Caller:
    """This process, with an open /dev/iommu and one structure that it makes all its calls with."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory()
        self.process = LocalProcess(self.memory)
        self.file = IommuFd()
        self._argument = ctypes.create_string_buffer(64)
        self._address = ctypes.addressof(self._argument)
        self._anonymous = mmap.mmap(-1, GIB + (2 << 20))
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._anonymous))
        self.buffer = -(-start // (2 << 20)) * (2 << 20)

    def call(self, number: int, raw: bytes) -> None:
        """Make an ioctl that has to succeed."""
        ctypes.memmove(self._address, raw, len(raw))
        result = self.file.ioctl(number, self._address, self.process)
        assert result >= 0, (number, result)

    def ask(self, number: int, cmd: UapiStruct) -> bytes:
        """Make an ioctl, and give the structure as it is then."""
        self.call(number, cmd.encode())
        return self._argument.raw[: cmd.total]

    def ioas(self) -> int:
        """Make an IOAS."""
        return uapi.IoasAlloc.decode(self.ask(IOAS_ALLOC, uapi.IoasAlloc.of())).out_ioas_id

    def attach(self, ioas: int, shape: TableShape) -> None:
        """Let a page table follow an IOAS."""
        domain = Domain(IoPageTable(TableFrames(self.memory), shape))
        self.file.context.table.find(ioas, Ioas, "ioas").add_domain(domain)


class Mapping:
    """An IOAS with a page table, and ranges of the buffer to be mapped one after the other."""

    def __init__(self, length: int, count: int, shape: TableShape) -> None:
        self.caller = Caller()
        ioas = self.caller.ioas()
        self.caller.attach(ioas, shape)
        self.commands = [
            uapi.IoasMap.of(
                flags=FIXED_RW,
                ioas_id=ioas,
                user_va=self.caller.buffer + index * length,
                length=length,
                iova=FIRST_IOVA + index * length,
            ).encode()
            for index in range(count)
        ]
        self._everything = uapi.IoasUnmap.of(ioas_id=ioas, iova=0, length=(1 << 64) - 1).encode()

    def map(self) -> int:
        """Map every range."""
        call = self.caller.call
        for command in self.commands:
            call(IOAS_MAP, command)
        return len(self.commands)

    def unmap(self) -> None:
        """Unmap them all."""
        self.caller.call(IOAS_UNMAP, self._everything)


def make_and_destroy(caller: Caller) -> int:
    """Make an IOAS and destroy it, many times."""
    made = uapi.IoasAlloc.of().encode()
    for _ in range(CALLS):
        caller.call(IOAS_ALLOC, made)
        number = int.from_bytes(caller._argument.raw[8:12], "little")  # noqa: SLF001 # out_ioas_id
        caller.call(DESTROY, uapi.Destroy.of(id=number).encode())
    return CALLS


def small_calls() -> list[Path]:
    """Give the paths of calls that do little."""
    small = Mapping(PAGE, CALLS, table_shapes.vtd_second_stage())
    return [
        Path("IOAS_ALLOC + DESTROY", partial(make_and_destroy, Caller())),
        Path("IOAS_MAP 4K", small.map, small.unmap),
    ]


def large_maps() -> list[Path]:
    """Give the paths of maps of 1 GiB, and what it costs to write as many bytes as 4K leaves have."""
    small = Mapping(GIB, 1, table_shapes.vtd_second_stage(large_pages=0))
    large = Mapping(GIB, 1, table_shapes.vtd_second_stage(large_pages=1))
    entries = np.arange(GIB // PAGE, dtype=np.uint64)
    table = np.zeros_like(entries)

    def write() -> int:
        np.copyto(table, entries)
        return 1

    return [
        Path("IOAS_MAP 1 GiB, 4K leaves", small.map, small.unmap),
        Path("IOAS_MAP 1 GiB, 2M leaves", large.map, large.unmap),
        Path("writing the page-table bytes of 4K leaves", write),
    ]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give every group of ioctls."""
    return {"ioctls": small_calls, "maps of 1 GiB": large_maps}
