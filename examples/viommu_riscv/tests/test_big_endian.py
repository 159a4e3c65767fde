"""Recordings turned around: with every word of memory swapped, and both byte orders switched, nothing else changes.

No recording has a big-endian device directory, so those that there are stand in for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from recordings import BOUND, CAPTURES, machine_of, registers, rows
from viommu import Access, Fault, Machine, PhysicalMemory

from viommu_riscv.hardware.directories import Search
from viommu_riscv.hardware.settings import Settings
from viommu_riscv.spec.directories import DeviceContext
from viommu_riscv.spec.registers import Capabilities

if TYPE_CHECKING:
    from pathlib import Path

LETTERS = {"r": Access.READ, "w": Access.WRITE, "x": Access.EXECUTE}
SBE = DeviceContext.SBE.mask
TURNED = ("riscv-msi-flat-mrif", "riscv-pd20-nested", "riscv-little-fctl-sbe-mix", "riscv-dc-ddt-zoo-ext")


class Contexts:
    """A configuration log that remembers where device contexts were read."""

    def __init__(self) -> None:
        self.found: dict[int, DeviceContext] = {}

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        del note
        if issubclass(structure, DeviceContext) and raw is not None:
            self.found[address] = structure.decode(raw)

    def note(self, text: str) -> None:
        del text


def turned(folder: Path) -> tuple[Machine, set[int]]:
    """Give the machine with everything swapped, and the devices that it says nothing of.

    Those are devices whose byte order was wrong only for want of capabilities.END.
    """
    given, log, left_out = registers(folder), Contexts(), set()
    straight = machine_of(folder)
    search = Search(Settings.of(straight.registers), straight.memory, log)
    mixed = Capabilities.decode(given["CAPABILITIES"]).END
    for device in {int(row["rid"], 16) for row in rows(folder)}:
        before = set(log.found)
        search.device_context(device)
        if not mixed and any(log.found[at].SBE for at in log.found.keys() - before):
            left_out.add(device)
    memory = PhysicalMemory()
    with np.load(folder / "memory.npz") as pages:
        for start, page in zip(pages["gpa"].tolist(), pages["page"], strict=True):
            memory.place(start, bytearray(page.reshape(-1, 8)[:, ::-1].tobytes()))
    for at in log.found:
        word = memory.load(at)
        assert word is not None
        memory.store(at, word ^ int.from_bytes(SBE.to_bytes(8, "little"), "big"))
    changed = {"CAPABILITIES": given["CAPABILITIES"] | Capabilities.END.mask, "FCTL": given["FCTL"] | 1}
    return Machine(BOUND, memory, given | changed), left_out


@pytest.mark.parametrize("name", TURNED)
def test_the_same_in_the_other_order(name: str) -> None:
    folder = next(path for path in CAPTURES if path.name == name)
    machine, left_out = turned(folder)
    straight = machine_of(folder)
    asked = [row for row in rows(folder) if int(row["rid"], 16) not in left_out]
    assert len(asked) > 1000
    for row in asked:
        access = LETTERS[row["access"]] | (Access.PRIVILEGED if row["priv"] == "s" else Access(0))
        pasid = int(row["pasid"], 16) if row["pasid"] else None
        coordinates = int(row["rid"], 16), int(row["iova"], 16), access, pasid
        expected, found = (each.explain(*coordinates).outcome for each in (straight, machine))
        if isinstance(expected, Fault):
            assert isinstance(found, Fault), row
            first, second = straight.report(expected), machine.report(found)
            assert first.reason == second.reason, row
            assert (first.record is None) == (second.record is None)
            if first.record is not None and second.record is not None:
                assert np.array_equal(
                    np.frombuffer(first.record, "<u8"), np.frombuffer(second.record, ">u8").astype("<u8")
                )
        else:
            assert found == expected, row
