"""A software vQUEUE: a guest's invalidation queue, which the host consumes for want of hardware that would.

Its registers are a page that user space may map: those of a unit's queue, at their usual offsets (VT-d 11.4). Place and
size of the queue are what HW_QUEUE_ALLOC was given; IQA only tells of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import Exists, Invalid
from viommu.registers import Register, RegisterFile
from viommu.rings import read_entries
from viommu_vtd.host.guest_commands import ENTRY
from viommu_vtd.host.queue import Trouble
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.queue_registers import ICS, IQA, IQERCD, IQH, IQT, QueueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.layout import Descriptor
    from viommu.objects.mmap import Region
    from viommu_vtd.host.guest_unit import GuestUnit, Outcome

PAGE = 4096
PAGE_LG2 = 12
MOST_PAGES_LG2 = 7
STOPPED = FSTS(IQE=1, ITE=1)
ERRORS = STOPPED.replace(ICE=1)


def _register(layout: type[Descriptor], writable: int | None = 0, clears: int = 0) -> Register:
    return Register(OFFSETS[layout.__name__], layout, writable, clears)


DECLARED = {
    "FSTS": _register(FSTS, clears=int(ERRORS)),
    "IQH": _register(IQH),
    "IQT": _register(IQT, writable=(1 << 64) - 1),
    "IQA": _register(IQA),
    "ICS": _register(ICS, clears=int(ICS(IWC=1))),
    "IQERCD": _register(IQERCD),
}
"""Registers of the page; IQT keeps bits that no queue has, since hardware complains of them."""


@define(eq=False)
class QueuePage:
    """The page of registers of one vIOMMU (a `viommu.objects.mmap.Registers`); without a queue they hold zeros."""

    guest: GuestUnit
    tell: Callable[[FSTS, ICS], None]
    """Is called when a status bit is set that was not: an interrupt, on its way to the guest."""
    base: int = 0
    pages_lg2: int = 0
    enabled: bool = False
    region: Region | None = None
    """Where user space may map it."""
    registers: RegisterFile = field(factory=lambda: RegisterFile(DECLARED))
    _running: bool = False

    def enable(self, base: int, guest_address: int, length: int) -> None:
        """Begin with an empty queue. ``base``: where its memory is; ``length`` in bytes. Raises Invalid, Exists."""
        pages = length // PAGE
        if length % PAGE or pages & pages - 1 or not 0 < pages <= 1 << MOST_PAGES_LG2:
            raise Invalid("vQUEUE", "length", length, f"a power of two, {PAGE:#x} to {PAGE << MOST_PAGES_LG2:#x}")
        if guest_address % PAGE:
            raise Invalid("vQUEUE", "nesting_parent_iova", guest_address, f"a multiple of {PAGE:#x}")
        if self.enabled:
            raise Exists("vQUEUE", "index", 0, "not taken")
        self.base, self.pages_lg2, self.enabled = base, pages.bit_length() - 1, True
        self._reset(IQA(QS=self.pages_lg2, DW=1, Address=guest_address))

    def disable(self) -> None:
        """Read the guest's memory no more."""
        self.enabled = False
        self._reset(IQA())

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes of the page."""
        first = offset & -4
        words = range(first, offset + length, 4)
        raw = b"".join(self.registers.read(at, 4).to_bytes(4, "little") for at in words)
        return raw[offset - first : offset - first + length]

    def write(self, offset: int, data: bytes) -> None:
        """Store registers: 4 or 8 bytes at a multiple of that; anything else is lost.

        The context's lock is held, so that nothing is unmapped under a wait descriptor's store.
        """
        with self.guest.viommu.context.lock:
            for store in self.registers.write(offset, len(data), int.from_bytes(data, "little")):
                if store.name == "FSTS" and store.changed:
                    self._forget_cleared()
                if store.name in {"FSTS", "IQT"}:
                    self._run()

    def _run(self) -> None:
        """Consume what lies between head and tail, until the queue is empty or stops."""
        if self._running:
            return
        self._running = True
        try:
            while self.enabled and not int(self._status) & int(STOPPED) and self._go_on():
                pass
        finally:
            self._running = False

    def _go_on(self) -> bool:
        """Execute one run; False where nothing is left."""
        entries = (PAGE << self.pages_lg2) // ENTRY
        tail = self.registers["IQT"]
        if tail & IQT.reserved_mask or tail >> PAGE_LG2 + self.pages_lg2:
            self._stop(FSTS(IQE=1), IQERCD(IQEI=QueueError.TAIL))
            return False
        if tail % ENTRY:
            self._stop(FSTS(IQE=1), IQERCD(IQEI=QueueError.TAIL_ALIGNMENT))
            return False
        head = self.registers["IQH"] // ENTRY
        count = (tail // ENTRY - head) % entries
        if not count:
            return False
        raw = read_entries(self.guest.unit.memory, self.base, entries, ENTRY, head, count)
        if not len(raw):
            self._stop(FSTS(IQE=1), IQERCD(IQEI=QueueError.FETCH))
            return False
        outcome = self.guest.run([entry.tobytes() for entry in raw])
        self._set("IQH", IQH(QH=(head + outcome.done) % entries * ENTRY))
        return self._judge(outcome)

    def _judge(self, outcome: Outcome) -> bool:
        if outcome.interrupt and not self.registers["ICS"]:
            self._set("ICS", ICS(IWC=1))
            self.tell(FSTS(), ICS(IWC=1))
        if outcome.trouble is Trouble.REFUSED:
            self._stop(FSTS(IQE=1), IQERCD(IQEI=outcome.detail))
        elif outcome.trouble is Trouble.COMPLETION:
            self._stop(FSTS(ITE=1, ICE=1), IQERCD(ITESID=outcome.detail, ICESID=outcome.detail))
        elif outcome.trouble is not None:
            self._stop(FSTS(ITE=1), IQERCD(ITESID=outcome.detail))
        return outcome.trouble is None

    def _forget_cleared(self) -> None:
        """What IQERCD says of errors that are cleared ends with them."""
        status, record = self._status, self.registers.decoded("IQERCD", IQERCD)
        kept = {"IQEI": status.IQE * record.IQEI, "ITESID": status.ITE * record.ITESID}
        self._set("IQERCD", IQERCD(**kept, ICESID=status.ICE * record.ICESID))

    def _stop(self, status: FSTS, record: IQERCD) -> None:
        """Fetch no more until the guest clears the error."""
        self._set("FSTS", FSTS.decode(int(self._status) | int(status)))
        self._set("IQERCD", record)
        self.tell(status, ICS())

    @property
    def _status(self) -> FSTS:
        return self.registers.decoded("FSTS", FSTS)

    def _set(self, name: str, value: Descriptor) -> None:
        self.registers[name] = int(value)

    def _reset(self, address: IQA) -> None:
        for name in DECLARED:
            self.registers[name] = 0
        self._set("IQA", address)
