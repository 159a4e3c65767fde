"""What a program may have done unseen, by the call whose recorded answer is not ours.

Recordings without memory records leave facts of the program's side untold: a page that it may not write, a pipe
behind an fd, a duplicate of one that it closed. A proposal is one such fact that would explain the recorded answer;
the replay makes its calls again with it, and keeps it if the call agrees then and no other ceases to.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from viommu.addresses import PAGE_SIZE
from viommu.oracle import facts
from viommu.oracle.blobs import word
from viommu.oracle.circumstances import ORDINARY, Assumption, Circumstances
from viommu.oracle.mappings import behind, mapped_before
from viommu.oracle.processes import HUGE_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from viommu.oracle.comparison import Difference
    from viommu.oracle.recording import Record

SHOWN_STRUCT = 512
"""As much of a struct as recordings show (bytes)."""

TRIED = 6
"""Mappings, files or closed fds that one kind of proposal goes through, the latest first."""

FEW = 64
"""Records that a duplicate of a closed fd may outlive it."""


def proposals(records: Sequence[Record], index: int, difference: Difference) -> Iterator[Assumption]:
    """Give facts that may explain the recorded answer to the call at ``index``, the likeliest first."""
    record = records[index]
    if difference.what not in ("answer", "reply"):
        return
    recorded, ours = difference.recorded, difference.ours
    if Circumstances.named(record) != ORDINARY:
        yield Assumption(index, index, "its memory is not what the name tells", ORDINARY)
    if record.call == "read" and recorded == "EFAULT":
        yield Assumption(index, index, "a read's buffer leads nowhere", Circumstances(bad_buffer=True))
    if record.call != "ioctl" or not record.has("in"):
        return
    struct = record.blob("in")
    if ours == "E2BIG" and len(struct) >= SHOWN_STRUCT:
        yield Assumption(index, index, "zeros follow the struct", Circumstances(zero_tail=True))
    name = record.text("name", "")
    about = _ABOUT.get(record.text("op", "") if name == "IOMMU_TEST_CMD" else name)
    if about is not None:
        yield from about(records, index, struct, recorded)
    if recorded == "EFAULT":
        yield Assumption(index, index, "a struct cannot be written", Circumstances(read_only_struct=True))
    if recorded == "EBADF":
        yield facts.not_open(index, record.number("fd"))


def _mapping(records: Sequence[Record], index: int, struct: bytes, recorded: str) -> Iterator[Assumption]:
    """IOAS_MAP, whose memory may not be written, not be there, or be there again."""
    vfio = records[index].text("name", "").startswith("VFIO_")
    address, length = word(struct, 8 if vfio else 16), word(struct, 24)
    if recorded == "EFAULT":
        yield from facts.without_pages(index, address, length)
    if recorded == "0":
        yield facts.with_pages(index, address, length)


def _file(_: Sequence[Record], index: int, struct: bytes, recorded: str) -> Iterator[Assumption]:
    """MAP_FILE of what is no memory, is closed, or is of another length than was taken."""
    fd = word(struct, 12, 4)
    if recorded == "EINVAL":
        yield facts.is_no_memory(index, index, fd)
    if recorded == "EBADF":
        yield facts.not_open(index, fd)
    if recorded in ("0", "EINVAL"):
        size = word(struct, 16) + (word(struct, 24) if recorded == "0" else 0)
        yield facts.file_length(index, fd, size & -PAGE_SIZE if recorded == "EINVAL" else size)


def _by_iova(iova: int, length: int) -> Callable[[Sequence[Record], int, bytes, str], Iterator[Assumption]]:
    """A call that reaches memory through IOVAs: their fields in the struct."""

    def about(records: Sequence[Record], index: int, struct: bytes, recorded: str) -> Iterator[Assumption]:
        start, size = word(struct, iova), word(struct, length)
        found = list(islice(behind(records, index, start, size), TRIED))
        if recorded == "EFAULT":
            for one in found:
                if one.fd is None:
                    yield from facts.without_pages(index, one.source_of(max(start, one.iova)), min(size, one.length))
        elif recorded == "0" and found and found[0].fd is None:
            yield facts.neighbours(records, index, found[0])

    return about


def _checked(
    iova: int, length: int, address: int
) -> Callable[[Sequence[Record], int, bytes, str], Iterator[Assumption]]:
    """A call that compares the pages behind IOVAs with user memory."""

    def about(records: Sequence[Record], index: int, struct: bytes, recorded: str) -> Iterator[Assumption]:
        start, size, user = word(struct, iova), word(struct, length), word(struct, address)
        for one in islice(behind(records, index, start, size), TRIED):
            if recorded == "0":
                yield facts.same_pages(records, index, user, size, one, start)
        if recorded in ("EBADE", "EINVAL") and user:
            yield facts.new_pages(index, user, size)
        yield from _by_iova(iova, length)(records, index, struct, recorded)
        if recorded == "EFAULT":
            yield from facts.without_pages(index, user, size)

    return about


def _revoking(_: Sequence[Record], index: int, struct: bytes, recorded: str) -> Iterator[Assumption]:
    """DMABUF_REVOKE of an fd that is open, but no dma-buf."""
    if recorded == "EINVAL":
        yield facts.is_no_memory(index, index, word(struct, 16, 4))


def _counting(records: Sequence[Record], index: int, struct: bytes, recorded: str) -> Iterator[Assumption]:
    """MD_CHECK_REFS: pages that are not there, are part of a huge page, or are not though they lie as such do."""
    length, user = word(struct, 16), word(struct, 24)
    if recorded == "EFAULT":
        last = user + length - PAGE_SIZE
        for address in (user, last):
            yield from facts.without_pages(index, address, PAGE_SIZE)
    if recorded == "EIO":
        yield facts.ordinary_pages(records, index, user & -HUGE_PAGE)
    if recorded == "0":
        yield facts.huge_page(records, index, user & -HUGE_PAGE)


def _attaching(records: Sequence[Record], index: int, _: bytes, recorded: str) -> Iterator[Assumption]:
    """A device attached to an IOAS: all that is mapped there gets pinned."""
    for one in islice(mapped_before(records, index), TRIED):
        if one.fd is not None and recorded == "EINVAL":
            yield facts.is_no_memory(one.at, index, one.fd)
        elif one.fd is None and recorded == "EFAULT":
            yield from facts.without_pages(index, one.source, one.length)


def _destroying(records: Sequence[Record], index: int, _: bytes, recorded: str) -> Iterator[Assumption]:
    """DESTROY of what has, or no longer has, an fd or a mapping, or was made through an fd that is not recorded."""
    if recorded == "0":
        yield Assumption(
            index, index, "the registers were unmapped", change=lambda p: p.unmap_registers(len(p.registers))
        )
        yield Assumption(index, index, "duplicates of closed fds were closed", change=lambda p: p.close_kept())
        yield facts.allocated(index, records[index].number("fd"))
    if recorded == "EBUSY":
        closed = (at for at in range(index - 1, max(-1, index - FEW), -1) if records[at].call == "close")
        yield from (facts.kept(at, index, records[at].number("fd")) for at in islice(closed, TRIED))


_ABOUT: Mapping[str, Callable[[Sequence[Record], int, bytes, str], Iterator[Assumption]]] = {
    "IOMMU_IOAS_MAP": _mapping,
    "VFIO_IOMMU_MAP_DMA": _mapping,
    "IOMMU_IOAS_MAP_FILE": _file,
    "IOMMU_IOAS_COPY": _by_iova(32, 16),
    "IOMMU_HW_QUEUE_ALLOC": _by_iova(24, 32),
    "IOMMU_HWPT_ALLOC": _attaching,
    "IOMMU_DESTROY": _destroying,
    "ACCESS_RW": _by_iova(16, 24),
    "ACCESS_PAGES": _checked(24, 32, 40),
    "DMABUF_REVOKE": _revoking,
    "MD_CHECK_REFS": _counting,
    "MD_CHECK_MAP": _checked(16, 24, 32),
    "MOCK_DOMAIN": _attaching,
    "MOCK_DOMAIN_FLAGS": _attaching,
    "MOCK_DOMAIN_REPLACE": _attaching,
}
