"""HW_QUEUE: a hardware queue that a guest owns, in memory that nobody may unmap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define

from viommu.addresses import PAGE_SIZE
from viommu.kernel_errors import BadAddress, Invalid, NoMemory, OutOfRangeSize
from viommu.objects.access import Access
from viommu.objects.areas import joined
from viommu.objects.intervals import U64_MAX
from viommu.objects.table import Object

if TYPE_CHECKING:
    from viommu.objects.context import Context
    from viommu.objects.viommu import Viommu

__all__ = [
    "HwQueue",
]

PINNED_LAST = ((1 << 31) - 1) // 8 * PAGE_SIZE
"""The kernel lists the pages in one allocation, which is no longer than an int can say (bytes)."""


@define(eq=False, kw_only=True, repr=False)
class HwQueue(Object):
    """A queue of a vIOMMU. ``iova`` and ``length`` (bytes) say where the guest put it; ``data`` is the driver's own."""

    kind: ClassVar[str] = "HW_QUEUE"

    context: Context
    viommu: Viommu
    type: int
    iova: int
    length: int
    access: Access | None = None
    data: Any = None

    def init(self, index: int) -> None:
        """Pin the memory, and let the driver begin. Raises KernelError, and then nothing is left."""
        base = self._pinned_base()
        try:
            self.viommu.iommu.driver.ask("viommu_hw_queue_init", queue=self, index=index, base_pa=base)
        except BaseException:
            self._unpin()
            raise
        self.viommu.hold()
        self.built = True

    def init_iova(self, index: int) -> None:
        """Let the driver begin, with hardware that translates IOVAs itself; nothing is pinned. Raises KernelError."""
        _ = self.viommu.parent  # an empty vIOMMU has no address space
        self.viommu.iommu.driver.ask("viommu_hw_queue_init_iova", queue=self, index=index)
        self.viommu.hold()
        self.built = True

    def depend_on(self, other: HwQueue) -> None:
        """Keep another queue of the same vIOMMU alive (a driver's helper). Raises Invalid."""
        if other is self or other.viommu is not self.viommu:
            raise Invalid(self.title, "dependency", other.id, "another queue of the same vIOMMU")
        other.hold()

    def undepend_on(self, other: HwQueue) -> None:
        """Let the other queue go."""
        other.drop()

    def destroy(self) -> None:
        """Take the queue away, then unpin."""
        self.viommu.iommu.driver.ask("viommu_hw_queue_destroy", queue=self)
        self._unpin()
        self.viommu.drop()

    @property
    def _pages(self) -> tuple[int, int]:
        """The whole pages that it lies in: (IOVA, length)."""
        start = self.iova & -PAGE_SIZE
        return start, -(-(self.iova - start + self.length) // PAGE_SIZE) * PAGE_SIZE

    def _pinned_base(self) -> int:
        start, length = self._pages
        if length > U64_MAX:
            raise OutOfRangeSize("HW_QUEUE", "length", self.length, "a size in whole pages below 2^64")
        if length > PINNED_LAST:
            raise NoMemory("HW_QUEUE", "length", self.length, f"at most {PINNED_LAST:#x}")
        self.access = Access.create(self.context, self.viommu.parent.ioas, PAGE_SIZE)
        try:
            runs = list(joined(self.access.pin(start, length, lock=True)))
        except BaseException:
            self.access.close()
            raise
        if len(runs) > 1:
            self._unpin()
            raise BadAddress("HW_QUEUE", "nesting_parent_iova", self.iova, "physically contiguous")
        return runs[0][0] * PAGE_SIZE + self.iova - start

    def _unpin(self) -> None:
        if self.access is not None:
            self.access.unpin(*self._pages, lock=True)
            self.access.close()
