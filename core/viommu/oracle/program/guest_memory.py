"""The guest memory of a program: where the guest, the program, and the recorded machine have it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.addresses import PAGE_SIZE

if TYPE_CHECKING:
    from viommu.captures.pages import Pages
    from viommu.oracle.program.lines import Line
    from viommu.oracle.program.memory import ProgramProcess

MOST_RUNS = 1 << 16
"""Physical stretches of one region."""


@frozen
class Stretch:
    """Addresses [start, end) that stand for as many from ``to`` on."""

    start: int
    end: int
    to: int


@define(eq=False)
class Stretches:
    """A mapping of stretches of addresses; the youngest one counts."""

    _sorted: list[Stretch] = field(factory=list)

    def add(self, start: int, length: int, to: int) -> None:
        """Map a stretch; what it overlaps goes."""
        end = start + length
        first = bisect_right(self._sorted, start, key=lambda one: one.start)
        first -= first > 0 and self._sorted[first - 1].end > start
        last = bisect_left(self._sorted, end, first, key=lambda one: one.start)
        self._sorted[first:last] = [Stretch(start, end, to)]

    def find(self, address: int) -> int | None:
        """Say what an address stands for."""
        place = bisect_right(self._sorted, address, key=lambda one: one.start) - 1
        if place < 0 or address >= self._sorted[place].end:
            return None
        return self._sorted[place].to + address - self._sorted[place].start


@define(eq=False)
class GuestMemory:
    """What IOAS_MAPs and lines of type ``region`` tell: three addresses of each page.

    ``captured`` are the physical pages, of the recorded machine, that the capture in force has.
    """

    process: ProgramProcess
    captured: frozenset[int] = frozenset()
    _mapped: dict[int, int] = field(factory=dict)  # IPA of an IOAS_MAP -> the program's address
    _recorded: Stretches = field(factory=Stretches)  # IPA -> physical address on the recorded machine
    _program: Stretches = field(factory=Stretches)  # physical address on the recorded machine -> the program's

    def mapped(self, ipa: int, address: int) -> None:
        """Take note of an IOAS_MAP."""
        self._mapped[ipa] = address

    def region(self, line: Line) -> None:
        """Take note of where the recorded machine had what was mapped last at an IPA. Raises RecordingError."""
        ipa, address = line.hex("iova"), self._mapped.get(line.hex("iova"))
        runs = line.fields.get("pfn_runs")
        if not isinstance(runs, list) or len(runs) > MOST_RUNS or not all(_is_pair(run) for run in runs):
            raise line.wrong("pfn_runs", "a list of pairs: physical address, length")
        done = 0
        for run in runs:
            pa, length = (line.hex_value("pfn_runs", value) for value in run)
            if (pa | length) % PAGE_SIZE or not length or done + length > line.hex("len"):
                raise line.wrong("pfn_runs", "whole pages, no more than len has")
            self._recorded.add(ipa + done, length, pa)
            if address is not None:
                self._program.add(pa, length, address + done)
            done += length

    def recorded_pa(self, ipa: int) -> int | None:
        """Say where the recorded machine had an IPA."""
        return self._recorded.find(ipa)

    def address_of(self, recorded_pa: int) -> int | None:
        """Say where the program has what was at a physical address of the recorded machine."""
        return self._program.find(recorded_pa)

    def load(self, pages: Pages) -> int:
        """Put what was captured of the guest's memory into the program's; how many pages that were."""
        found = 0
        for pa, data in zip(pages.gpa.tolist(), pages.page, strict=True):
            address = self.address_of(pa)
            if address is not None:
                found += self.process.write(address, data.tobytes())
        self.captured = frozenset(pages.gpa.tolist())
        return found

    def is_captured(self, ipa: int) -> bool:
        """Say whether the capture in force has what the guest had at an IPA."""
        pa = self.recorded_pa(ipa)
        return pa is not None and pa - pa % PAGE_SIZE in self.captured


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2
