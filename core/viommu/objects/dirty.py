"""Dirty tracking: from the marks of a page table to a bitmap in user memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.kernel_errors import BadAddress, KernelError, NotThere

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.hwpt import PagingHwpt

CHUNK_BYTES = 2 << 20
"""How much of the bitmap is pinned at a time, as the kernel pins it."""


@define(eq=False)
class UserBitmap:
    """One bit for each ``granule`` bytes from ``iova`` on, the lowest bit of a byte first.

    Bits are OR-ed into user memory by `store`; ``bits`` is how many there are.
    """

    iova: int
    granule: int
    bits: int
    _bytes: dict[int, int] = field(factory=dict)
    _runs: list[tuple[int, int]] = field(factory=list)  # whole bytes [first, end)

    def mark(self, iova: int, length: int) -> None:
        """Set the bits of a range that the device wrote to, as far as the bitmap has them.

        An empty range at the very beginning sets all of them: the kernel's arithmetic wraps there.
        """
        first = max((iova - self.iova) // self.granule, 0)
        last = min((iova + length - 1 - self.iova) // self.granule, self.bits - 1)
        if not length and iova == self.iova:
            last = self.bits - 1
        if first > last:
            return
        if first // 8 == last // 8:
            self._or(first // 8, (0xFF << first % 8) & (0xFF >> 7 - last % 8) & 0xFF)
            return
        self._or(first // 8, 0xFF << first % 8 & 0xFF)
        self._or(last // 8, 0xFF >> 7 - last % 8)
        if last // 8 > first // 8 + 1:
            self._runs.append((first // 8 + 1, last // 8))

    def _or(self, index: int, value: int) -> None:
        self._bytes[index] = self._bytes.get(index, 0) | value

    def store(self, process: UserProcess, address: int) -> None:
        """OR what is set into user memory, which is there. Raises BadAddress."""
        for first, end in self._runs:
            _store(process, address + first, b"\xff" * (end - first))
        for start, data in self._stretches():
            _store(process, address + start, data)

    def _stretches(self) -> list[tuple[int, bytearray]]:
        stretches: list[tuple[int, bytearray]] = []
        for index in sorted(self._bytes):
            if stretches and stretches[-1][0] + len(stretches[-1][1]) == index:
                stretches[-1][1].append(self._bytes[index])
            else:
                stretches.append((index, bytearray((self._bytes[index],))))
        return stretches


def read_dirty(
    hwpt: PagingHwpt, process: UserProcess, iova: int, last: int, granule: int, address: int, *, clear: bool
) -> None:
    """Report what DMA wrote in [iova, last] since it was last cleared.

    It ends, as the kernel's does without a word, at a hole or where the bitmap is not writable.
    """
    step = CHUNK_BYTES * 8 * granule
    for start in range(iova, last + 1, step):
        end = min(start + step - 1, last)
        bitmap = UserBitmap(start, granule, (end - start) // granule + 1)
        place = address + (start - iova) // granule // 8
        try:
            _check_writable(process, place, bitmap.bits)
            try:
                _read_areas(hwpt, start, end, bitmap, clear=clear)
            finally:
                bitmap.store(process, place)
        except KernelError:
            return


def _read_areas(hwpt: PagingHwpt, iova: int, last: int, bitmap: UserBitmap, *, clear: bool) -> None:
    driver = hwpt.iommu.driver
    for area in hwpt.ioas.space.areas.within(iova, last):
        if area.start > iova:
            break
        end = min(area.last, last)
        driver.ask(
            "viommu_read_dirty", domain=hwpt.domain, iova=iova, length=end - iova + 1, clear=clear, bitmap=bitmap
        )
        iova = end + 1
    if iova <= last:
        raise NotThere(hwpt.ioas.title, "IOVA", iova, "mapped")


def _check_writable(process: UserProcess, address: int, bits: int) -> None:
    start = address & -PAGE_SIZE
    count = -(-(address - start + -(-bits // 8)) // PAGE_SIZE)
    runs = process.pin(start, count, True)
    if runs is None:
        raise BadAddress("dirty bitmap", "data", address, "writable")
    for run in runs:
        run.unpin(0, run.count)


def _store(process: UserProcess, address: int, data: bytes | bytearray) -> None:
    old = process.read(address, len(data))
    if old is None or not process.write(address, bytes(a | b for a, b in zip(old, data, strict=True))):
        raise BadAddress("dirty bitmap", "data", address, "writable")
