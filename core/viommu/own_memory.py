"""The memory of this process as a kernel sees it: what is mapped where, with which right, and which file it is."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from viommu import _engine

if TYPE_CHECKING:
    from collections.abc import Iterator

READABLE, WRITABLE, SHARED = 1, 2, 8


class Mapping(NamedTuple):
    """One mapping: addresses ``start`` to ``end``, and (``inode`` not 0) the stretch of a file that is there."""

    start: int
    end: int
    flags: int
    offset: int
    device: int
    inode: int


def mapping_at(address: int) -> Mapping | None:
    """Find what is mapped at an address. One question to the kernel from Linux 6.11 on, before that all of its list."""
    try:
        found = _engine.own_mapping(address)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return next((mapping for mapping in _listed() if mapping.start <= address < mapping.end), None)
    if found is None:
        return None
    start, end, flags, offset, device, inode = found
    return Mapping(start, end, flags, offset, os.makedev(device >> 32, device & 0xFFFF_FFFF), inode)


def mapping_with_right(start: int, end: int, *, write: bool) -> Mapping | None:
    """Find what is mapped at ``start``, if all of [start, end) is mapped readable, and writable if so wanted."""
    wanted = READABLE | WRITABLE if write else READABLE
    first = mapping = mapping_at(start)
    while mapping is not None and mapping.flags & wanted == wanted:
        if mapping.end >= end:
            return first
        mapping = mapping_at(mapping.end)
    return None


def _listed() -> Iterator[Mapping]:
    """Read the kernel's list."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - once for each look-up
        lines = maps.readlines()
    for line in lines:
        span, rights, offset, device, inode, *_ = line.split(maxsplit=5)
        start, _, end = span.partition("-")
        major, _, minor = device.partition(":")
        flags = (rights[0] == "r") * READABLE | (rights[1] == "w") * WRITABLE | (rights[3] == "s") * SHARED
        yield Mapping(
            int(start, 16), int(end, 16), flags, int(offset, 16), os.makedev(int(major, 16), int(minor, 16)), int(inode)
        )
