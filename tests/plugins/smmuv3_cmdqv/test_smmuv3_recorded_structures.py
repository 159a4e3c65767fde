"""What the host driver writes, beside what a real kernel wrote on the same SMMU: the same bits, addresses aside."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.plugins.smmuv3_cmdqv.guest import Guest
from tests.plugins.smmuv3_cmdqv.program import NEST, RECORDED, SID, Program
from viommu_smmuv3_cmdqv.spec import LAYOUTS
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE

if TYPE_CHECKING:
    from viommu.layout import Descriptor

CAPTURES = Path(__file__).parent.parent.parent / "data" / "captures"
PLACES = {STE: ("S1ContextPtr", "S2TTB"), CD: ("TTB0", "ASID")}
"""Fields in which two kernels may differ."""


class Recording:
    """What a kernel left in memory."""

    def __init__(self, name: str) -> None:
        manifest = json.loads((CAPTURES / name / "manifest.json").read_text())
        self.registers = {key: int(value["value"], 16) for key, value in manifest["registers"].items()}
        with np.load(CAPTURES / name / "memory.npz") as pages:
            self.pages = dict(zip(pages["gpa"].tolist(), pages["page"].copy(), strict=True))

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.pages[address & -4096][address & 4095 :][:size])

    def register(self, name: str) -> Descriptor:
        return LAYOUTS[name].decode(self.registers[name])

    def ste(self, sid: int) -> STE:
        table = self.register("STRTAB_BASE").ADDR  # type: ignore[attr-defined]
        split = self.register("STRTAB_BASE_CFG").SPLIT  # type: ignore[attr-defined]
        leaf = L1STD.decode(self.read(table + (sid >> split) * 8, 8)).L2PTR
        return STE.decode(self.read(leaf + (sid & (1 << split) - 1) * 64, 64))


@cache
def recording(name: str) -> Recording:
    return Recording(name)


def without_places(entry: Descriptor) -> Descriptor:
    return entry.replace(**dict.fromkeys(PLACES[type(entry)], 0))


@pytest.mark.parametrize("name", ["CR0", "CR0ACK", "CR1", "CR2", "IRQ_CTRL", "STRTAB_BASE_CFG"])
def test_registers_are_as_the_kernel_left_them(name: str) -> None:
    program = Program.make(RECORDED)
    program.machine.add_device(SID)
    offset, layout = REGISTERS[name]
    found = layout.decode(program.machine.read_register(offset, layout.size))
    assert found == recording("smmuv3-s1").register(name)


def test_a_device_that_nobody_attached_has_the_kernels_entry() -> None:
    program = Program.make(RECORDED)
    device = program.machine.add_device(SID)
    assert program.master(device).ste == recording("smmuv3-s1").ste(SID + 1)


def test_a_domain_of_stage_1_has_the_kernels_ste_and_cd() -> None:
    program = Program.make(RECORDED)
    device = program.machine.add_device(0)
    program.bind(device).attach(program.ioas())
    kernels, ours = recording("smmuv3-s1").ste(0), program.master(device).ste
    assert without_places(ours) == without_places(kernels)
    cd = CD.decode(program.machine.memory.read(ours.S1ContextPtr, 64) or b"")
    assert without_places(cd) == without_places(CD.decode(recording("smmuv3-s1").read(kernels.S1ContextPtr, 64)))


def test_a_nesting_parent_has_the_kernels_ste() -> None:
    program = Program.make(RECORDED)
    device = program.machine.add_device(SID)
    bound = program.bind(device)
    bound.attach(program.hwpt(bound, program.ioas(), NEST))
    kernels = recording("smmuv3-nested-s2only-parent").ste(SID)
    assert without_places(program.master(device).ste) == without_places(kernels)


@pytest.mark.parametrize(
    ("name", "ste"),
    [
        ("4k-48", STE(V=1, Config=5, S1ContextPtr=0x4000_0000, S1CIR=1, S1COR=1, S1CSH=3)),
        ("ste-cdmax2", STE(V=1, Config=5, S1ContextPtr=0x4006_E000, S1CDMax=2, S1CIR=1, S1COR=1, S1CSH=3)),
        ("bypass", STE(V=1, Config=4)),
        ("abort", STE(V=1, Config=0)),
        ("v0", STE()),
    ],
)
def test_a_nested_domain_has_the_kernels_ste(name: str, ste: STE) -> None:
    program = Program.make(RECORDED)
    device = program.machine.add_device(SID)
    guest = Guest.make(program, program.bind(device))
    guest.vdevice(guest.device, 0xA10)
    guest.device.attach(guest.nested(ste))
    ours, kernels = program.master(device).ste, recording(f"smmuv3-nested-{name}").ste(SID)
    assert ours.replace(S2TTB=0) == kernels.replace(S2TTB=0)
