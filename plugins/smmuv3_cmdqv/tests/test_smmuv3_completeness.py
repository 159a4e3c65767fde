"""Nothing declared goes unused: commands are executed, events produced, registers handled, or it is said why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import viommu_smmuv3_cmdqv
from viommu import Registers
from viommu_smmuv3_cmdqv import driver
from viommu_smmuv3_cmdqv.features import read_features
from viommu_smmuv3_cmdqv.hardware.command_rules import abilities, meanings
from viommu_smmuv3_cmdqv.hardware.faults import EVENT_OF_KIND
from viommu_smmuv3_cmdqv.hardware.operations import OPERATIONS
from viommu_smmuv3_cmdqv.hardware.register_rules import DECLARED, READ_ONLY
from viommu_smmuv3_cmdqv.identity import WHOLE_MODEL
from viommu_smmuv3_cmdqv.spec import LAYOUTS, STRUCTURES
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import CMDQV_REGISTERS
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId
from viommu_smmuv3_cmdqv.spec.queue_registers import GERROR
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS

HARDWARE = Path(viommu_smmuv3_cmdqv.__file__).parent / "hardware"

ILLEGAL_HERE = {CommandOpcode.TLBI_EL3_ALL, CommandOpcode.TLBI_EL3_VA, CommandOpcode.CFGI_VMS_PIDM}
"""Of a state and a feature that are absent: executing them is CERROR_ILL."""

NEVER_RECORDED = {
    EventId.F_UUT: "every transaction that a machine sends is one the SMMU supports",
    EventId.F_TLB_CONFLICT: "the caches find the first entry, and never two",
    EventId.F_CFG_CONFLICT: "the caches find the first entry, and never two",
    EventId.E_PAGE_REQUEST: "a hint that hardware need not give",
    EventId.F_VMS_FETCH: "VM structures belong to MPAM, which is absent",
}

WITHOUT_EFFECT = {
    "CR1": "memory attributes of the SMMU's own accesses: memory has none",
    "GERROR_IRQ_CFG2": "memory attributes of messages: memory has none",
    "EVENTQ_IRQ_CFG2": "memory attributes of messages: memory has none",
}

NEVER_ACTIVE = {"SFM_ERR": "no service failure", "CMDQP_ERR": "no ECMDQ", "DPT_ERR": "no DPT"}


DESCRIBED = meanings(abilities(read_features(Registers(dict(WHOLE_MODEL))))).of


def names_used() -> set[str]:
    """Names, attributes and texts in the hardware's code."""
    used: set[str] = set()
    for path in HARDWARE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg:
                used.add(node.arg)
    return used


@pytest.mark.parametrize("opcode", CommandOpcode)
def test_every_command_is_executed_or_illegal(opcode: CommandOpcode) -> None:
    assert opcode in COMMANDS
    assert [opcode in OPERATIONS, opcode in DESCRIBED, opcode in ILLEGAL_HERE].count(True) == 1


@pytest.mark.parametrize("event", EventId)
def test_every_event_is_produced_or_said_never_to_be(event: EventId) -> None:
    produced = event.name in names_used() or event in EVENT_OF_KIND.values()

    assert event in RECORDS
    assert produced != (event in NEVER_RECORDED)


@pytest.mark.parametrize("name", REGISTERS)
def test_every_register_is_handled_or_said_to_have_no_effect(name: str) -> None:
    used = names_used()
    interrupt = name.endswith(("_IRQ_CFG0", "_IRQ_CFG1")) and "_IRQ_CFG0" in used
    handled = name in used or name.lower() in used or name in READ_ONLY or interrupt

    assert DECLARED[name].layout is REGISTERS[name][1]
    assert handled or name in WITHOUT_EFFECT


@pytest.mark.parametrize("error", GERROR.fields)
def test_every_global_error_is_raised_or_said_never_to_be(error: str) -> None:
    assert (error in names_used()) != (error in NEVER_ACTIVE)


def test_no_two_registers_lie_in_the_same_place() -> None:
    taken = [byte for register in DECLARED.values() for byte in range(register.offset, register.last + 1)]

    assert len(taken) == len(set(taken))
    assert all(register.offset % register.size == 0 for register in DECLARED.values())


def test_everything_that_has_a_layout_can_be_explained() -> None:
    kinds = set(driver.viommu_kinds())

    assert {layout.__name__.lower() for layout in STRUCTURES} <= kinds
    assert {name.lower() for name in REGISTERS} <= kinds
    assert {layout.__name__.lower() for layout in CMDQV_REGISTERS} <= kinds
    assert {"command", "event", "page-request"} <= kinds
    assert {f"pte-s{stage}-l{level}" for stage in (1, 2) for level in range(4)} <= kinds
    assert all(layout.size for layout in LAYOUTS.values())
