"""Operations that look at what no program could see: page tables, pins, caches; and that mark pages dirty."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from viommu.kernel_errors import BadAddress, Invalid, IoError, Overflow
from viommu.objects.device import find_device
from viommu.objects.hwpt import NestedHwpt, PagingHwpt
from viommu.selftest.device_ops import Selftest
from viommu.selftest.mock import CACHE_ENTRIES, MockDevice, MockNested
from viommu.selftest.page_table import MockPageTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from viommu.iommufd.user_memory import PageRun, UserProcess
    from viommu.objects.device import Device
    from viommu.objects.hwpt import Hwpt
    from viommu.selftest import operands
    from viommu.selftest.operation import Operation

PAGE_SIZE = 4096
MEMORY_LIMIT_FIRST = 12
BITS_LAST = (16 << 20) * 8
U64_MAX = (1 << 64) - 1
NOT_ZERO = re.compile(rb"[^\0]")


def check_map(op: Operation[operands.CheckMap]) -> None:
    """MD_CHECK_MAP: the domain translates to exactly the pages that the caller has at an address."""
    domain = _table(op)
    iova, length, address = op.body.iova, op.body.length, op.body.uptr
    granule = domain.page_sizes & -domain.page_sizes
    if (iova | length | address) % granule or address + length > U64_MAX:
        raise Invalid("MD_CHECK_MAP", "iova, length, uptr", iova | length | address, f"multiples of {granule:#x}")
    for done in range(0, length, granule):
        at = address + done
        wanted = _frame(op.process, at) * PAGE_SIZE + at % PAGE_SIZE
        if domain.physical(iova + done) != wanted:
            raise Invalid("MD_CHECK_MAP", "IOVA", iova + done, f"mapped to {wanted:#x}")


def check_refs(op: Operation[operands.CheckRefs]) -> None:
    """MD_CHECK_REFS: each page is pinned so often."""
    length, address = op.body.length, op.body.uptr
    if (length | address) % PAGE_SIZE or address + length > U64_MAX:
        raise Invalid("MD_CHECK_REFS", "length, uptr", length | address, "whole pages")
    for at in range(address, address + length, PAGE_SIZE):  # a page that differs is told before one that is not there
        pins = _pins(op.process, at)
        if pins is not None and pins != op.body.refs:
            raise IoError("MD_CHECK_REFS", "pins", pins, f"{op.body.refs:#x}")


def set_memory_limit(op: Operation[operands.MemoryLimit]) -> None:
    """SET_TEMP_MEMORY_LIMIT: the kernel then works in smaller batches, which nobody sees."""
    if op.body.limit < MEMORY_LIMIT_FIRST:
        raise Invalid("SET_TEMP_MEMORY_LIMIT", "limit", op.body.limit, f"at least {MEMORY_LIMIT_FIRST}")


def set_dirty(op: Operation[operands.Dirty]) -> None:
    """DIRTY: mark entries, as DMA to the pages of a bitmap would."""
    body = op.body
    step = body.page_size
    if not step or not body.length or body.iova % step or body.length % step or not body.uptr:
        raise Invalid("DIRTY", "page_size", step, "a divisor of a range that is not empty, with a bitmap")
    if body.length // step > BITS_LAST:
        raise Overflow("DIRTY", "length", body.length, f"at most {BITS_LAST:#x} pages")
    domain = _table(op)
    if not domain.tracking:
        raise Invalid("DIRTY", "dirty tracking", bound="switched on")
    marked = 0
    for index in _set_bits(op.process, body.uptr, body.length // step):
        domain.set_dirty(body.iova + index * step)
        marked += 1
    body.out_nr_dirty = marked


def check_iotlb(op: Operation[operands.CheckEntry]) -> None:
    """MD_CHECK_IOTLB: an entry of a nested domain's IOTLB."""
    domain = op.table.find(op.id, NestedHwpt, "id").domain
    if isinstance(domain, MockNested):
        _check_entry(op, domain.iotlb)


def check_cache(op: Operation[operands.CheckEntry]) -> None:
    """DEV_CHECK_CACHE: an entry of a device's cache."""
    mock: MockDevice = find_device(op.context, op.id, "id").physical.data
    _check_entry(op, mock.cache)


def check_pasid(op: Operation[operands.Pasid]) -> None:
    """PASID_CHECK_HWPT: what a PASID is attached to; 0 for nothing."""
    device: Device | None = op.table.find(op.id, Selftest, "id").device
    attached = None if device is None else device.attached_to(op.body.pasid)
    wanted = _hwpt(op, op.body.pt_id) if op.body.pt_id else None
    if attached is not wanted:
        raise Invalid("PASID_CHECK_HWPT", "hwpt_id", op.body.pt_id, "what the PASID is attached to")


def _hwpt(op: Operation[operands.Pasid], number: int) -> Hwpt:
    found = op.table.any(number, "hwpt_id")
    if not isinstance(found, (PagingHwpt, NestedHwpt)):
        raise Invalid(found.title, "hwpt_id", number, "that of a HWPT")
    return found


def _table(op: Operation[operands.CheckMap] | Operation[operands.Dirty]) -> MockPageTable:
    hwpt = op.table.find(op.id, PagingHwpt, "id")
    if not isinstance(hwpt.domain, MockPageTable):
        raise Invalid(hwpt.title, "driver", bound="the mock")
    return hwpt.domain


def _check_entry(op: Operation[operands.CheckEntry], entries: list[int]) -> None:
    index, value = op.body.index, op.body.value
    if index >= CACHE_ENTRIES or entries[index] != value:
        raise Invalid("cache", "entry", index, f"{value:#x}")


def pinned(process: UserProcess, address: int, count: int) -> Sequence[PageRun]:
    """Pin pages of the caller for a look at them. Raises BadAddress."""
    runs = process.pin(address & -PAGE_SIZE, count, False)
    if runs is None and (address & -PAGE_SIZE) + count * PAGE_SIZE > U64_MAX:
        raise Overflow("user memory", "address", address, "pages that end below 2^64")
    if runs is None:
        raise BadAddress("user memory", "address", address, f"{count} readable pages")
    return runs


def frames(process: UserProcess, address: int, count: int) -> list[int]:
    """Give the physical page numbers behind pages of the caller. Raises BadAddress."""
    found: list[int] = []
    for run in pinned(process, address, count):
        found.extend(range(run.frame, run.frame + run.count))
        run.unpin(0, run.count)
    return found


def _frame(process: UserProcess, address: int) -> int:
    return frames(process, address, 1)[0]


def _pins(process: UserProcess, address: int) -> int | None:
    """Count a page's pins, ours aside; None for one of a huge page."""
    (run,) = pinned(process, address, 1)
    pins = run.pins(0)
    run.unpin(0, 1)
    return None if pins is None else pins - 1


def _set_bits(process: UserProcess, address: int, count: int) -> Iterator[int]:
    """Give the numbers of the bits that are set."""
    raw = process.read(address, -(-count // 8))
    if raw is None:
        raise BadAddress("DIRTY", "uptr", address, f"{count} readable bits")
    for found in NOT_ZERO.finditer(raw):
        for index in range(found.start() * 8, min(found.end() * 8, count)):
            if raw[index // 8] >> index % 8 & 1:
                yield index
