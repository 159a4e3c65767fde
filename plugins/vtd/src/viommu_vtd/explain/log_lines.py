"""Lines that Linux's VT-d driver writes into the kernel log (its messages begin with ``DMAR``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from viommu_vtd.spec.faults import FRCD
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.queue_registers import IQERCD

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.layout import FieldSpec

    Found = tuple[str, bytes] | None

OURS = re.compile(r"\bDMAR(?:-IR)?\b")
HEX = r"(?:0x)?([0-9a-f]{1,16})"
DEVICE = r"Request device \[{1,2}([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])\]"
REASON = r"\[fault reason (0x)?([0-9a-f]{1,3})\]"
DMA = re.compile(
    rf"\[DMA (Read|Write)(?: (NO_PASID)| PASID {HEX})?\] {DEVICE}(?: PASID {HEX})? fault addr:? {HEX} {REASON}",
    re.IGNORECASE,
)
INTERRUPT = re.compile(rf"\[?INTR-REMAP[\]:] {DEVICE} fault index {HEX} {REASON}", re.IGNORECASE)
STATUS = re.compile(rf"\bDRHD: handling fault status reg {HEX}", re.IGNORECASE)
QUEUE_ERROR = re.compile(rf"\bInvalidation Queue Error: Reason {HEX}", re.IGNORECASE)
TIME_OUT = re.compile(rf"\bInvalidation Time-out Error: SID {HEX}", re.IGNORECASE)
COMPLETION_ERROR = re.compile(rf"\bInvalidation Completion Error: SID {HEX}", re.IGNORECASE)
DESCRIPTOR = re.compile(
    rf"(?:\bQI (?:HEAD|PRIOR): .{{1,60}}|\binvalid descriptor: )qw0 = {HEX}, qw1 = {HEX}", re.IGNORECASE
)
ROOT = re.compile(rf"(?<!scalable mode )\broot entry: {HEX}\s*$", re.IGNORECASE | re.MULTILINE)
SCALABLE_ROOT = re.compile(rf"\bscalable mode root entry: hi {HEX}, low {HEX}", re.IGNORECASE)
CONTEXT = re.compile(rf"\bcontext entry: hi {HEX}, low {HEX}", re.IGNORECASE)
PASID_DIRECTORY = re.compile(rf"\bpasid dir entry: {HEX}", re.IGNORECASE)
PASID_ENTRY = re.compile(rf"\bpasid table entry\[([0-7])\]: {HEX}", re.IGNORECASE)

NO_PASID = 0xFFFF_FFFF
"""What older kernels write where there was none."""

INDEX_SHIFT = 48


def recognise(line: str) -> Found:
    """Give kind and bytes of what a line tells (or of several lines that tell it together), if it is our kernel's."""
    if not OURS.search(line):
        return None
    for pattern, read in _READERS:
        found = pattern.search(line)
        if found is not None:
            return read(found)
    return _pasid_entry(line)


def _dma(found: re.Match[str]) -> Found:
    direction, without, pasid, bus, slot, function, older_pasid, address, prefix, reason = found.groups()
    number = None if without else _number(pasid or older_pasid)
    known = number is not None and number != NO_PASID
    return _record(
        _source(bus, slot, function),
        _reason(prefix, reason),
        FI=_number(address),
        T=int(direction.lower() == "read"),
        PP=int(known),
        PASID=number if known else 0,
    )


def _interrupt(found: re.Match[str]) -> Found:
    bus, slot, function, index, prefix, reason = found.groups()
    return _record(_source(bus, slot, function), _reason(prefix, reason), FI=(_number(index) or 0) << INDEX_SHIFT)


def _record(source: int, reason: int, **fields: int | None) -> Found:
    """A fault record with what the line tells, if all of it fits."""
    values = {"SID": source, "FR": reason, "F": 1, **{name: value or 0 for name, value in fields.items()}}
    values["FI"] &= ~0xFFF
    if not all(_fits(FRCD.fields[name], value) for name, value in values.items()):
        return None
    return "event", FRCD(**values).encode()


def _fits(spec: FieldSpec, value: int) -> bool:
    return 0 <= value <= spec.maximum


def _source(bus: str, slot: str, function: str) -> int:
    return int(bus, 16) << 8 | (int(slot, 16) & 0x1F) << 3 | int(function)


def _reason(prefix: str | None, digits: str) -> int:
    """Read a reason. Without 0x an older kernel wrote it, in decimal."""
    if prefix or not digits.isdecimal():
        return int(digits, 16)
    return int(digits)


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits, 16)


def _status(found: re.Match[str]) -> Found:
    value = int(found[1], 16)
    return ("fsts", value.to_bytes(4, "little")) if value < 1 << 32 else None


def _error_record(field: str) -> Callable[[re.Match[str]], Found]:
    def read(found: re.Match[str]) -> Found:
        value = int(found[1], 16)
        return ("iqercd", IQERCD(**{field: value}).encode()) if _fits(IQERCD.fields[field], value) else None

    return read


def _words(kind: str, *order: int) -> Callable[[re.Match[str]], Found]:
    """Read words that stand in one line; ``order`` are their groups, the lowest word first."""
    return lambda found: (kind, b"".join(int(found[group], 16).to_bytes(8, "little") for group in order))


def _root(found: re.Match[str]) -> Found:
    """The kernel writes only the low half: the rest of it is reserved."""
    return "root-entry", int(found[1], 16).to_bytes(16, "little")


def _pasid_entry(text: str) -> Found:
    """Eight lines tell one entry."""
    words = {int(found[1]): int(found[2], 16) for found in PASID_ENTRY.finditer(text)}
    if set(words) != set(range(PasidTableEntry.size // 8)):
        return None
    return "pasid-entry", b"".join(words[index].to_bytes(8, "little") for index in sorted(words))


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Found]], ...] = (
    (DMA, _dma),
    (INTERRUPT, _interrupt),
    (STATUS, _status),
    (QUEUE_ERROR, _error_record("IQEI")),
    (TIME_OUT, _error_record("ITESID")),
    (COMPLETION_ERROR, _error_record("ICESID")),
    (DESCRIPTOR, _words("command", 1, 2)),
    (SCALABLE_ROOT, _words("scalable-root-entry", 2, 1)),
    (ROOT, _root),
    (CONTEXT, _words("context-entry", 2, 1)),
    (PASID_DIRECTORY, _words("pasid-directory-entry", 1)),
)
