"""Address types, so that an IPA where a PA belongs fails to type-check, and the few sums done on them."""

from __future__ import annotations

from typing import NewType

__all__ = [
    "PAGE_SIZE",
    "PASID_BITS",
    "Iova",
    "Ipa",
    "Pa",
    "Pasid",
    "RequesterId",
    "Tag",
    "align_down",
]

Iova = NewType("Iova", int)
"""Stage 1's input: what a device puts on the bus (bytes)."""

Ipa = NewType("Ipa", int)
"""Stage 1's output and stage 2's input (bytes)."""

Pa = NewType("Pa", int)
"""The final output: a physical address of the machine (bytes)."""

RequesterId = NewType("RequesterId", int)
"""Which device: StreamID, DeviceID or source-id, as the vendor calls it."""

Pasid = NewType("Pasid", int)
"""Which address space of one device; 20 bits."""

Tag = NewType("Tag", int)
"""A cache tag: ASID or PASID for stage 1; VMID, DomainID or DID for stage 2."""

PAGE_SIZE = 4096
"""Bytes of a page of memory as the kernel counts it; page tables may have larger ones."""

PASID_BITS = 20
"""How wide a PASID is (PCIe)."""


def align_down(value: int, multiple: int) -> int:
    """The largest multiple of ``multiple`` (a power of two) that is not above ``value``."""
    return value & ~(multiple - 1)
