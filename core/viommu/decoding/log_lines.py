"""Kernel log lines: which driver's they are, and what they tell.

An event may be told by several lines, with lines of others between them. What starts an event is found by asking the
drivers; lines of the same source that follow, and bare words, are added until one recognises them.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

import structlog
from attrs import Factory, define, frozen

from viommu.errors import BadPaste, DriverBug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from viommu.drivers import BoundDriver

TEXT_LIMIT = 1 << 24
"""Characters."""

LINE_LIMIT = 1 << 17
"""Lines of one text."""

LENGTH_LIMIT = 2048
"""Characters of a line; the kernel's have half of it."""

MOST_LINES = 8
"""Lines that may tell one event."""

REACH = 24
"""How many lines after its first one an event may end."""

PATIENCE = 1 << 15
"""How many lines of one text are put together with others in vain before that is given up."""

PREFIX = re.compile(
    r"<\d{1,3}>"  # the priority, as /dev/kmsg has it
    r"|\[ {0,12}\d{1,12}\.\d{1,9}\] ?"  # dmesg
    r"|\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] ?"  # dmesg -T
    r"|\[ {0,12}[TC]\d{1,10}\] ?"  # the caller
    r"|\w{1,8} {0,3}:\w{1,8} {0,3}: "  # dmesg -x
    r"|\w{3} [ \d]\d \d\d:\d\d:\d\d [\w.-]{1,64} kernel: ?"  # journald
    r"|\d{4}-\d\d-\d\dT[\d:.,+Z-]{8,24} [\w.-]{1,64} kernel: ?"  # journald, short-iso
    r"|\d{4}-\d\d-\d\dT[\d:.,+Z-]{8,24} ",  # dmesg --time-format iso
    re.ASCII,
)
WORDS = re.compile(r"\s*(?:0x)?[0-9a-f]{8,16}(?:[\s,]+(?:0x)?[0-9a-f]{8,16}){0,7}[\s,]*", re.ASCII | re.IGNORECASE)
HINT = re.compile(r":\s*$|[0-9a-f]{8}", re.ASCII | re.IGNORECASE)
"""What a line that is told on in the next one has: a colon at its end, or a word of the dump already."""


log = structlog.get_logger("viommu.decoding.decode")


@frozen
class Event:
    """What a driver recognised: bytes in memory order, and the lines that told them."""

    driver: BoundDriver
    kind: str
    raw: bytes
    lines: tuple[str, ...]


def without_prefix(line: str) -> str:
    """Take time stamps and the like off the front of a line."""
    for _ in range(4):
        found = PREFIX.match(line)
        if found is None:
            break
        line = line[found.end() :]
    return line


def events(drivers: Sequence[BoundDriver], text: str) -> Iterator[Event]:
    """Find every event that some driver recognises. Raises BadPaste (too long a text), DriverBug."""
    if len(text) > TEXT_LIMIT:
        raise BadPaste(text, f"it has more than {TEXT_LIMIT:#x} characters")
    lines = [without_prefix(line) for line in text.splitlines()]
    if len(lines) > LINE_LIMIT:
        raise BadPaste(text, f"it has {len(lines)} lines, at most {LINE_LIMIT} are read")
    return _Reader(drivers, lines, PATIENCE).events()


@define
class _Reader:
    drivers: Sequence[BoundDriver]
    lines: Sequence[str]
    patience: int
    told: set[int] = Factory(set)
    """Lines that belong to an event already."""

    def events(self) -> Iterator[Event]:
        for first in range(len(self.lines)):
            if first in self.told:
                continue
            found = self._asked([first]) or self._continued(first)
            if found is not None:
                yield found

    def _continued(self, first: int) -> Event | None:
        """Put more lines after one until a driver recognises them together."""
        if not HINT.search(self.lines[first]):
            return None
        if self.patience <= 0:
            return None
        numbers = [first]
        for number in islice(self._followers(first), MOST_LINES - 1):
            numbers.append(number)
            found = self._asked(numbers)
            if found is not None:
                return found
        self.patience -= len(numbers)
        if self.patience <= 0:
            log.warning("decode.log", line=first + 1, from_here="only events that one line tells are looked for")
        return None

    def _followers(self, first: int) -> Iterator[int]:
        """Give later lines that may belong to the same event."""
        source = self.lines[first].partition(": ")[0]
        for number in range(first + 1, min(first + REACH, len(self.lines))):
            line = self.lines[number]
            if number not in self.told and (WORDS.fullmatch(line) or line.startswith(f"{source}: ")):
                yield number

    def _asked(self, numbers: Sequence[int]) -> Event | None:
        lines = tuple(self.lines[number] for number in numbers)
        if any(len(line) > LENGTH_LIMIT for line in lines):
            return None
        for driver in self.drivers:
            found = driver.log_line("\n".join(lines))
            if found is not None:
                self.told.update(numbers)
                return _checked(driver, found, lines)
        return None


def _checked(driver: BoundDriver, found: object, lines: tuple[str, ...]) -> Event:
    """Hold a driver to what `viommu_log_line` owes."""
    kind, raw = found if isinstance(found, tuple) and len(found) == 2 else (None, None)
    if not isinstance(kind, str) or not isinstance(raw, bytes):
        what = f"it returned {type(found).__name__}, not a kind and bytes"
    elif len(raw) not in driver.kinds().get(kind, ()):
        what = f"it returned {len(raw)} bytes of the kind {kind!r}, which viommu_kinds does not have"
    else:
        return Event(driver, kind, raw, lines)
    raise DriverBug(driver.info.name, "viommu_log_line", what)
