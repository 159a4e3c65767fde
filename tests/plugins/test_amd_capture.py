"""The AMD driver on tables that a real Linux kernel wrote; the verdicts are QEMU's and Linux's."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import frozen

from viommu import drivers
from viommu.board import Board
from viommu.faults import Access, Fault, FaultKind, Refusal
from viommu.formats import walk
from viommu.hardware import Silence
from viommu.hookspecs import HardwareModel, LiveHardware, Registers
from viommu.memory import PhysicalMemory
from viommu.translation import Outcome, Translation, outcome_of, refused
from viommu_amd_viommu.spec.commands import CompletionWait

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPTURE = Path(__file__).parents[1] / "data" / "captures" / "amd-v1"
ACCESS = {"r": Access.READ, "w": Access.WRITE}

UNCHECKED_BY_QEMU = (FaultKind.RESERVED, FaultKind.PERMISSION, FaultKind.MALFORMED)
"""QEMU checks no reserved bits and no level rules, and rights of the leaf and of the path for reads only."""


@frozen
class Captured:
    memory: PhysicalMemory
    hardware: HardwareModel

    @classmethod
    def load(cls) -> Captured:
        manifest = json.loads((CAPTURE / "manifest.json").read_text())
        memory = PhysicalMemory()
        with np.load(CAPTURE / "memory.npz") as pages:
            for address, page in zip(pages["gpa"], pages["page"], strict=True):
                memory.place(int(address), page.copy())
        registers = Registers({name: int(found["value"], 0) for name, found in manifest["registers"].items()})
        return cls(memory, drivers.bind("amd_viommu").hardware(memory, registers, Board(memory)))

    def translate(self, row: dict[str, str]) -> Outcome:
        requester, iova, access = int(row["rid"], 0), int(row["iova"], 0), ACCESS[row["access"]]
        found = self.hardware.configure(requester, None, Silence())
        if isinstance(found, Refusal):
            return refused(requester, None, iova, access, found)
        return outcome_of(requester, None, walk(self.memory.engine, found, iova, access))

    def flip(self, row: dict[str, str]) -> None:
        """Flip the row's bit; its ``entry`` is the address of the quadword that holds it."""
        address = int(row["entry"], 0)
        word = self.memory.load(address)
        assert word is not None
        assert self.memory.store(address, word ^ 1 << int(row["bit"]))


def rows(name: str) -> Iterator[dict[str, str]]:
    with (CAPTURE / name).open(newline="") as file:
        yield from csv.DictReader(file)


def agrees(row: dict[str, str], outcome: Outcome) -> bool:
    if row["outcome"] == "fault":
        return isinstance(outcome, Fault)
    return isinstance(outcome, Translation) and outcome.pa == int(row["pa"], 0)


@pytest.fixture(scope="module")
def captured() -> Captured:
    return Captured.load()


def test_every_recorded_access_goes_where_it_really_went(captured: Captured) -> None:
    for row in rows("translations.csv"):
        outcome = captured.translate(row)
        assert agrees(row, outcome), (row, outcome)
        assert isinstance(outcome, Fault) or outcome.page_size == int(row["page_size"], 0), (row, outcome)


def test_every_recorded_refusal_is_reported_as_a_fault(captured: Captured) -> None:
    for row in rows("translations.csv"):
        outcome = captured.translate(row)
        if isinstance(outcome, Fault):
            assert captured.hardware.report(outcome).outcome == row["outcome"]


def test_a_flipped_bit_changes_what_it_changed_in_qemu_but_for_checks_that_qemu_lacks(captured: Captured) -> None:
    departures = 0
    for row in rows("mutations.csv"):
        captured.flip(row)
        outcome = captured.translate(row)
        captured.flip(row)
        if not agrees(row, outcome):
            departures += 1
            assert departs(row, outcome), (row, outcome)

    assert departures == 215


def test_every_recorded_command_is_named_and_comes_back_byte_for_byte() -> None:
    driver = drivers.bind("amd_viommu")

    for row in rows("commands.csv"):
        raw = bytes.fromhex(row["raw"])
        decoded = driver.decode("command", raw)
        assert (decoded.name, decoded.complaints, decoded.descriptor.encode()) == (row["kind"], (), raw)


def test_a_recorded_command_buffer_is_executed_to_its_tail() -> None:
    captured = Captured.load()
    live, memory = captured.hardware, captured.memory
    assert isinstance(live, LiveHardware)
    semaphore, (base, tail) = 0x1_4023_8000, (0x1_4023_A000, live.read(0x2008, 8))
    memory.place(semaphore, bytearray(0x1000))
    raw = memory.read(base, tail)
    assert raw is not None
    waits = [CompletionWait.decode(raw[at : at + 16]) for at in range(0, tail, 16) if raw[at + 7] >> 4 == 1]

    control = live.read(0x18, 8)
    live.write(0x18, 8, control & ~(1 << 12))
    live.write(0x2000, 8, 0)
    live.write(0x18, 8, control | 1 << 12)

    assert {wait.Address for wait in waits} == {semaphore}
    assert memory.load(semaphore) == waits[-1].Data
    assert (live.read(0x2000, 8), live.read(0x2018, 8)) == (tail, 0x150)


def departs(row: dict[str, str], outcome: Outcome) -> bool:
    """Whether the architecture has a rule here that QEMU lacks, or QEMU one that the architecture lacks."""
    if isinstance(outcome, Fault):
        return outcome.kind in UNCHECKED_BY_QEMU
    software_available = (row["structure"], row["qword"], row["bit"]) == ("amd-device-table", "3", "53")
    return row["outcome"] == "fault" and software_available
