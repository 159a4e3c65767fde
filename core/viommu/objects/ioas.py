"""IOAS: one I/O address space, its mappings, and the page tables that follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from attrs import define, field

from viommu.addresses import PAGE_SIZE
from viommu.errors import DriverBug, ViommuError, told
from viommu.kernel_errors import (
    AddressInUse,
    Busy,
    Invalid,
    KernelError,
    NotPermitted,
    NotThere,
    Overflow,
    Unsupported,
    WouldDeadlock,
)
from viommu.objects.areas import Area
from viommu.objects.failure import allocation_point
from viommu.objects.intervals import U64_MAX
from viommu.objects.iova_space import IovaSpace
from viommu.objects.pages import DmaBufPages, FilePages, Pages, UserPages
from viommu.objects.table import Object
from viommu.ops import may_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.access import Access
    from viommu.objects.context import Accounting, Context
    from viommu.objects.hwpt import PagingHwpt
    from viommu.ops import PagingDomain, Prot

UNMAP_TRIES = 100


class Piece(NamedTuple):
    """Bytes of a storage that are to be mapped."""

    pages: Pages
    start_byte: int
    length: int


@define(eq=False, kw_only=True, repr=False)
class Ioas(Object):
    """An I/O address space. ``domains`` follow every mapping; ``accesses`` pin, read and write without a domain."""

    kind: ClassVar[str] = "IOAS"

    context: Context
    space: IovaSpace = field(factory=IovaSpace)
    domains: list[PagingDomain] = field(factory=list)
    hwpts: list[PagingHwpt] = field(factory=list)
    accesses: list[Access] = field(factory=list)
    huge_pages: bool = True

    def destroy(self) -> None:
        """Unmap everything."""
        self.unmap_all()
        if self.context.compat is self:
            self.context.compat = None

    # --- mapping

    def map_user(self, process: UserProcess, address: int, length: int, prot: Prot, iova: int | None) -> int:
        """Map memory of a process, at ``iova`` or (None) where it fits; the IOVA. Raises KernelError."""
        if address + length > U64_MAX:
            raise Overflow("mapping", "user_va", address, "a range that ends below 2^64")
        _check_size(length)
        start = address & -PAGE_SIZE
        pages = UserPages(
            source=process,
            count=_page_count(address - start, length),
            writable=may_write(prot),
            accounting=self.context_accounting(process),
            user_address=start,
        )
        return self.map_pieces([Piece(pages, address - start, length)], length, prot, iova)

    def map_file(
        self, process: UserProcess, file: object, offset: int, length: int, prot: Prot, iova: int | None
    ) -> int:
        """Map a stretch of a file. Raises KernelError."""
        _check_size(length)
        start = offset & -PAGE_SIZE
        pages = FilePages(
            source=process,
            count=_page_count(offset - start, length),
            writable=may_write(prot),
            accounting=self.context_accounting(process),
            file=file,
            file_offset=start,
        )
        return self.map_pieces([Piece(pages, offset - start, length)], length, prot, iova)

    def map_dma_buf(self, pages: DmaBufPages, start_byte: int, length: int, prot: Prot, iova: int | None) -> int:
        """Map a stretch of a dma-buf that is imported already. Raises KernelError."""
        return self.map_pieces([Piece(pages, start_byte, length)], length, prot, iova)

    def context_accounting(self, process: UserProcess) -> Accounting | None:
        """Say against which limit pages of the process count; None: no limit."""
        return None if process.account.ipc_lock else self.context.accounting

    def map_pieces(self, pieces: Sequence[Piece], length: int, prot: Prot, iova: int | None) -> int:
        """Map pieces one after the other. Raises KernelError, and then nothing has changed."""
        if not length or length & (self.space.alignment - 1):
            raise Invalid("mapping", "length", length, f"a multiple of {self.space.alignment:#x}, not 0")
        if iova is None:
            first = pieces[0]
            iova = self.space.place(first.pages.address(first.start_byte), length)
        else:
            self.space.check_fixed(iova, length)
        areas: list[Area] = []
        try:
            at = iova
            for piece in pieces:
                areas.append(self._insert(piece, at, prot))
                at += piece.length
            for area in areas:
                self._fill(area)
        except BaseException:
            for area in reversed(areas):
                self._remove(area)
            raise
        return iova

    def covered(self, iova: int, length: int) -> list[Piece]:
        """Give what maps a range that has no hole, for a copy. Raises Invalid, Overflow, NotThere."""
        last = checked_last(iova, length)
        pieces = []
        for area in self.space.areas.within(iova, last):
            if area.start > iova:
                break
            end = min(area.last, last)
            pieces.append(Piece(area.pages, area.byte_of(iova), end - iova + 1))
            iova = end + 1
        if iova <= last:
            raise NotThere(self.title, "IOVA", iova, "mapped")
        return pieces

    def _insert(self, piece: Piece, iova: int, prot: Prot) -> Area:
        if may_write(prot) and not piece.pages.writable:
            raise NotPermitted("mapping", "flags", int(prot), "readable only, as its pages were first mapped")
        if piece.start_byte % PAGE_SIZE & (self.space.alignment - 1):
            raise Invalid("mapping", "user_va", piece.start_byte % PAGE_SIZE, f"aligned to {self.space.alignment:#x}")
        allocation_point("area")
        area = Area(iova, iova + piece.length - 1, piece.pages, piece.start_byte, prot)
        piece.pages.users += 1
        if isinstance(piece.pages, DmaBufPages):
            piece.pages.unmappers.append(area.forget)
        self.space.add(area)
        return area

    def _fill(self, area: Area) -> None:
        for domain in self.domains:
            try:
                area.fill(domain, self.largest_entry)
            except ViommuError:
                raise
            except Exception as error:
                raise self._bug(domain, error) from error

    def _bug(self, domain: PagingDomain, error: Exception) -> DriverBug:
        """Blame the driver whose page table raised what it may not."""
        (name,) = {hwpt.iommu.driver.info.name for hwpt in self.hwpts if hwpt.domain is domain}
        return DriverBug(name, "PagingDomain", told(error))

    def _remove(self, area: Area) -> None:
        self.space.remove(area)
        area.unfill_all()
        pages = area.pages
        pages.users -= 1
        if isinstance(pages, DmaBufPages):
            pages.unmappers.remove(area.forget)
            if not pages.users:
                pages.detach()

    @property
    def largest_entry(self) -> int | None:
        """How large an entry of a page table may be; None: as the driver likes."""
        return None if self.huge_pages else PAGE_SIZE

    # --- unmapping

    def unmap(self, iova: int, length: int) -> int:
        """Unmap whole areas; how many bytes they were. Raises Invalid, Overflow, NotThere, Busy.

        Areas below the one at fault are gone then.
        """
        unmapped, error = self.unmap_range(iova, checked_last(iova, length))
        if error is not None:
            raise error
        if not unmapped:
            raise NotThere(self.title, "iova", iova, "mapped")
        return unmapped

    def unmap_all(self) -> int:
        """Unmap everything; nothing is fine. Raises Busy."""
        unmapped, error = self.unmap_range(0, U64_MAX)
        if error is not None:
            raise error
        return unmapped

    def unmap_range(self, start: int, last: int) -> tuple[int, KernelError | None]:
        """Unmap areas in order: the bytes that went, and what stopped it."""
        unmapped = tries = 0
        while start <= last and (area := self.space.areas.first(start, last)) is not None:
            if area.locks:
                return unmapped, Busy("mapping", "IOVA", area.start, "not the memory of a hardware queue")
            if area.start < start or area.last > last:
                return unmapped, NotThere("mapping", "IOVA", area.start, "wholly inside what is to be unmapped")
            if area.accesses:
                tries += 1
                if tries > UNMAP_TRIES:
                    return unmapped, WouldDeadlock("mapping", "IOVA", area.start, "let go by its accesses")
                self._ask_to_let_go(area)
                continue
            tries = 0
            self._remove(area)
            unmapped += area.length
            start = area.last + 1
        return unmapped, None

    def _ask_to_let_go(self, area: Area) -> None:
        area.leaving = True
        for access in tuple(self.accesses):
            access.notify_unmap(area.start, area.length)

    # --- page tables

    def add_domain(self, domain: PagingDomain) -> None:
        """Let a domain follow every mapping. Raises AddressInUse, Invalid, BadAddress, NoMemory: nothing changed."""
        alignment = max(domain.page_sizes & -domain.page_sizes, self.space.alignment)
        if alignment > PAGE_SIZE:
            bound = f"at most {PAGE_SIZE:#x}, the pages of the kernel that this is: let page_sizes have that one too"
            raise Invalid("domain", "smallest page size", alignment, bound)
        if alignment != self.space.alignment:
            self.space.check_alignment(alignment)
        try:
            self._reserve_around(domain)
            self._fill_domain(domain)
        except BaseException:
            self.space.unreserve(domain)
            raise
        self.domains.append(domain)
        self.space.alignment = alignment

    def remove_domain(self, domain: PagingDomain) -> None:
        """Let a domain go, empty."""
        self.domains.remove(domain)
        for area in self.space.areas:
            area.unfill(domain)
        self.space.unreserve(domain)
        self.space.alignment = self._needed_alignment()

    def _reserve_around(self, domain: PagingDomain) -> None:
        start, last = domain.aperture
        if start:
            self.space.reserve(0, start - 1, domain, beyond_aperture=True)
        if last != U64_MAX:
            self.space.reserve(last + 1, U64_MAX, domain, beyond_aperture=True)

    def _fill_domain(self, domain: PagingDomain) -> None:
        done: list[Area] = []
        try:
            for area in self.space.areas:
                area.fill(domain, self.largest_entry)
                done.append(area)
        except BaseException:
            for area in reversed(done):
                area.unfill(domain)
            raise

    # --- alignment, options

    def realign(self) -> None:
        """Compute the alignment anew. Raises AddressInUse where it would rise above what areas have."""
        needed = self._needed_alignment()
        if needed > self.space.alignment:
            self.space.check_alignment(needed)
        self.space.alignment = needed

    def _needed_alignment(self) -> int:
        sizes = [domain.page_sizes & -domain.page_sizes for domain in self.domains]
        return max([1 if self.huge_pages else PAGE_SIZE, *sizes, *(access.alignment for access in self.accesses)])

    def set_huge_pages(self, enable: bool) -> None:
        """Allow or forbid large entries. Raises Invalid where something is mapped in a domain, AddressInUse."""
        if enable == self.huge_pages:
            return
        if not enable and self.domains and len(self.space.areas):
            raise Invalid(self.title, "HUGE_PAGES", 0, "changed before anything is mapped in a domain")
        self.huge_pages = enable
        try:
            self.realign()
        except AddressInUse:
            self.huge_pages = not enable
            raise

    # --- accesses

    def add_access(self, access: Access) -> None:
        """Let an access work on this IOAS. Raises AddressInUse."""
        allocation_point("access of an IOAS")
        self.accesses.append(access)
        try:
            self.realign()
        except AddressInUse:
            self.accesses.remove(access)
            raise
        self.hold()

    def remove_access(self, access: Access) -> None:
        """Let an access go, which holds nothing any more."""
        self.accesses.remove(access)
        self.space.alignment = self._needed_alignment()
        self.drop()

    # --- VFIO's partial unmap

    def split(self, iova: int) -> None:
        """Cut the area that holds ``iova`` in two there, if one lies across it. Raises Busy, Invalid, Unsupported."""
        area = self.space.areas.first(iova, iova)
        if area is None or area.start == iova:
            return
        self._check_split(area, iova)
        below = Area(area.start, iova - 1, area.pages, area.start_byte, area.prot)
        above = Area(iova, area.last, area.pages, area.byte_of(iova), area.prot)
        filled = tuple(area.filled)
        self.space.remove(area)
        for part in (below, above):
            part.filled.extend(filled)
            if filled:
                part.pages.hold(part.first_page, part.last_page)
            self.space.add(part)
        if filled:
            area.pages.let_go(area.first_page, area.last_page)
        area.pages.users += 1

    def _check_split(self, area: Area, iova: int) -> None:
        if isinstance(area.pages, DmaBufPages):
            raise Unsupported("mapping", "IOVA", area.start, "memory that can be split, not a dma-buf")
        if area.accesses or area.locks:
            raise Invalid("mapping", "IOVA", area.start, "not in use by an access")
        if self.huge_pages and self.domains:
            raise Invalid(self.title, "HUGE_PAGES", 1, "off, before a mapping in a domain can be split")
        if iova & (self.space.alignment - 1) or area.byte_of(iova) % PAGE_SIZE & (self.space.alignment - 1):
            raise Invalid("mapping", "IOVA", iova, f"split at a multiple of {self.space.alignment:#x}")

    # --- change of process

    def check_movable(self) -> None:
        """Refuse to move mappings that are not of files. Raises Invalid."""
        for area in self.space.areas:
            if not area.pages.is_file:
                raise Invalid("mapping", "IOVA", area.start, "of a file, to move to another process")


def checked_last(iova: int, length: int) -> int:
    """Give the last address of a range. Raises Invalid (empty), Overflow."""
    if not length:
        raise Invalid("range", "length", 0, "not empty")
    if iova + length - 1 > U64_MAX:
        raise Overflow("range", "iova", iova, "a range that ends below 2^64")
    return iova + length - 1


def _check_size(length: int) -> None:
    if not 0 < length <= U64_MAX - PAGE_SIZE:
        raise Invalid("mapping", "length", length, f"1 to {U64_MAX - PAGE_SIZE:#x}")


def _page_count(offset: int, length: int) -> int:
    return -(-(offset + length) // PAGE_SIZE)
