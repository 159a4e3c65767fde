"""Page-table entries in words: host (v1) tables, and guest (v2) tables by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.formats import entry_layout
from viommu.hookspecs import Decoded
from viommu_amd_viommu.explain.wording import reserved, rights

if TYPE_CHECKING:
    from viommu.layout import Descriptor

PAGE_BITS = 12
INDEX_BITS = 9
SIZE_IN_ADDRESS = 7
GUEST_LEVELS = 5
_ADDRESS = 0x000F_FFFF_FFFF_F000


def host_entry(kind: str, raw: bytes) -> Decoded:
    """Explain an entry of a host table, of whatever level: NextLevel says what it is."""
    value = int.from_bytes(raw, "little")
    entry = _decoded("AmdV1", 1, value)
    complaints = reserved(entry) if value & 1 else ()
    return Decoded(kind, type(entry).__name__, entry, _host(value), complaints)


def _host(value: int) -> str:
    if not value & 1:
        return "Not present."
    level, granted = value >> 9 & 7, rights(read=value >> 61 & 1, write=value >> 62 & 1)
    if level == 0:
        return f"A page of its level's own size at {value & _ADDRESS:#x}, granting {granted}."
    if level == SIZE_IN_ADDRESS:
        page, size = _sized(value & _ADDRESS)
        return f"A page of {size:#x} bytes at {page:#x}, granting {granted}."
    return f"Leads to the level {level} table at {value & _ADDRESS:#x}, granting {granted} there."


def _sized(address: int) -> tuple[int, int]:
    """The size is twice that of the lowest zero bit of the address, counted from bit 12."""
    page = address >> PAGE_BITS
    size = (page & ~(page + 1)) + 1 << PAGE_BITS + 1
    return address & -size, size


def guest_entry(kind: str, raw: bytes) -> Decoded:
    """Explain an entry of a guest table; the kind ends with its level."""
    level, value = int(kind[-1]), int.from_bytes(raw, "little")
    entry = _decoded("X86", level - 1, value)
    complaints = reserved(entry) if value & 1 else ()
    if value & 1 and level > 3 and value >> 7 & 1:
        complaints = ("bit 7 is reserved at this level", *complaints)
    return Decoded(kind, type(entry).__name__, entry, _guest(value, level), complaints)


def _guest(value: int, level: int) -> str:
    if not value & 1:
        return "Not present."
    whose = "anybody" if value >> 2 & 1 else "the supervisor"
    granted = f"{whose} {rights(read=1, write=value >> 1 & 1)}"
    if level == 1 or (level <= 3 and value >> 7 & 1):
        size = 1 << PAGE_BITS + INDEX_BITS * (level - 1)
        return f"A page of {size:#x} bytes at {value & _ADDRESS & -size:#x}, granting {granted}."
    return f"Leads to the level {level - 1} table at {value & _ADDRESS:#x}, granting {granted} there."


def _decoded(format_name: str, level: int, value: int) -> Descriptor:
    layout = entry_layout(format_name, "fault", level, value)
    assert layout is not None, format_name  # noqa: S101 - both formats have layouts
    return layout.decode(value)
