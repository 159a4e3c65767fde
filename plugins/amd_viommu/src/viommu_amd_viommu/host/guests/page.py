"""The VF page of a guest, as user space maps it and gives it to the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.register_watch import SharedWord
from viommu_amd_viommu.spec.guest_registers import GUEST_PAGE_OFFSET, VF_PAGE
from viommu_amd_viommu.spec.places import PLACES

if TYPE_CHECKING:
    from viommu.objects.physical import Mmio

SIZES = (8, 4)
DOORBELL = "CMDTAIL"


def _words() -> tuple[SharedWord, ...]:
    """Say what registers the page has; the doorbell comes after all that was stored with it."""
    names = sorted(PLACES, key=lambda name: (name == DOORBELL, PLACES[name].offset))
    offsets = [PLACES[name].offset - GUEST_PAGE_OFFSET for name in names]
    return tuple(SharedWord(offset, 8) for offset in offsets if 0 <= offset < VF_PAGE)


WORDS = _words()
"""As shared memory. Status has bits that a 1 clears; beside them it shows CmdBufRun, EventLogRun or PPRRun while any
part of it runs, so that who clears bits by a mask, as drivers do, stores another value. Who stores back all that it has
read is not heard."""


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
