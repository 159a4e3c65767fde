"""Data of commands: where physical region pages (PRPs) say that it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.modelspecs import Bus

PAGE = 4096
ENTRY = 8


def pieces(bus: Bus, prp1: int, prp2: int, length: int) -> list[tuple[int, int]] | None:
    """Give (address, bytes) of each piece, in order; None where a list cannot be read or an entry is not aligned."""
    first = min(length, PAGE - prp1 % PAGE)
    found = [(prp1, first)]
    left = length - first
    if not left:
        return found
    if left <= PAGE:
        return None if prp2 % PAGE else [*found, (prp2, left)]
    for entry in _entries(bus, prp2, -(-left // PAGE)):
        if entry is None or entry % PAGE:
            return None
        found.append((entry, min(left, PAGE)))
        left -= min(left, PAGE)
    return found


def _entries(bus: Bus, at: int, count: int) -> Iterator[int | None]:
    """Give the entries of a list, whose last place in a page names the next page where more follow."""
    while count:
        room = (PAGE - at % PAGE) // ENTRY
        take = count if count <= room else room - 1
        raw = bus.read(at, (take + (count > room)) * ENTRY)
        if raw is None or at % ENTRY:
            yield None
            return
        words = [int.from_bytes(raw[place : place + ENTRY], "little") for place in range(0, len(raw), ENTRY)]
        yield from words[:take]
        count -= take
        if count:
            at = words[take]


def fetch(bus: Bus, prp1: int, prp2: int, length: int) -> bytes | None:
    """Read a command's data; None where the IOMMU refuses or PRPs are wrong."""
    where = pieces(bus, prp1, prp2, length)
    parts = [bus.read(address, size) for address, size in where or ()]
    return None if where is None or None in parts else b"".join(part for part in parts if part is not None)


def deliver(bus: Bus, prp1: int, prp2: int, data: bytes) -> bool:
    """Write a command's data."""
    where = pieces(bus, prp1, prp2, len(data))
    if where is None:
        return False
    at = 0
    for address, size in where:
        if not bus.write(address, data[at : at + size]):
            return False
        at += size
    return True
