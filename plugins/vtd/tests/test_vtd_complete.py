"""Nothing that the specification has is silently missing: it is executed, produced or handled, or named as absent."""

from __future__ import annotations

import pytest

from plugins.vtd.tests.guest import USED, A, D, R, W
from plugins.vtd.tests.programming import Software
from viommu.faults import Access
from viommu_vtd.hardware.live.commands import HANDLERS, Executor
from viommu_vtd.hardware.live.register_map import ABSENT, FULL_CAP, FULL_ECAP, declared
from viommu_vtd.hardware.reasons import legacy_reason, scalable_reason
from viommu_vtd.spec import EVENT_REGISTERS, LAYOUTS, REGISTERS
from viommu_vtd.spec.commands import COMMANDS, WIDE
from viommu_vtd.spec.faults import FRCD, FSTS, FaultReason
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.registers import GCMD, GSTS

SHEET = {
    0x00: "VER", 0x08: "CAP", 0x10: "ECAP", 0x18: "GCMD", 0x1C: "GSTS", 0x20: "RTADDR", 0x28: "CCMD", 0x34: "FSTS",
    0x38: "FECTL", 0x3C: "FEDATA", 0x40: "FEADDR", 0x44: "FEUADDR", 0x58: "AFLOG", 0x64: "PMEN", 0x68: "PLMBASE",
    0x6C: "PLMLIMIT", 0x70: "PHMBASE", 0x78: "PHMLIMIT", 0x80: "IQH", 0x88: "IQT", 0x90: "IQA", 0x9C: "ICS",
    0xA0: "IECTL", 0xA4: "IEDATA", 0xA8: "IEADDR", 0xAC: "IEUADDR", 0xB0: "IQERCD", 0xB8: "IRTA", 0xC0: "PQH",
    0xC8: "PQT", 0xD0: "PQA", 0xDC: "PRS", 0xE0: "PECTL", 0xE4: "PEDATA", 0xE8: "PEADDR", 0xEC: "PEUADDR",
    0x100: "MTRRCAP", 0x300: "PERFCAP", 0x400: "ECMD",
}  # fmt: skip
"""Every register at a fixed offset, as the specification prints it (11.4)."""

HELD = {
    "VER", "CAP", "ECAP", "GSTS", "RTADDR", "IQH", "IQERCD", "IRTA", "PQH", "PQT", "PQA", "IVA",
    *(name for name in EVENT_REGISTERS if not name.endswith("CTL")),
}  # fmt: skip
"""Registers that only hold a value, which hardware reads or writes when something else happens."""

RAISED_BY_NOBODY = {
    "AFO": "advanced fault logging is absent",
    "APF": "advanced fault logging is absent",
    "PRO": "page-request overflow is told by PRS since it exists",
}
"""Fault status that software may find in a capture alone."""

NEVER_MET = {
    **dict.fromkeys((reason for reason in FaultReason if 0x20 <= reason < 0x30), "interrupt remapping is not modelled"),
    FaultReason.SM_CONTEXT_INVALID: "a RID_PASID beyond the directory is 48, for which Linux has the words",
    FaultReason.EXECUTE_DISABLED: "of older revisions: ERE is reserved now",
    FaultReason.GENERAL_9: "no source says what for",
    FaultReason.GENERAL_10: "no source says what for",
}
"""Reasons that this hardware never gives."""


def test_every_register_of_the_specification_is_there_or_named_as_absent() -> None:
    there = {offset: name for name, offset in OFFSETS.items()}

    assert there == {offset: name for offset, name in SHEET.items() if name not in ABSENT}
    assert set(ABSENT) == set(SHEET.values()) - set(OFFSETS)


def test_every_layout_of_a_register_is_in_the_file() -> None:
    names = set(declared(FULL_CAP, FULL_ECAP))

    for name in REGISTERS | EVENT_REGISTERS:
        assert name in names or f"{name.partition('_')[0]}0_{name.partition('_')[2]}" in names


