"""A guest in a program's memory: its first-stage tables are bytes that it writes, at addresses as it sees them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import define, field

from tests.plugins.vtd.program import PAGE, Program
from viommu.iommufd.uapi import HwptFlags

if TYPE_CHECKING:
    from tests.plugins.vtd.program import Buffer
    from viommu.objects.device import Device

GUEST_SIZE = 64 * PAGE
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
    next: int = BASE
    root: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.root = self.page()

    @classmethod
    def make(cls, program: Program, device: Device, flags: int = 0) -> Guest:
        ioas, memory = program.ioas(), program.buffer(GUEST_SIZE)
        program.map(ioas, BASE, memory)
        return cls(program, memory, ioas, program.hwpt(device, ioas, HwptFlags.NEST_PARENT | flags))

    def page(self) -> int:
        self.next += PAGE
        assert self.next <= BASE + GUEST_SIZE
        return self.next - PAGE

    def store(self, address: int, word: int) -> None:
        struct.pack_into("<Q", self.memory.pages, address - BASE, word)

    def load(self, address: int) -> int:
        found: int = struct.unpack_from("<Q", self.memory.pages, address - BASE)[0]
        return found

    def leaf(self, iova: int, root: int | None = None) -> int:
        """The address of the entry of a 4 KiB page, with tables on the way."""
        table = self.root if root is None else root
        for level in (3, 2, 1):
            at = table + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not self.load(at):
                self.store(at, self.page() | P | RW | US | A)
            table = self.load(at) & ADDRESS
        return table + (iova >> 12 & 0x1FF) * 8

    def map(self, iova: int, text: bytes = b"", root: int | None = None) -> int:
        """Map a new page that begins with a text; gives the page."""
        page = self.page()
        self.memory.pages[page - BASE : page - BASE + len(text)] = text
        self.store(self.leaf(iova, root), page | P | RW | US | A | D)
        return page
