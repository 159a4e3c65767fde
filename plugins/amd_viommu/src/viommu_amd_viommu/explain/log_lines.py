"""The lines that Linux's AMD driver logs: events, entries and commands that it dumps, features."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from viommu_amd_viommu.spec.events import EventCode

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER = "AMD-Vi: "
MOST_DIGITS = 16

EVENT = re.compile(r"Event logged \[(\w{1,40}) ?([^\n]{0,400})")
FIELD = re.compile(r"(\w{1,16}(?:\[\d\])?)=([0-9a-fA-Fx:.]{1,24})")
DEVICE = re.compile(r"(?:[0-9a-f]{4,8}:)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
LOGGED_FOR = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: $", re.IGNORECASE)
DUMPED = re.compile(r"\b(DTE|CMD)\[([0-3])\]: ([0-9a-f]{8,16})\b", re.IGNORECASE)
FEATURES = re.compile(r"\bExtended features \((?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)

CODES: Mapping[str, EventCode] = {
    **{code.name: code for code in EventCode},
    "DEV_TAB_HARDWARE_ERROR": EventCode.DEV_TAB_HW_ERROR,
    "PAGE_TAB_HARDWARE_ERROR": EventCode.PAGE_TAB_HW_ERROR,
    "COMMAND_HARDWARE_ERROR": EventCode.COMMAND_HW_ERROR,
    "RMP_PAGE_FAULT": EventCode.RMP_FAULT,
}
DUMPS = {"DTE": ("dte", 8), "CMD": ("command", 4)}
"""What is dumped word by word, and the bytes of a word; there are four."""

ADDRESSES = ("address", "gpa", "spa")
TAGS = ("domain", "pasid", "vmg_tag")


def recognised(line: str) -> tuple[str, bytes] | None:
    """Find the bytes that a line tells of, or several lines that belong together."""
    if DRIVER not in line:
        return None
    return _event(line) or _dump(line) or _features(line)


def _event(line: str) -> tuple[str, bytes] | None:
    found = EVENT.search(line)
    if found is None:
        return None
    fields = {name.lower(): value for name, value in FIELD.findall(found[2])}
    if found[1] == "UNKNOWN":
        return _unknown(fields)
    code = CODES.get(found[1])
    if code is None:
        return None
    numbers = {name: _number(value) for name, value in fields.items() if name != "device"}
    where = fields.get("device") or _logged_for(line[: found.start()])
    return "event", _record(code, _device_id(where), numbers).to_bytes(16, "little")


def _record(code: EventCode, device: int, numbers: Mapping[str, int]) -> int:
    """Put an event together as hardware logs it."""
    address = next((numbers[name] for name in ADDRESSES if name in numbers), 0)
    tag = next((numbers[name] for name in TAGS if name in numbers), 0) & 0xF_FFFF
    low = device | numbers.get("flags_rmp", 0) % (1 << 8) << 16
    high = code << 28 | numbers.get("flags", 0) % (1 << 12) << 16
    if code is EventCode.INVALID_PPR_REQUEST:
        low |= (tag & 0xFFFF) << 16
        high |= numbers.get("tag", 0) % (1 << 10) | tag >> 16 << 10
    else:
        low |= tag >> 16 << 16
        high |= tag & 0xFFFF
    return low | high << 32 | address << 64


def _unknown(fields: Mapping[str, str]) -> tuple[str, bytes] | None:
    words = [fields.get(f"event[{number}]") for number in range(4)]
    if None in words:
        return None
    return "event", b"".join((_number(word or "") & 0xFFFF_FFFF).to_bytes(4, "little") for word in words)


def _dump(line: str) -> tuple[str, bytes] | None:
    """Take four dumped words of one thing; fewer are no whole one."""
    words: dict[str, dict[int, int]] = {"DTE": {}, "CMD": {}}
    for what, number, value in DUMPED.findall(line):
        words[what.upper()].setdefault(int(number), int(value, 16))
    for what, (kind, size) in DUMPS.items():
        found = words[what]
        if len(found) == 4 and not any(value >> size * 8 for value in found.values()):
            return kind, b"".join(found[number].to_bytes(size, "little") for number in range(4))
    return None


def _features(line: str) -> tuple[str, bytes] | None:
    found = FEATURES.search(line)
    return None if found is None else ("efr", int(found[1], 16).to_bytes(8, "little"))


def _logged_for(prefix: str) -> str:
    """The device that a line was logged for stands before the driver's name."""
    found = LOGGED_FOR.search(prefix.removesuffix(DRIVER))
    return found[0] if found is not None else ""


def _device_id(text: str) -> int:
    found = DEVICE.search(text)
    if found is None:
        return 0
    return int(found[1], 16) << 8 | (int(found[2], 16) & 0x1F) << 3 | int(found[3])


def _number(text: str) -> int:
    """Read a number as the kernel prints it; what is none counts as zero."""
    digits = text.lower().removeprefix("0x")
    if not digits or len(digits) > MOST_DIGITS or set(digits) - set("0123456789abcdef"):
        return 0
    return int(digits, 16)
