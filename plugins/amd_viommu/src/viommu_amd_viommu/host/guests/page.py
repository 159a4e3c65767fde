"""The VF page of a guest, as user space maps it and gives it to the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from viommu.objects.physical import Mmio

SIZES = (8, 4)


@frozen
class GuestPage:
    """Loads and stores of 4 and 8 bytes reach hardware; others read as zero and are dropped."""

    mmio: Mmio
    offset: int

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes of the page."""
        if length in SIZES and not offset % length:
            return self.mmio.read(self.offset + offset, length).to_bytes(length, "little")
        return bytes(length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes in the page."""
        if len(data) in SIZES and not offset % len(data):
            self.mmio.write(self.offset + offset, len(data), int.from_bytes(data, "little"))
