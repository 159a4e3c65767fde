"""What the host driver writes, held against what a real Linux wrote (capture amd-v1)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from tests.plugins.amd_viommu.program import Program
from viommu_amd_viommu.host import entries, requests
from viommu_amd_viommu.host.device_table import INTERRUPTS
from viommu_amd_viommu.host.entries import HostStage
from viommu_amd_viommu.host.ranges import PAGE, Pages
from viommu_amd_viommu.spec.commands import CompletionWait, InvalidateIommuPages, decode_command
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.registers import BufferBase, Control

CAPTURE = Path(__file__).parents[2] / "data" / "captures" / "amd-v1"


def recorded_registers() -> dict[str, int]:
    manifest = json.loads((CAPTURE / "manifest.json").read_text())
    return {name: int(found["value"], 0) for name, found in manifest["registers"].items()}


def recorded_entries() -> list[DTE]:
    """Every device table entry that a domain governs: the others, which nothing is attached to, have no rights."""
    base = recorded_registers()["DEVTAB"] & ~0xFFF
    with np.load(CAPTURE / "memory.npz") as pages:
        found = {int(gpa): page for gpa, page in zip(pages["gpa"], pages["page"], strict=True)}
    raw = b"".join(found[base + at].tobytes() for at in range(0, 0x10000, PAGE) if base + at in found)
    entries_ = [DTE.decode(raw[at : at + DTE.size]) for at in range(0, len(raw), DTE.size)]
    return [entry for entry in entries_ if entry.V and entry.IR]


def recorded_commands() -> list[bytes]:
    with (CAPTURE / "commands.csv").open(newline="") as file:
        return [bytes.fromhex(row["raw"]) for row in csv.DictReader(file)]


def test_entries_of_linux_are_ours_bit_for_bit_but_for_interrupts() -> None:
    found = recorded_entries()
    assert {entry.Mode for entry in found} == {0, 3, 6}
    for entry in found:
        if entry.Mode:
            ours = entries.host_translated(entry.DomainID, HostStage(entry.HostPageTableRoot, entry.Mode), ats=False)
        else:
            ours = entries.identity(entry.DomainID, ats=False)
        assert int(ours) == int(entry) & ~INTERRUPTS


def test_entries_of_devices_that_nothing_is_attached_to_are_linuxs() -> None:
    unit = Program.make().unit
    entry = unit.table.read(0x1234)

    assert (entry.V, entry.TV, entry.IR, entry.IW, entry.Mode) == (1, 1, 0, 0, 0)


def test_commands_of_linux_are_ours_byte_for_byte() -> None:
    kinds = set()
    for raw in recorded_commands():
        command = decode_command(raw)
        if isinstance(command, CompletionWait):
            assert requests.completion_wait(command.Address, command.Data).encode() == raw
        else:
            assert isinstance(command, InvalidateIommuPages)
            pages = Pages(command.Address, command.S)
            ours = requests.pages_of_domain(command.DomainID, pages, directories=bool(command.PDE))
            assert ours.encode() == raw
        kinds.add(type(command))
    assert kinds == {CompletionWait, InvalidateIommuPages}


def test_ranges_of_linux_are_told_as_we_tell_them() -> None:
    recorded = [decode_command(raw) for raw in recorded_commands()]
    sized = [one for one in recorded if isinstance(one, InvalidateIommuPages) and one.S]
    assert sized
    for command in sized:
        page = command.Address >> 12
        size = ((~page & page + 1) * 2) << 12
        start = command.Address & ~(size - 1)
        assert Pages.around(start, start + size - 1) == Pages(command.Address, 1)


def test_queues_are_as_long_as_linuxs_and_the_same_is_switched_on() -> None:
    registers = recorded_registers()
    unit = Program.make().unit
    for name in ("CMDBASE", "EVTBASE"):
        assert BufferBase.decode(unit.registers[name]).Length == BufferBase.decode(registers[name]).Length
    theirs, ours = Control.decode(registers["CONTROL"]), Control.decode(unit.registers["CONTROL"])
    for bit in ("IommuEn", "EventLogEn", "EventIntEn", "InvTimeOut", "Coherent", "CmdBufEn", "GTEn", "GAEn"):
        assert getattr(ours, bit) == getattr(theirs, bit)
