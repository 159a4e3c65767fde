"""The programmable VT-d unit on recordings: what Linux gave it to execute, and the records that were written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugins.vtd.tests.programming import Software
from viommu.captures.capture import load
from viommu.faults import Fault
from viommu_vtd.hardware.live.register_map import declared
from viommu_vtd.spec.commands import InvalidationType
from viommu_vtd.spec.registers import CAP, ECAP, RTADDR

if TYPE_CHECKING:
    from viommu.captures.capture import Capture
    from viommu.machine import Machine

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
NAMES = ("vtd-legacy-aw48", "vtd-scalable-ss", "vtd-scalable-fs")
BATCH = 16


def abilities(capture: Capture) -> tuple[CAP, ECAP]:
    return CAP.decode(capture.registers["CAP"]), ECAP.decode(capture.registers["ECAP"])


def record(machine: Machine, capture: Capture) -> int:
    registers = declared(*abilities(capture))
    low, high = registers["FRCD0_LO"], registers["FRCD0_HI"]
    return machine.read_register(low.offset, 8) | machine.read_register(high.offset, 8) << 64


@pytest.mark.parametrize("name", NAMES)
def test_a_captured_unit_reads_as_it_was_captured(name: str) -> None:
    capture = load(CAPTURES / name)
    machine = capture.machine()
    registers = declared(*abilities(capture))

    for register, value in capture.registers.values.items():
        assert machine.read_register(registers[register].offset, registers[register].size) == value


@pytest.mark.parametrize("name", NAMES)
def test_an_access_writes_the_record_that_was_recorded(name: str) -> None:
    capture = load(CAPTURES / name)
    machine = capture.machine()
    clear = declared(*abilities(capture))["FRCD0_HI"].offset
    rows = [(row.described, row.provoked.asked) for row in capture.faults() if row.provoked is not None]
    assert len(rows) > 1600

    for row, asked in rows[::7]:
        assert isinstance(machine.translate(asked.requester, asked.iova, asked.access, asked.pasid), Fault)
        mask = (1 << 128) - 1 if row.mask is None else int.from_bytes(row.mask, "little")

        assert record(machine, capture) & mask == int.from_bytes(row.raw, "little") & mask
        machine.write_register(clear, 1 << 63, 8)


@pytest.mark.parametrize("name", NAMES)
def test_every_descriptor_that_linux_wrote_is_executed(name: str) -> None:
    capture = load(CAPTURES / name)
    software = Software.make(*abilities(capture))
    software.guest.mode = int(RTADDR.decode(capture.registers["RTADDR"]).TTM)
    software.set_root()
    software.enable_queue()
    raw = [row.raw for row in capture.commands()]

    for start in range(0, len(raw), BATCH):
        software.submit(*raw[start : start + BATCH])

        assert software.read("IQH") == software.read("IQT")
        assert int(software.fsts) == 0
    kinds = [InvalidationType(one[0] & 0xF).name.lower() for one in raw]
    assert software.machine.command_counts == {kind: kinds.count(kind) for kind in set(kinds)}
