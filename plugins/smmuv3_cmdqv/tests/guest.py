"""Software that writes SMMUv3 structures and Arm page tables into memory by hand, and the hardware that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from viommu.board import Board
from viommu.faults import Access, Fault, Refusal, Report
from viommu.formats import Context, walk
from viommu.hookspecs import Registers
from viommu.memory import PhysicalMemory
from viommu.translation import Translation, outcome_of, refused
from viommu_smmuv3_cmdqv import driver
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.registers import CR0, CR2, GBPA, IDR0, IDR1, IDR3, IDR5, STRTAB_BASE, STRTAB_BASE_CFG
from viommu_smmuv3_cmdqv.spec.stream_table import STE, StreamConfig

if TYPE_CHECKING:
    from viommu.hookspecs import HardwareModel
    from viommu.layout import Descriptor
    from viommu.translation import Outcome

RAM = 0x8000_0000
RAM_SIZE = 0x80_0000
IPA = 0x4000_0000
"""Where stage 2 shows RAM to a guest."""
HOLE = 0xF_0000_0000
STREAM = 5

VALID, PAGE_OR_TABLE, AF, NG, DBM = 1, 2, 1 << 10, 1 << 11, 1 << 51
UNPRIVILEGED, READ_ONLY, PXN, UXN = 1 << 6, 1 << 7, 1 << 53, 1 << 54
S2_READ, S2_WRITE = 1 << 6, 1 << 7
S2_NORMAL, S2_DEVICE = 0b1111 << 2, 0b0001 << 2
USER_PAGE = VALID | PAGE_OR_TABLE | AF | NG | UNPRIVILEGED
S2_LEAF = VALID | AF | S2_READ | S2_WRITE | S2_NORMAL

EVERYTHING: dict[type[Descriptor], dict[str, int]] = {
    IDR0: {
        "S1P": 1, "S2P": 1, "TTF": 2, "HTTU": 3, "HYP": 1, "ATS": 1, "ASID16": 1, "VMID16": 1, "CD2L": 1, "ST_LEVEL": 1,
    },
    IDR1: {"SIDSIZE": 16, "SSIDSIZE": 20},
    IDR3: {"HAD": 1, "XNX": 1, "FWB": 1, "STT": 1, "E0PD": 1},
    IDR5: {"OAS": 6, "GRAN4K": 1, "GRAN16K": 1, "GRAN64K": 1, "DS": 1, "VAX": 1},
    CR0: {"SMMUEN": 1, "EVTQEN": 1, "CMDQEN": 1},
    CR2: {"RECINVSID": 1},
    GBPA: {},
    STRTAB_BASE: {},
    STRTAB_BASE_CFG: {"LOG2SIZE": 8},
}  # fmt: skip

STAGE1_CD = {
    "V": 1, "AA64": 1, "A": 1, "R": 1, "ASID": 7, "T0SZ": 16, "T1SZ": 16, "TG1": 2, "IPS": 5, "EPD1": 1,
}  # fmt: skip
STAGE2_STE = {"S2VMID": 9, "S2T0SZ": 24, "S2SL0": 1, "S2PS": 5, "S2AA64": 1, "S2R": 1}


@define
class Log:
    """Keeps what the hardware tells."""

    read: list[tuple[str, int]] = field(factory=list)
    notes: list[str] = field(factory=list)

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        assert raw is None or len(raw) == structure.size  # type: ignore[attr-defined]
        self.read.append((structure.__name__, address))
        self.notes.append(note)

    def note(self, text: str) -> None:
        self.notes.append(text)


@define
class Guest:
    """A machine with one SMMU that has every feature and a linear stream table of 256 streams.

    ``registers`` may be changed, by layout and field, before the next access.
    """

    memory: PhysicalMemory = field(factory=PhysicalMemory)
    registers: dict[type[Descriptor], dict[str, int]] = field(
        factory=lambda: {layout: dict(fields) for layout, fields in EVERYTHING.items()}
    )
    log: Log = field(factory=Log)
    _next: int = RAM

    def __attrs_post_init__(self) -> None:
        self.memory.place(RAM, np.zeros(RAM_SIZE, np.uint8))
        self.set(STRTAB_BASE, ADDR=self.take(256 * STE.size))

    def take(self, size: int, alignment: int | None = None) -> int:
        """Zeroed memory, aligned to its size (or as told)."""
        multiple = alignment or size
        at = (self._next + multiple - 1) // multiple * multiple
        self._next = at + size
        assert self._next <= RAM + RAM_SIZE
        return at

    def put(self, address: int, value: Descriptor | int) -> int:
        raw = value.to_bytes(8, "little") if isinstance(value, int) else value.encode()
        assert self.memory.write(address, raw)
        return address

    def word(self, address: int) -> int:
        value = self.memory.load(address)
        assert value is not None
        return value

    def set(self, layout: type[Descriptor], **fields: int) -> None:
        self.registers[layout].update(fields)

    @property
    def hardware(self) -> HardwareModel:
        values = {layout.__name__: int(layout(**fields)) for layout, fields in self.registers.items()}
        return driver.viommu_hardware(self.memory, Registers(values), Board(self.memory))

    # Structures.

    def stream(self, sid: int = STREAM, **fields: int) -> int:
        """Write a valid STE; gives its address."""
        address = self.registers[STRTAB_BASE]["ADDR"] + sid * STE.size
        return self.put(address, STE(**({"V": 1} | fields)))

    def stage1(self, **cd: int) -> int:
        """Make the stream one of stage 1 alone, through one CD; gives the CD's address."""
        at = self.put(self.take(CD.size), CD(**(STAGE1_CD | cd)))
        self.stream(Config=StreamConfig.STAGE1, S1ContextPtr=at)
        return at

    def stage2(self, **ste: int) -> int:
        """Make the stream one of stage 2 alone, which shows RAM at `IPA`; gives the root table."""
        root = self.show_ram()
        self.stream(**(STAGE2_STE | {"Config": StreamConfig.STAGE2, "S2TTB": root} | ste))
        return root

    def nested(self, cd: dict[str, int] | None = None, /, **ste: int) -> int:
        """Make the stream a nested one with one CD, at an IPA as its tables are; gives stage 2's root table."""
        root = self.show_ram()
        at = self.put(self.take(CD.size), CD(**(STAGE1_CD | (cd or {}))))
        context = {"Config": StreamConfig.NESTED, "S1ContextPtr": ipa_of(at), "S2TTB": root}
        self.stream(**(STAGE2_STE | context | ste))
        return root

    def show_ram(self) -> int:
        """Stage-2 tables (40 bits, 4K granule) that map `IPA` to RAM in 2M blocks; gives the root."""
        root = self.take(0x2000)
        for offset in range(0, RAM_SIZE, 0x20_0000):
            self.map(root, IPA + offset, RAM + offset | S2_LEAF, at=2, start=1)
        return root

    # Page tables. Levels are Arm's: 3 holds pages.

    def map(
        self, root: int, va: int, leaf: int, *, at: int = 3, start: int = 0, granule: int = 12, nested: bool = False
    ) -> int:
        """Put ``leaf`` into the table of level ``at``, making tables on the way; gives the leaf's address.

        ``nested``: table addresses, ``root`` too, are IPAs.
        """
        table = root
        for level in range(start, at):
            slot = self._slot(table, va, level, granule, nested=nested, first=level == start)
            if not self.word(slot):
                new = self.take(1 << granule)
                self.put(slot, (ipa_of(new) if nested else new) | VALID | PAGE_OR_TABLE)
            table = self.word(slot) & 0xFFFF_FFFF_F000
        return self.put(self._slot(table, va, at, granule, nested=nested, first=at == start), leaf)

    def _slot(self, table: int, va: int, level: int, granule: int, *, nested: bool, first: bool) -> int:
        shift = granule + (granule - 3) * (3 - level)
        # The start level may be concatenated: its index is not cut.
        index = (va >> shift) & ((1 << 52) - 1 if first else (1 << granule - 3) - 1)
        return (pa_of(table) if nested else table) + index * 8

    # Accesses.

    def configure(self, ssid: int | None = None, sid: int = STREAM) -> Context | Refusal:
        self.log = Log()
        return self.hardware.configure(sid, ssid, self.log)

    def context(self, ssid: int | None = None) -> Context:
        found = self.configure(ssid)
        assert isinstance(found, Context), found
        return found

    def refusal(self, ssid: int | None = None, sid: int = STREAM) -> Refusal:
        found = self.configure(ssid, sid)
        assert isinstance(found, Refusal), found
        return found

    def outcome(self, iova: int, access: Access = Access.READ, ssid: int | None = None, sid: int = STREAM) -> Outcome:
        found = self.configure(ssid, sid)
        if isinstance(found, Refusal):
            return refused(sid, ssid, iova, access, found)
        return outcome_of(sid, ssid, walk(self.memory.engine, found, iova, access))

    def pa(self, iova: int, access: Access = Access.READ, ssid: int | None = None) -> int:
        outcome = self.outcome(iova, access, ssid)
        assert isinstance(outcome, Translation), outcome
        return outcome.pa

    def fault(self, iova: int, access: Access = Access.READ, ssid: int | None = None, sid: int = STREAM) -> Fault:
        outcome = self.outcome(iova, access, ssid, sid)
        assert isinstance(outcome, Fault), outcome
        return outcome

    def report(self, iova: int, access: Access = Access.READ, ssid: int | None = None, sid: int = STREAM) -> Report:
        return self.hardware.report(self.fault(iova, access, ssid, sid))


def ipa_of(pa: int) -> int:
    return pa - RAM + IPA


def pa_of(ipa: int) -> int:
    return ipa - IPA + RAM