def test_every_register_sets_something_off_or_is_one_that_only_holds_a_value() -> None:
    software = Software.make()
    reactions = set(software.machine.hardware.model._reactions)  # type: ignore[attr-defined]
    for index in range(FULL_CAP.NFR + 1):
        assert f"FRCD{index}_HI" in reactions
    there = {name for name in declared(FULL_CAP, FULL_ECAP) if not name.startswith("FRCD")}

    assert {name for name in reactions if not name.startswith("FRCD")} == there - HELD


def test_every_handler_is_one() -> None:
    for kind, (_, method) in HANDLERS.items():
        assert callable(getattr(Executor, method)), kind
    assert {layout.__name__ for layout in (*COMMANDS.values(), *WIDE.values())} <= LAYOUTS.keys()


def test_every_command_bit_changes_a_status_bit_or_is_a_no_op_on_this_hardware() -> None:
    told = {}
    for name in GCMD.fields:
        software = Software.make()
        software.command(**{name: 1})
        told[name] = {status for status in GSTS.fields if getattr(software.gsts, status)}

    assert told == {
        "CFI": {"CFIS"}, "SIRTP": {"IRTPS"}, "IRE": {"IRES"}, "QIE": {"QIES"}, "WBF": set(), "EAFL": set(),
        "SFL": set(), "SRTP": {"RTPS"}, "TE": {"TES"},
    }  # fmt: skip


def test_every_fault_status_bit_is_raised_by_something_or_named() -> None:
    raised = {"PFO", "PPF", "IQE", "ITE", "ICE", "FRI"}  # test_vtd_fault_log, test_vtd_queue, test_vtd_time_outs

    assert raised | RAISED_BY_NOBODY.keys() == FSTS.fields.keys()


def reasons_of_code() -> set[FaultReason]:
    """Reasons that appear in the code that refuses."""
    names = set()
    for function in (legacy_reason, scalable_reason):
        names |= {*function.__code__.co_names}
        for part in function.__globals__.values():
            names |= {*getattr(getattr(part, "__code__", None), "co_names", ())}
    return {reason for reason in FaultReason if reason.name in names}


def test_every_reason_is_told_by_a_test_or_named_as_never_met() -> None:
    """Those of page tables come from the neutral fault; those of structures are each the subject of a test."""
    structures = {
        *range(0x01, 0x04), *range(0x08, 0x0C), 0x0D, *range(0x30, 0x34), 0x38, 0x39, 0x3A, 0x40, 0x41, 0x42,
        *range(0x44, 0x49), 0x50, 0x51, 0x52, *range(0x58, 0x5C),
    }  # fmt: skip

    met = {FaultReason(code) for code in structures} | reasons_of_code()

    assert set(FaultReason) - met == set(NEVER_MET)
    assert not met & set(NEVER_MET)


@pytest.mark.parametrize("reason", [reason for reason in FaultReason if reason not in NEVER_MET])
def test_every_reason_is_recorded_as_it_is(reason: FaultReason) -> None:
    raw = FRCD(FR=reason, F=1).encode()

    assert FRCD.decode(raw).FR is reason


def test_dirty_and_accessed_bits_are_stored_by_hardware_where_they_are_enabled() -> None:
    software = Software.make()
    guest = software.guest
    first, second = guest.page(), guest.page()
    leaf = guest.map(first, 4, 0x1000, guest.page() | USED & ~A, link=USED)
    below = guest.map(second, 4, guest.root, guest.root & -(1 << 30) | 1 << 7 | R | W, leaf_level=2)
    guest.pasid(0x8, 0, PasidTableEntry(P=1, PGTT=3, AW=2, DID=5, SSADE=1, PWSNP=1, FSPTPTR=first, SSPTPTR=second))
    software.enable()

    software.machine.translate(0x8, 0x1000, Access.READ)
    assert (guest.memory.load(leaf) or 0) & (A | D) == A
    software.machine.translate(0x8, 0x1000, Access.WRITE)

    assert (guest.memory.load(leaf) or 0) & (A | D) == A | D
    assert (guest.memory.load(below) or 0) & 0x300 == 0x300
