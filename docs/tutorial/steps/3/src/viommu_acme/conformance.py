"""What viommu's conformance kit has to know: how this hardware is programmed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from viommu.testing import GuestKit

from viommu_acme.spec import CTRL, DTBASE, DTE, Mode
from viommu_acme.translate import SHAPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu import PhysicalMemory
    from viommu.io_page_table import TableShape

PAGE = 0x1000


@frozen
class ByHand:
    """Programs one device, in a device table that is as long as it has to be."""

    tables: TableShape = SHAPE

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        """Let page tables at ``root`` govern a device; give the registers' values."""
        lg2 = requester.bit_length()
        table = take(-(-(DTE.size << lg2) // PAGE))
        entry = DTE(V=1, Mode=Mode.TRANSLATE, TablePtr=root, DomainID=1)
        memory.write(table + DTE.size * requester, entry.encode())
        return {"DTBASE": int(DTBASE(Address=table, SizeLg2=lg2)), "CTRL": int(CTRL(E=1))}


KIT = GuestKit(bare=ByHand())
