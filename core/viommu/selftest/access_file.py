"""The mock's access: an fd on an ACCESS, and what is pinned through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.iommufd.plain_file import PlainFile
from viommu.objects.access import Access

if TYPE_CHECKING:
    from viommu.objects.context import Context
    from viommu.objects.ioas import Ioas

PAGE_SIZE = 4096


@frozen
class Item:
    """One range that is pinned."""

    iova: int
    length: int


@define(eq=False)
class AccessFile(PlainFile):
    """The open file. It keeps the open /dev/iommu, and what is pinned, alive."""

    context: Context
    pins: bool
    access: Access = field(init=False)
    items: dict[int, Item] = field(factory=dict)
    _next: int = 0
    kind: str = "access"

    @classmethod
    def create(cls, context: Context, ioas: Ioas, *, pins: bool) -> AccessFile:
        """Make an access on an IOAS; one that pins demands whole pages. Raises AddressInUse."""
        made = cls(context, pins)
        made.access = Access.create(context, ioas, PAGE_SIZE if pins else 1, made.let_go if pins else None)
        context.keep()
        return made

    def add(self, iova: int, length: int) -> int:
        """Remember a range that is pinned; its number."""
        self.items[self._next] = Item(iova, length)
        self._next += 1
        return self._next - 1

    def unpin(self, number: int) -> None:
        """Unpin a range."""
        item = self.items.pop(number)
        self.access.unpin(item.iova, item.length)

    def let_go(self, iova: int, length: int) -> None:
        """Unpin whatever meets a range, because it is to be unmapped."""
        for number, item in tuple(self.items.items()):
            if item.iova <= iova + length - 1 and iova <= item.iova + item.length - 1:
                self.unpin(number)

    def discard(self) -> None:
        """Unpin everything and destroy the access."""
        for number in tuple(self.items):
            self.unpin(number)
        self.access.close()

    def release(self) -> None:
        """Take note that the last fd is closed."""
        with self.context.lock:
            self.discard()
            self.context.release()
