"""Every recorded row, and what `viommu replay` does not look at: memory types, interrupt files, refused commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recordings import BOUND, CAPTURES, machine_of, registers, rows
from viommu import Access, Machine, PhysicalMemory, Translation
from viommu.captures.capture import load
from viommu.hardware import Silence
from viommu.replay.run import replay

from viommu_riscv.hardware.directories import Search
from viommu_riscv.hardware.resident import file_at
from viommu_riscv.hardware.settings import Settings
from viommu_riscv.spec.commands import Iofence, Opcode
from viommu_riscv.spec.registers import LAYOUTS, Capabilities, Cqcsr, QueueBase

if TYPE_CHECKING:
    from pathlib import Path

LETTERS = {"r": Access.READ, "w": Access.WRITE, "x": Access.EXECUTE}
MRIF = 8
WITH_COMMANDS = [folder for folder in CAPTURES if (folder / "commands.csv").exists()]


@pytest.mark.parametrize("folder", CAPTURES, ids=lambda folder: folder.name)
def test_every_recorded_row_agrees(folder: Path) -> None:
    done = replay(load(folder), machine_of(folder))

    assert done.agreed, [mismatch.to_json() for mismatch in done.mismatches]


@pytest.mark.parametrize("folder", CAPTURES, ids=lambda folder: folder.name)
def test_memory_types_and_interrupt_files_are_the_recorded_ones(folder: Path) -> None:
    machine = machine_of(folder)
    search = Search(Settings.of(machine.registers), machine.memory, Silence())
    asked = [row for row in rows(folder) if row["outcome"] == "ok"]
    for row in asked:
        found = _explained(machine, row)
        assert isinstance(found, Translation), row
        if found.attrs2 & MRIF:
            file = file_at(search, int(row["rid"], 16), found.ipa)
            assert file is not None
            assert (row["msi"], file.address, file.notice_data) == (
                "mrif",
                _number(row, "mrif_addr"),
                _number(row, "mrif_nid"),
            )
        else:
            assert row["msi"] != "mrif"
            assert (found.attrs1 & 3 or found.attrs2 & 3) == _number(row, "pbmt"), row


@pytest.mark.parametrize("folder", WITH_COMMANDS, ids=lambda folder: folder.name)
def test_commands_are_refused_as_the_reference_model_refuses_them(folder: Path) -> None:
    for row in rows(folder, "commands.csv"):
        control = _after(folder, bytes.fromhex(row["raw"]))
        verdict = "cmd_ill" if control.cmd_ill else "cqmf" if control.cqmf else "ok"
        assert (verdict, row) == (row["verdict"], row)


def _explained(machine: Machine, row: dict[str, str]) -> object:
    """Translate without leaving a trace, as each row is judged on memory as it was."""
    access = LETTERS[row["access"]] | (Access.PRIVILEGED if row["priv"] == "s" else Access(0))
    pasid = int(row["pasid"], 16) if row["pasid"] else None
    return machine.explain(int(row["rid"], 16), int(row["iova"], 16), access, pasid).outcome


def _number(row: dict[str, str], column: str) -> int:
    return int(row[column], 0) if row[column] else 0


def _make_room(memory: PhysicalMemory, fence: Iofence, address_bits: int) -> None:
    """Have memory where a fence stores: to the reference model, there is some wherever there can be."""
    at = fence.ADDR & -0x1000
    if fence.opcode == Opcode.IOFENCE and memory.read(at, 1) is None and not at >> address_bits:
        memory.place(at, bytearray(0x1000))


def _after(folder: Path, raw: bytes) -> Cqcsr:
    """Execute one command on an IOMMU in the recorded state, with a queue of its own."""
    memory = PhysicalMemory()
    queue = memory.add_ram(0x1000)
    base = next(queue.runs())[0]
    given = registers(folder) | {"CQB": int(QueueBase(PPN=base, LOG2SZ_1=7)), "CQH": 0, "CQT": 0, "CQCSR": 0x10001}
    machine = Machine(BOUND, memory, given)
    memory.write(base, raw)
    _make_room(memory, Iofence.decode(raw), Capabilities.decode(given["CAPABILITIES"]).PAS)
    machine.write_register(LAYOUTS["CQT"][0], 1)
    control = Cqcsr.decode(machine.read_register(LAYOUTS["CQCSR"][0]))
    assert machine.read_register(LAYOUTS["CQH"][0]) == (not control.cmd_ill and not control.cqmf)
    return control
