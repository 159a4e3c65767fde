"""IO page tables as a host driver fills them: in machine memory, entries whole before hardware can see them.

`IoPageTable` has what `viommu.ops.PagingDomain` asks of a page table. It knows no caches: who unmaps must have hardware
forget before the memory behind is used for something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu import _engine
from viommu.addresses import Iova, Pa
from viommu.failure import allocation_point
from viommu.kernel_errors import OutOfRangeSize

if TYPE_CHECKING:
    from viommu.ops import Prot
    from viommu.table_frames import TableFrames

__all__ = [
    "Gone",
    "IoPageTable",
    "Leaf",
    "TableShape",
]


@frozen
class TableShape:
    """How the entries of a page table look. An absent entry is all zeros. Level 0 holds the smallest leaf.

    ``table_flags`` and ``leaf_flags`` have a value for each level, ascending: of an entry that leads to the table of
    the level below, and of a leaf (None: that level may hold no leaves). ``rights`` are added to a leaf: for no right,
    READ, WRITE, and both. ``top_index_lg2`` is log2 of the top table's entries; None: as many as others have.

    An address is stored as ``(pa & address_mask) >> address_shift | (pa & high_mask) >> high_shift``.
    """

    levels: int
    table_flags: tuple[int, ...]
    leaf_flags: tuple[int | None, ...]
    rights: tuple[int, int, int, int]
    address_mask: int = field(repr=hex)
    granule_lg2: int = 12
    top_index_lg2: int | None = None
    address_shift: int = 0
    high_mask: int = field(default=0, repr=hex)
    high_shift: int = 0

    def span_lg2(self, level: int) -> int:
        """Say what one entry of a level covers: log2 of bytes."""
        return self.granule_lg2 + (self.granule_lg2 - 3) * level

    @property
    def input_bits(self) -> int:
        """How many bits of an IOVA the table translates."""
        return self.engine().input_bits

    @property
    def output_bits(self) -> int:
        """How many bits of a physical address an entry holds."""
        return (self.address_mask | self.high_mask).bit_length()

    @property
    def page_sizes(self) -> int:
        """The sizes of leaves, as a bitmap (`viommu.ops.PagingDomain.page_sizes`)."""
        sizes = (1 << self.span_lg2(level) for level, flags in enumerate(self.leaf_flags) if flags is not None)
        return sum(sizes)

    @property
    def root_bytes(self) -> int:
        """How long the top table is; it is aligned to that, and to a page at least."""
        return 8 << (self._top_index_lg2)

    @property
    def _top_index_lg2(self) -> int:
        return self.granule_lg2 - 3 if self.top_index_lg2 is None else self.top_index_lg2

    def engine(self) -> _engine.TableShape:
        """Give the engine's form. Raises ValueError where the shape is none."""
        return _engine.TableShape(
            levels=self.levels,
            granule_lg2=self.granule_lg2,
            top_index_lg2=self._top_index_lg2,
            leaf_levels=sum(1 << level for level, flags in enumerate(self.leaf_flags) if flags is not None),
            table_flags=self.table_flags,
            leaf_flags=[flags or 0 for flags in self.leaf_flags],
            rights=self.rights,
            address_mask=self.address_mask,
            address_shift=self.address_shift,
            high_mask=self.high_mask,
            high_shift=self.high_shift,
        )


@frozen(eq=False)
class Gone:
    """What an unmap took away: ``length`` bytes of IOVAs from ``iova`` on, of which ``unmapped`` had been mapped.

    Caches must be told, then `free` called. ``tables``: entries above leaves went too, so that caches of partial walks
    must be told as well. ``page_lg2``: log2 of the smallest leaf that went, None where there was none.
    """

    iova: Iova
    length: int
    unmapped: int
    tables: int
    page_lg2: int | None
    _table: _engine.TableWriter = field(repr=False)
    _gone: _engine.Unmapped = field(repr=False)

    @property
    def last(self) -> Iova:
        """The last IOVA."""
        return Iova(self.iova + self.length - 1)

    def free(self) -> None:
        """Give the tables to others: hardware looks at them no more. A second time does nothing."""
        self._table.reclaim(self._gone)


@frozen
class Leaf:
    """Where one IOVA goes: the physical address, the size of its leaf as log2, and the entry as it is now."""

    pa: Pa = field(repr=hex)
    page_lg2: int
    entry: int = field(repr=hex)


@define(eq=False)
class IoPageTable:
    """One page table, in the memory of ``frames``. Entries are stored as 64-bit words, parents after children."""

    frames: TableFrames
    shape: TableShape
    _writer: _engine.TableWriter = field(init=False, repr=False)
    _granule_lg2: int = field(init=False, repr=False)
    _end: int = field(init=False, repr=False)
    """One more than the last physical address that an entry can hold."""

    def __attrs_post_init__(self) -> None:
        """Make the empty root. Raises NoMemory, ValueError."""
        allocation_point("page table root")
        self._granule_lg2, self._end = self.shape.granule_lg2, 1 << self.shape.output_bits
        shape = self.shape.engine()
        self._writer = self._made(shape, max(self.shape.root_bytes.bit_length() - 1, 12))

    def _made(self, shape: _engine.TableShape, lg2: int) -> _engine.TableWriter:
        while True:
            self.frames.ensure(lg2, 1)
            try:
                return _engine.TableWriter(self.frames.pool, shape)
            except ValueError:  # another thread has taken the frame meanwhile
                continue

    @property
    def root(self) -> Pa:
        """The physical address of the top table."""
        return Pa(self._writer.root)

    @property
    def tables(self) -> int:
        """How many tables there are, the root among them."""
        return self._writer.tables

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None = None, extra: int = 0) -> None:
        """Map a contiguous range, with leaves as large as alignment and ``largest`` (bytes) allow.

        ``extra``: flags of all its leaves, beyond those of the shape. Raises, and then nothing is mapped: NoMemory;
        OutOfRangeSize, where an entry cannot hold the physical address (the kernel's generic page table answers
        ERANGE); ValueError: not made of pages, beyond what the table can hold, or mapped already.
        """
        if pa + length > self._end:
            raise OutOfRangeSize("page table", "physical address", pa, f"of {self.shape.output_bits} bits")
        allocation_point("page tables")
        while lacking := self._writer.map(iova, pa, length, prot, largest, extra):
            self.frames.ensure(self._granule_lg2, lacking)

    def unmap(self, iova: int, length: int) -> Gone:
        """Unmap a range; holes are passed over. Caches and the tables that are empty now are for the caller.

        Raises ValueError, and then nothing is unmapped, where an end of the range cuts a leaf.
        """
        gone = self._writer.unmap(iova, length)
        page_lg2 = gone.smallest_lg2 if gone.bytes else None
        return Gone(Iova(iova), length, gone.bytes, gone.tables, page_lg2, self._writer, gone)

    def leaf(self, iova: int) -> Leaf | None:
        """Find what maps an IOVA."""
        found = self._writer.leaf(iova)
        return None if found is None else Leaf(Pa(found[0]), found[1], found[2])

    def physical(self, iova: int) -> Pa | None:
        """Translate one IOVA; None where nothing is mapped."""
        found = self._writer.leaf(iova)
        return None if found is None else Pa(found[0])

    def free(self) -> None:
        """Give every frame back: hardware looks at the table no more. It maps nothing and takes nothing from now on."""
        self._writer.free()
