"""Hand-made AMD tables in a small physical memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict, Unpack

import numpy as np
import pytest
from attrs import define, field

from viommu.board import Board
from viommu.faults import Access, Fault, Refusal, Report
from viommu.formats import Context, walk
from viommu.hookspecs import HardwareModel, Registers
from viommu.memory import PhysicalMemory
from viommu.translation import Outcome, Translation, outcome_of, refused
from viommu_amd_viommu import driver
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.registers import EFR, Control, DeviceTableBase

RAM = 0x1000_0000
RAM_SIZE = 0x40_0000
DEVICE_TABLE = RAM
DEVICE = 0x0123

FEATURES: dict[str, int] = {"HATS": 2, "GATS": 1, "GLX": 2, "GT": 1, "NX": 1, "PASmax": 19, "HA": 1, "HD": 1}
CONTROL: dict[str, int] = {"IommuEn": 1, "GTEn": 1}

Link = Callable[[int, int], int]
"""An entry that points to a table: (address, AMD level of that table)."""


class Where(TypedDict, total=False):
    """What a DMA has besides its address."""

    access: Access
    pasid: int | None
    requester: int


def host_link(address: int, level: int) -> int:
    return address | level << 9 | 1 | 3 << 61


@define
class Told:
    """A ConfigurationLog that remembers."""

    structures: list[tuple[type, int, bytes | None]] = field(factory=list)
    notes: list[str] = field(factory=list)

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        self.structures.append((structure, address, raw))
        self.notes.append(note)

    def note(self, text: str) -> None:
        self.notes.append(text)


@define
class Amd:
    """An IOMMU, its memory, and a device table with room for every DeviceID of 9 bits."""

    memory: PhysicalMemory = field(factory=PhysicalMemory)
    control: dict[str, int] = field(factory=lambda: dict(CONTROL))
    features: dict[str, int] = field(factory=lambda: dict(FEATURES))
    others: dict[str, int] = field(factory=dict)
    """More registers, by name."""
    _next_page: int = RAM + 0x4_0000

    def __attrs_post_init__(self) -> None:
        self.memory.place(RAM, np.zeros(RAM_SIZE, np.uint8))

    @property
    def hardware(self) -> HardwareModel:
        registers = {
            "CONTROL": int(Control(**self.control)),
            "EFR": int(EFR(**self.features)),
            "DEVTAB": int(DeviceTableBase(Base=DEVICE_TABLE, Size=3)),
        }
        return driver.viommu_hardware(self.memory, Registers(registers | self.others), Board(self.memory))

    def page(self) -> int:
        self._next_page += 0x1000
        return self._next_page

    def store(self, address: int, value: int) -> None:
        assert self.memory.store(address, value)

    def load(self, address: int) -> int:
        value = self.memory.load(address)
        assert value is not None
        return value

    def device(self, requester: int = DEVICE, **fields: int) -> DTE:
        """Write a valid entry that grants everything, but for ``fields``."""
        entry = DTE(**{"V": 1, "TV": 1, "IR": 1, "IW": 1, "DomainID": 0x77} | fields)
        assert self.memory.write(DEVICE_TABLE + requester * DTE.size, entry.encode())
        return entry

    def map(self, root: int, levels: int, address: int, leaf: int, at_level: int = 1, link: Link = host_link) -> int:
        """Put ``leaf`` into the table of ``at_level``, making tables on the way. Gives the leaf's address."""
        return self.map_through(root, levels, address, leaf, at_level, link, self.page, lambda table: table)

    def map_through(
        self,
        root: int,
        levels: int,
        address: int,
        leaf: int,
        at_level: int,
        link: Link,
        new_table: Callable[[], int],
        really: Callable[[int], int],
    ) -> int:
        """As `map`, with tables that lie ``really`` elsewhere than at the addresses that entries hold."""
        table = root
        for level in range(levels, at_level, -1):
            slot = really(table) + index(address, level) * 8
            if not self.load(slot) & 1:
                self.store(slot, link(new_table(), level - 1))
            table = self.load(slot) & 0x000F_FFFF_FFFF_F000
        slot = really(table) + index(address, at_level) * 8
        self.store(slot, leaf)
        return slot

    def configure(self, pasid: int | None = None, requester: int = DEVICE) -> Context | Refusal:
        return self.hardware.configure(requester, pasid, Told())

    def told(self, pasid: int | None = None, requester: int = DEVICE) -> Told:
        log = Told()
        self.hardware.configure(requester, pasid, log)
        return log

    def translate(
        self, iova: int, access: Access = Access.READ, pasid: int | None = None, requester: int = DEVICE
    ) -> Outcome:
        found = self.configure(pasid, requester)
        if isinstance(found, Refusal):
            return refused(requester, pasid, iova, access, found)
        return outcome_of(requester, pasid, walk(self.memory.engine, found, iova, access))

    def pa(self, iova: int, **where: Unpack[Where]) -> int:
        outcome = self.translate(iova, **where)
        assert isinstance(outcome, Translation), outcome
        return outcome.pa

    def fault(self, iova: int, **where: Unpack[Where]) -> Fault:
        outcome = self.translate(iova, **where)
        assert isinstance(outcome, Fault), outcome
        return outcome

    def refusal(self, iova: int = 0x1000, **where: Unpack[Where]) -> Refusal:
        refusal = self.fault(iova, **where).refusal
        assert refusal is not None
        return refusal

    def report(self, iova: int, **where: Unpack[Where]) -> Report:
        return self.hardware.report(self.fault(iova, **where))


def index(address: int, level: int) -> int:
    return address >> 12 + 9 * (level - 1) & 0x1FF


@pytest.fixture
def amd() -> Amd:
    return Amd()
