"""Sizes as people write them: ``1G``, ``64M``, ``0x1000``."""

from __future__ import annotations

import re

from viommu.errors import BadValue

UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
WRITTEN = re.compile(r"(0x[0-9a-f]+|[0-9]+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
LONGEST = 32


def size_of(written: str | int) -> int:
    """Give bytes; units are powers of 1024. Raises BadValue."""
    if isinstance(written, int):
        return written
    match = WRITTEN.fullmatch(written.strip()) if len(written) <= LONGEST else None
    if match is None:
        raise BadValue("size", written, "a number of bytes, with K, M, G or T after it or without")
    return int(match[1], 0) << UNITS[match[2].upper()]
