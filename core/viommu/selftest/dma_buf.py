"""The mock's dma-buf: memory of no process, which its exporter can revoke."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.iommufd.plain_file import PlainFile
from viommu.kernel_errors import NoDevice

if TYPE_CHECKING:
    from collections.abc import Callable


PAGE_SIZE = 4096
_frames = count(1 << 44, 1 << 10)


@define(eq=False)
class MockRun:
    """Its pages: physical neighbours that nobody pins (a `PageRun`)."""

    frame: int
    count: int

    def read(self, offset: int, length: int) -> bytes:  # noqa: ARG002
        """Give zeros: nobody stores anything."""
        return bytes(length)

    def write(self, offset: int, data: bytes) -> None:
        """Drop the bytes."""

    def pins(self, index: int) -> int | None:  # noqa: ARG002
        """Pages of a device are not counted."""
        return None

    def unpin(self, index: int, count: int) -> None:
        """Nothing was pinned."""


@define(eq=False)
class MockDmaBuf(PlainFile):
    """The buffer and its file (a `viommu.objects.pages.DmaBuf`)."""

    size: int
    revoked: bool = False
    kind: str = "dmabuf"
    _importers: list[Callable[[], None]] = field(factory=list)
    _frame: int = field(factory=lambda: next(_frames))

    def attach(self, revoked: Callable[[], None]) -> None:
        """Begin to import. Raises NoDevice while it is revoked."""
        if self.revoked:
            raise NoDevice("dma-buf", "revoked", bound="not so")
        self._importers.append(revoked)

    def detach(self, revoked: Callable[[], None]) -> None:
        """Stop importing."""
        self._importers.remove(revoked)

    def extent(self) -> MockRun:
        """Give its memory."""
        return MockRun(self._frame, self.size // PAGE_SIZE)

    def revoke(self, revoked: bool) -> None:
        """Take the memory from all who import it, or let it be imported anew."""
        if revoked and not self.revoked:
            for tell in tuple(self._importers):
                tell()
        self.revoked = revoked

    def poll(self, events: int = 0xFFFF) -> int:
        """Answer poll: no fence is pending."""
        return 0x5 & events

    def release(self) -> None:
        """Importers keep the memory."""
