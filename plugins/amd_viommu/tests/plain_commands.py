"""What commands do, read off bits by plain arithmetic (AMD 48882, 2.4): nothing here knows a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu._engine import Translator

LAST = (1 << 64) - 1
WAIT, ENTRY, PAGES, INTERRUPTS, PREFETCH, ALL = 1, 2, 3, 5, 6, 8
NAMES = {
    WAIT: "COMPLETION_WAIT",
    ENTRY: "INVALIDATE_DEVTAB_ENTRY",
    PAGES: "INVALIDATE_IOMMU_PAGES",
    INTERRUPTS: "INVALIDATE_INTERRUPT_TABLE",
    PREFETCH: "PREFETCH_IOMMU_PAGES",
    ALL: "INVALIDATE_IOMMU_ALL",
}
USED = {
    WAIT: 0xFFFF_FFFF_FFFF_FFFF << 64 | 0xF00F_FFFF_FFFF_FFFF,
    ENTRY: 0xF000_0000_0000_FFFF,
    PAGES: 0xFFFF_FFFF_FFFF_F007 << 64 | 0xF000_FFFF_000F_FFFF,
    INTERRUPTS: 0xF000_0000_0000_FFFF,
    PREFETCH: 0xFFFF_FFFF_FFFF_F015 << 64 | 0xF00F_FFFF_FF00_FFFF,
    ALL: 0xF << 60,
}
"""The bits that mean something; others are reserved."""


def execute(
    raw: bytes,
    caches: Translator,
    store: Callable[[int, bytes], bool],
    domain_of: Mapping[int, int],
    roots: dict[int, int],
) -> str | None:
    """Do one of the commands above and give its name; None where it is illegal, or its store fails.

    ``domain_of``: of devices, as their entries say. ``roots``: DomainID by device, of guest tables that are cached.
    """
    low, high = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
    opcode = low >> 60
    if opcode not in USED or (low | high << 64) & ~USED[opcode]:
        return None
    sized, address = high & 1, high >> 12 << 12
    if opcode in {PAGES, PREFETCH} and sized and address == 0xFFFF_FFFF_FFFF_F000:
        return None
    if opcode == WAIT and low & 1 and not store(low & 0x000F_FFFF_FFFF_FFF8, raw[8:]):
        return None
    if opcode == ENTRY:
        caches.invalidate_contexts(low & 0xFFFF)
        roots.pop(low & 0xFFFF, None)
    elif opcode == ALL:
        caches.invalidate_contexts()
        caches.invalidate_all()
        roots.clear()
    elif opcode == PAGES:
        _pages(low, high, caches, roots)
    elif opcode == PREFETCH and high >> 4 & 1 and low & 0xFFFF in domain_of:
        _forget_ahead(low, high, caches, domain_of[low & 0xFFFF])
    return NAMES[opcode]


def span(sized: int, address: int) -> tuple[int, int]:
    """The range: 4 KiB, or twice the lowest zero bit, looked for bit by bit."""
    if not sized:
        return address, address + 0xFFF
    bit = 12
    while address >> bit & 1:
        bit += 1
    size = 2 << bit
    start = address // size * size
    return start, start + size - 1


def _pages(low: int, high: int, caches: Translator, roots: dict[int, int]) -> None:
    start, last = span(high & 1, high >> 12 << 12)
    domain, pasid, directories, guest = low >> 32 & 0xFFFF, low & 0xF_FFFF, high >> 1 & 1, high >> 2 & 1
    if guest:
        caches.invalidate_range(domain, pasid, start, last, leaf_only=not directories)
    else:
        _host(caches, domain, start, last, leaf_only=not directories)
    if directories:
        for device in [device for device, own in roots.items() if own == domain]:
            caches.invalidate_contexts(device, pasid if guest and pasid else None)


def _forget_ahead(low: int, high: int, caches: Translator, domain: int) -> None:
    start, last = span(high & 1, high >> 12 << 12)
    count = max(1, low >> 24 & 0xFF)
    end = min(LAST, start + count * (last - start + 1) - 1)
    if high >> 2 & 1:
        caches.invalidate_range(domain, low >> 32 & 0xF_FFFF, start, end, leaf_only=True)
    else:
        _host(caches, domain, start, end, leaf_only=True)


def _host(caches: Translator, domain: int, start: int, last: int, *, leaf_only: bool) -> None:
    if start == 0 and last == LAST:
        caches.invalidate_stage2_tag(domain)
    else:
        caches.invalidate_stage2_range(domain, start, last, leaf_only=leaf_only)
        caches.invalidate_stage2_tag(domain, stage1_only=True)
