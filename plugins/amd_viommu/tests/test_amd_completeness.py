"""Every layout of the specification is handled by the hardware model, or stands here with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

import viommu_amd_viommu
from viommu.commands import CommandTable
from viommu_amd_viommu.explain import KINDS
from viommu_amd_viommu.hardware.command_legality import NEEDS
from viommu_amd_viommu.hardware.commands import EFFECTS
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.layouts import LAYOUTS
from viommu_amd_viommu.spec.command_meanings import CommandAbilities, meanings
from viommu_amd_viommu.spec.commands import COMMANDS, Opcode
from viommu_amd_viommu.spec.events import EVENTS, EventCode
from viommu_amd_viommu.spec.registers import EFR

HARDWARE = Path(viommu_amd_viommu.__file__).parent / "hardware"

NEVER_LEGAL = {Opcode.INSERT_GUEST_EVENT}
"""Which event it inserts is not known."""

NEVER_LOGGED = {
    EventCode.EVENT_COUNTER_ZERO: "there are no performance counters",
    EventCode.RMP_FAULT: "SEV-SNP is not modelled",
    EventCode.RMP_HW_ERROR: "SEV-SNP is not modelled",
}

ONLY_STORED = {
    **dict.fromkeys(("GABASE", "GATAILADDR", "GAHEAD", "GATAIL", "XTGAINT"), "interrupts are not remapped"),
    **dict.fromkeys((f"SMIFILTER{number}" for number in range(16)), "system-management interrupts are not modelled"),
    **dict.fromkeys((f"MARC{n}{part}" for n in range(4) for part in ("BASE", "RELOC", "LENGTH")), "not modelled"),
    **dict.fromkeys(("DSFX", "DSCX", "DSSX"), "there are no device-specific features"),
    **dict.fromkeys(("MSIVECTOR1", "MSIMAP"), "no GA log interrupt is sent; the mapping is fixed"),
    "PERFOPT": "nothing to optimize",
    "VIOMMUSTATUS": "its bits are not known",
    "COUNTERCFG": "there are no performance counters",
}
"""Registers that nothing reacts to or reads, with the reason."""

ENTRIES_OF_NOBODY = {"GALogEntry": "interrupts are not remapped"}


def strings_of_the_hardware() -> set[str]:
    """Every string in the hardware's code, but for the register map's own."""
    found: set[str] = set()
    for path in HARDWARE.rglob("*.py"):
        if path.name != "register_map.py":
            tree = ast.parse(path.read_text())
            found |= {
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and str is type(node.value)
            }
    return found


def names_of_the_hardware() -> set[str]:
    """Every name and attribute in the hardware's code."""
    found: set[str] = set()
    for path in HARDWARE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found


def test_every_opcode_has_a_layout_and_an_effect_or_is_never_legal() -> None:
    assert set(COMMANDS) == set(Opcode)
    described = meanings(CommandAbilities(guest_tables=True, prefetch=True), CommandTable()).of
    done_here = {opcode for opcode, layout in COMMANDS.items() if layout in EFFECTS}
    assert done_here | set(described) == set(Opcode) - NEVER_LEGAL
    assert done_here & set(described) == {Opcode.COMPLETION_WAIT, Opcode.PREFETCH_IOMMU_PAGES}
    assert not any(NEEDS[opcode](EFR.decode((1 << 64) - 1)) for opcode in NEVER_LEGAL)


def test_every_event_has_a_layout_and_is_logged_or_stands_here_with_the_reason() -> None:
    names = names_of_the_hardware()

    assert set(EVENTS) == set(EventCode)
    assert {code for code in EventCode if EVENTS[code].__name__ in names or code.name in names} >= (
        set(EventCode) - set(NEVER_LOGGED)
    )
    assert not [code for code in NEVER_LOGGED if EVENTS[code].__name__ in names]


def test_every_register_is_used_by_the_hardware_or_stands_here_with_the_reason() -> None:
    strings = strings_of_the_hardware()
    segments = {f"DEVTAB_SEG{number}" for number in range(1, 8)}

    assert set(REGISTERS) - strings - segments == set(ONLY_STORED)


def test_every_layout_can_be_explained() -> None:
    layouts = {register.layout for register in REGISTERS.values()} | {*COMMANDS.values(), *EVENTS.values()}
    others = {name for name, layout in LAYOUTS.items() if layout not in layouts}

    assert others == {"DTE", "GCR3Entry", "PPRLogEntry", *ENTRIES_OF_NOBODY}
    assert {"command", "event", "dte", "gcr3-entry", "page-request", "guest-apic-log-entry"} <= set(KINDS)
