"""A guest in a program's memory: its GCR3 and guest tables are bytes that it writes, at addresses as it sees them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import define, field

from tests.plugins.amd_viommu.program import PAGE, Program
from viommu.iommufd.uapi import HwptFlags
from viommu_amd_viommu.spec.device_table import DTE

if TYPE_CHECKING:
    from tests.plugins.amd_viommu.program import Buffer
    from viommu.objects.device import Device

GUEST_SIZE = 256 * PAGE
BASE = 0x10_0000
"""Where its memory begins, as it sees it."""
P, RW, US, A, D = 1, 2, 4, 0x20, 0x40
ADDRESS = 0xF_FFFF_FFFF_F000


@define(eq=False)
class Guest:
    """Memory from `BASE` on, mapped into an IOAS with a nesting parent on it. ``next``: its next free page."""

    program: Program
    memory: Buffer
    ioas: int
    parent: int
    levels: int = 4
    next: int = BASE
    gcr3: int = field(init=False)
    roots: dict[int, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.gcr3 = self.page()

    @classmethod
    def make(cls, program: Program, device: Device, flags: int = 0, levels: int = 4) -> Guest:
        ioas, memory = program.ioas(), program.buffer(GUEST_SIZE)
        program.map(ioas, BASE, memory)
        return cls(program, memory, ioas, program.hwpt(device, ioas, HwptFlags.NEST_PARENT | flags), levels)

    def dte(self, **fields: int) -> DTE:
        """Its device table entry: requests without PASID use that of PASID 0."""
        usual = {"V": 1, "TV": 1, "GV": 1, "GIOV": 1, "GCR3": self.gcr3, "GuestPagingMode": self.levels - 4}
        return DTE(**usual | {"DomainID": 1} | fields)

    def page(self) -> int:
        self.next += PAGE
        assert self.next <= BASE + GUEST_SIZE
        return self.next - PAGE

    def pages(self, count: int) -> int:
        first = self.page()
        for _ in range(count - 1):
            self.page()
        return first

    def store(self, address: int, word: int) -> None:
        struct.pack_into("<Q", self.memory.pages, address - BASE, word)

    def load(self, address: int) -> int:
        found: int = struct.unpack_from("<Q", self.memory.pages, address - BASE)[0]
        return found

    def write(self, address: int, data: bytes) -> None:
        self.memory.pages[address - BASE : address - BASE + len(data)] = data

    def read(self, address: int, length: int) -> bytes:
        return self.memory.pages[address - BASE : address - BASE + length]

    def root(self, pasid: int = 0) -> int:
        """The top of a PASID's tables (GLX 0: one table of 512 PASIDs)."""
        if pasid not in self.roots:
            self.roots[pasid] = self.page()
            self.store(self.gcr3 + 8 * pasid, self.roots[pasid] | 1)
        return self.roots[pasid]

    def leaf(self, iova: int, pasid: int = 0) -> int:
        """The address of the entry of a 4 KiB page, with tables on the way."""
        table = self.root(pasid)
        for level in range(self.levels - 1, 0, -1):
            at = table + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not self.load(at):
                self.store(at, self.page() | P | RW | US | A)
            table = self.load(at) & ADDRESS
        return table + (iova >> 12 & 0x1FF) * 8

    def map(self, iova: int, text: bytes = b"", pasid: int = 0) -> int:
        """Map a new page that begins with a text; gives the page."""
        page = self.page()
        self.write(page, text)
        self.store(self.leaf(iova, pasid), page | P | RW | US | A | D)
        return page

    def unmap(self, iova: int, pasid: int = 0) -> None:
        self.store(self.leaf(iova, pasid), 0)
