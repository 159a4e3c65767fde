"""The address arithmetic of an IOAS: what is reserved, what is allowed, alignment, and where a mapping may go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.addresses import PAGE_SIZE
from viommu.kernel_errors import AddressInUse, Exists, Invalid, NoSpace, Overflow
from viommu.objects.failure import allocation_point
from viommu.objects.intervals import U64_MAX, Disjoint, Range, holes, merged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from viommu.objects.areas import Area

HUGE_PAGE = 2 << 20
"""What automatic placement aligns to at most: the size of a transparent huge page."""
KINDS_REMEMBERED = 16
"""For how many kinds of mappings placement keeps where to search."""


@frozen
class Reservation:
    """IOVAs that belong to somebody (closed). ``owner`` None: to nobody in particular, for good."""

    start: int
    last: int
    owner: object = field(eq=False)
    beyond_aperture: bool = False
    """It is no region of a device: a page table has no entries for it."""

    def __str__(self) -> str:
        place = f"{self.start:#x}-{self.last:#x}"
        return (
            f"{place}, which is beyond the aperture of a page table"
            if self.beyond_aperture
            else f"the reserved {place}"
        )


@define(eq=False)
class IovaSpace:
    """0 to 2^64 - 1 with the areas in it."""

    areas: Disjoint[Area] = field(factory=Disjoint)
    reserved: list[Reservation] = field(factory=list)  # ascending by start; may meet each other
    allowed: tuple[Range, ...] = ()  # ascending, disjoint
    alignment: int = 1
    _nothing_below: dict[tuple[int, int, int], int] = field(factory=dict, init=False)
    """By length, alignment and offset: below this address no such mapping fits. Placement begins its search there."""

    def add(self, area: Area) -> None:
        """Put in an area that meets none."""
        self.areas.add(area)

    def remove(self, area: Area) -> None:
        """Take an area out; what joins the hole that it leaves may fit from the end of its neighbour on."""
        self.areas.remove(area)
        if self._nothing_below:
            below = self.areas.last_before(area.start)
            start = 0 if below is None else below.last + 1
            for wanted, known in self._nothing_below.items():
                self._nothing_below[wanted] = min(known, start)

    def reserve(self, start: int, last: int, owner: object, *, beyond_aperture: bool = False) -> None:
        """Keep IOVAs free of mappings. Raises AddressInUse where some are mapped, or allowed to be."""
        what = "range beyond the aperture of the page table" if beyond_aperture else "reserved range"
        mapped = self.areas.first(start, last)
        if mapped is not None:
            found = f"free of mappings up to {last:#x}; one is at {mapped.start:#x}-{mapped.last:#x}"
            raise AddressInUse(what, "IOVA", start, found)
        if any(allowed.meets(start, last) for allowed in self.allowed):
            raise AddressInUse(what, "IOVA", start, "outside what automatic placement is allowed to use")
        allocation_point("reserved range")
        self.reserved.append(Reservation(start, last, owner, beyond_aperture))
        self.reserved.sort(key=lambda reservation: reservation.start)

    def unreserve(self, owner: object) -> None:
        """Give back all that an owner reserved."""
        self.reserved = [reservation for reservation in self.reserved if reservation.owner is not owner]
        self._nothing_below.clear()

    def usable(self) -> list[Range]:
        """Give what is not reserved, ascending."""
        return list(holes(self.reserved, 0, U64_MAX))

    def allow(self, ranges: Sequence[Range]) -> None:
        """Replace the list for automatic placement. Raises AddressInUse where a range meets a reserved one."""
        for wanted in ranges:
            if any(wanted.meets(reservation.start, reservation.last) for reservation in self.reserved):
                raise AddressInUse("allowed range", "start", wanted.start, "free of reserved IOVAs")
        self.allowed = tuple(sorted(ranges, key=lambda wanted: wanted.start))
        self._nothing_below.clear()

    def check_alignment(self, alignment: int) -> None:
        """Refuse an alignment that some area does not have. Raises AddressInUse."""
        mask = alignment - 1
        for area in self.areas:
            if (area.start | area.length | area.page_offset) & mask:
                raise AddressInUse(
                    "mapping", "IOVA", area.start, f"aligned to {alignment:#x}, its offset and length too"
                )

    def check_fixed(self, iova: int, length: int) -> None:
        """Refuse a place. Raises Invalid, Overflow, Exists."""
        if iova & (self.alignment - 1):
            raise Invalid("mapping", "iova", iova, f"a multiple of {self.alignment:#x}")
        last = iova + length - 1
        if last > U64_MAX:
            raise Overflow("mapping", "iova", iova, "a range that ends below 2^64")
        for reservation in self.reserved:
            if reservation.start <= last and iova <= reservation.last:
                raise Invalid("mapping", "iova", iova, f"outside {reservation}")
        taken = self.areas.first(iova, last)
        if taken is not None:
            raise Exists("mapping", "iova", iova, f"outside the mapping at {taken.start:#x}-{taken.last:#x}")

    def place(self, address: int, length: int) -> int:
        """Choose an IOVA for memory at this address. Raises Overflow, Invalid, NoSpace."""
        if not 0 < length < U64_MAX // 2:
            raise Overflow("mapping", "length", length, "at least one byte, less than half of all")
        alignment = self._wanted_alignment(address, length)
        if alignment < self.alignment:
            raise Invalid("mapping", "user_va", address, f"aligned to {self.alignment:#x}, as its length is")
        wanted = length, alignment, address % PAGE_SIZE
        found = self._lowest_fit(*wanted, self._nothing_below.get(wanted, 0))
        if found is None:
            raise NoSpace("mapping", "length", length, "no larger than what is free and allowed")
        if len(self._nothing_below) >= KINDS_REMEMBERED:
            self._nothing_below.clear()
        self._nothing_below[wanted] = found
        return found

    def _lowest_fit(self, length: int, alignment: int, offset: int, least: int) -> int | None:
        """Find the lowest free place from an address on."""
        for allowed in self._placeable(least):
            start = _fit(allowed, length, alignment, offset)
            if start is None:
                continue
            for hole in self._free_within(Range(start, allowed.last)):  # where a hole begins in between matters
                found = _fit(hole, length, alignment, offset)
                if found is not None:
                    return found
        return None

    def _wanted_alignment(self, address: int, length: int) -> int:
        alignment = 1 << (length - 1).bit_length()
        if address:
            alignment = min(alignment, address & -address)
        return min(alignment, HUGE_PAGE)

    def _placeable(self, least: int) -> Iterator[Range]:
        bounds = Range(max(PAGE_SIZE, least), U64_MAX - PAGE_SIZE)
        if not self.allowed:
            yield bounds
        for allowed in merged(self.allowed):
            if bounds.meets(allowed.start, allowed.last):
                yield Range(max(allowed.start, bounds.start), min(allowed.last, bounds.last))

    def _free_within(self, allowed: Range) -> Iterator[Range]:
        reserved = [r for r in self.reserved if r.start <= allowed.last and r.last >= allowed.start]
        for hole in holes(reserved, allowed.start, allowed.last):
            yield from holes(self.areas.within(hole.start, hole.last), hole.start, hole.last)


def _fit(room: Range, length: int, alignment: int, offset: int) -> int | None:
    """Give the lowest aligned place in a range, if there is one."""
    start = ((room.start + alignment - 1) & -alignment) | offset
    if start >= room.last or room.last - start < length - 1:
        return None
    return start
