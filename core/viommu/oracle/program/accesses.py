"""DMA of the program's devices, and the recorder's: made anew, and held against what the recording says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, field

from viommu.addresses import PAGE_SIZE
from viommu.faults import Access, Fault, Stage
from viommu.instance.dma import BusAbort
from viommu.oracle.comparison import Difference, compare_bytes
from viommu.oracle.program.lines import NUMBER_LIMIT
from viommu.oracle.program.tables import access_of
from viommu.replay.verdicts import OurVerdict, differences, reported

if TYPE_CHECKING:
    from viommu.captures.rows import RecordedRow, Verdict
    from viommu.machine import Machine
    from viommu.oracle.program.guest_memory import GuestMemory
    from viommu.oracle.program.lines import Line
    from viommu.oracle.program.vfio import VfioDevice

LONGEST = 1 << 16
"""Of a DMA (bytes)."""
DONE = "0x0"
"""What a DMA tester says of an access that went well."""


@define(eq=False)
class Accesses:
    """Makes them on a machine, and learns what memory the program had.

    ``known`` are the program's addresses of bytes that the recording has told; ``faulted`` the rows of those that were
    refused, since somebody asked last.
    """

    machine: Machine
    memory: GuestMemory
    devices: dict[str, VfioDevice]
    known: set[int] = field(factory=set)
    learned: int = 0
    faulted: list[RecordedRow] = field(factory=list)

    def program(self, line: Line, row: RecordedRow | None) -> Difference | None:
        """Make a DMA of the program's; ``row`` is what a capture says of it. Raises RecordingError."""
        device = self.devices[line.text("dev")]
        iova, length, writes = line.hex("iova"), line.whole("len"), line.text("rw") == "w"
        if not 0 < length <= min(LONGEST, NUMBER_LIMIT - iova):
            raise line.wrong("len", f"1 to {LONGEST} bytes below 2^64")
        made = device.endpoint.dma_write(iova, bytes(length)) if writes else device.endpoint.dma_read(iova, length)
        row = None if row is None else self.counted(row)
        access = Access.WRITE if writes else Access.READ
        ours = self.verdict(device, iova, access, made if isinstance(made, Fault | BusAbort) else None)
        found = None if row is None else compared(line, row, ours)
        if found is None:
            found = self._told(line, ours)
        if found is None and ours.outcome in ("ok", "bypass") and not isinstance(made, BusAbort):
            found = self._contents(line, device, iova, length, made if isinstance(made, bytes) else None)
        return found

    def probe(self, line: Line, row: RecordedRow) -> Difference | None:
        """Make a DMA of the recorder's, which flushed before each one; memory was as before afterwards."""
        device = next((one for one in self.devices.values() if one.endpoint.requester == row.asked.requester), None)
        if device is None:
            return Difference(line.record, "device of a captured access", hex(row.asked.requester), "none")
        self.machine.translator.invalidate_all()
        made = device.endpoint.translate(row.asked.iova, row.asked.access, row.asked.pasid)
        row = self.counted(row)
        fault = made if isinstance(made, Fault) else None
        return compared(line, row, self.verdict(device, row.asked.iova, row.asked.access, fault))

    def counted(self, row: RecordedRow) -> RecordedRow:
        """Take note of a row; page sizes of stage 2 are the recorded machine's own, by where its memory was."""
        if row.recorded.record is not None:
            self.faulted.append(row)
        return evolve(row, recorded=evolve(row.recorded, page_size=None))

    def verdict(self, device: VfioDevice, iova: int, access: Access, refused: Fault | BusAbort | None) -> OurVerdict:
        """Say what became of an access; addresses are those of the recorded machine."""
        if isinstance(refused, Fault):
            return reported(self.machine.report(refused), refused)
        outcome = device.endpoint.translate(iova, access)
        if isinstance(outcome, Fault):  # what a DMA did cannot be undone by looking
            return reported(self.machine.report(outcome), outcome)
        pa = self.memory.recorded_pa(outcome.ipa)
        if pa is None or self._ours(pa) != outcome.pa:
            return OurVerdict("ok", None)
        return OurVerdict("ok", pa)

    def leaves_captured_tables(self, line: Line) -> bool:
        """Say whether a walk reads guest memory that no capture has."""
        access = Access.WRITE if line.text("rw") == "w" else Access.READ
        requester = self.devices[line.text("dev")].endpoint.requester
        walk = self.machine.explain(requester, line.hex("iova"), access).walk
        read = [step.entry.address for step in walk if step.entry is not None and step.entry.stage == Stage.STAGE1]
        return not all(self.memory.is_captured(address) for address in read)

    def _ours(self, recorded_pa: int) -> int | None:
        """Where our machine has what the recorded one had at an address."""
        address = self.memory.address_of(recorded_pa)
        runs = None if address is None else self.memory.process.pin(address & -PAGE_SIZE, 1, write=False)
        if not runs:
            return None
        runs[0].unpin(0, 1)
        return runs[0].frame * PAGE_SIZE + recorded_pa % PAGE_SIZE

    def _told(self, line: Line, ours: Verdict) -> Difference | None:
        """Hold our verdict against what the program itself saw."""
        went_well = ours.outcome in ("ok", "bypass")
        if line.has("result") and went_well != (line.text("result") == DONE):
            return Difference(line.record, "outcome", line.text("result"), ours.outcome)
        if line.has("data") and not went_well:
            return Difference(line.record, "outcome", f"data {line.text('data')}", f"{ours.outcome} {ours.fault}")
        if line.has("expect_pa") and went_well and ours.pa != line.hex("expect_pa"):
            return Difference(line.record, "physical address", line.text("expect_pa"), _hex(ours.pa))
        return None

    def _contents(
        self, line: Line, device: VfioDevice, iova: int, length: int, read: bytes | None
    ) -> Difference | None:
        """Learn what a DMA read, byte by byte, and hold it against what the recording has told of that memory."""
        outcome = device.endpoint.translate(iova, Access.READ)
        pa = None if isinstance(outcome, Fault) else self.memory.recorded_pa(outcome.ipa)
        address = None if pa is None else self.memory.address_of(pa)
        if address is None:
            return None
        places = range(address, address + length)
        if read is None:  # what the device wrote is not recorded
            self.known.difference_update(places)
            return None
        if not line.has("data"):
            return None
        expected = (line.hex("data") & (1 << 8 * length) - 1).to_bytes(length, "little")
        told = bytes(e if at not in self.known else r for at, e, r in zip(places, expected, read, strict=True))
        self.learned += length - len(self.known.intersection(places))
        self.known.update(places)
        self.memory.process.write(address, told)
        return compare_bytes(line.record, "data", expected, told)


def compared(line: Line, row: RecordedRow, ours: OurVerdict) -> Difference | None:
    """Hold our verdict against a row of a capture."""
    differs = differences(row, ours)
    if not differs:
        return None
    requester, iova, letter = access_of(row)
    what = f"{', '.join(differs)} of {requester:#x} {letter} {iova:#x}"
    return Difference(line.record, what, _words(row.recorded), _words(ours))


def _words(verdict: Verdict) -> str:
    record = "" if verdict.record is None else verdict.record.hex()
    return " ".join(filter(None, (verdict.outcome, _hex(verdict.pa), verdict.fault, record)))


def _hex(value: int | None) -> str:
    return "" if value is None else hex(value)
