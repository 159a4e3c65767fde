"""Value sets that several structures share."""

from __future__ import annotations

from enum import IntEnum


class AddressSize(IntEnum):
    """How many bits an address has: IDR5.OAS, STE.S2PS, CD.IPS (IHI 0070, 6.3.6)."""

    BITS_32 = 0
    BITS_36 = 1
    BITS_40 = 2
    BITS_42 = 3
    BITS_44 = 4
    BITS_48 = 5
    BITS_52 = 6
    BITS_56 = 7


class Granule(IntEnum):
    """STE.S2TG and CD.TG0. 3 is reserved."""

    KB_4 = 0
    KB_64 = 1
    KB_16 = 2


class Granule1(IntEnum):
    """CD.TG1, whose code is another than TG0's. 0 is reserved."""

    KB_16 = 1
    KB_4 = 2
    KB_64 = 3


class Shareability(IntEnum):
    """Of table walks and structure fetches. 1 is reserved."""

    NON = 0
    OUTER = 2
    INNER = 3


class FetchCacheability(IntEnum):
    """STE.S1CIR and S1COR: how CDs are read."""

    NON_CACHEABLE = 0
    WRITE_BACK = 1
    WRITE_THROUGH = 2
    WRITE_BACK_NO_READ_ALLOCATE = 3


class WalkCacheability(IntEnum):
    """How page tables are read: a code of its own, neither CR1's nor that of CD fetches."""

    NON_CACHEABLE = 0
    WRITE_BACK = 1
    WRITE_THROUGH = 2
    WRITE_BACK_NO_WRITE_ALLOCATE = 3
