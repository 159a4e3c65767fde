from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.core.captured import RECORDINGS, toy_guest
from tests.core.toy import Device, ToyDriver
from viommu import Access, Fault, Machine, PhysicalMemory
from viommu._engine import explain_walk
from viommu.captures.capture import load
from viommu.drivers import bind_plugin
from viommu.explain import Entry, Fetch, Note, fields_of, grouped
from viommu.explain_text import size_text
from viommu.formats import X86, Context, VtdSecondStage

if TYPE_CHECKING:
    from viommu.explain import Explanation


@pytest.fixture
def machine() -> Machine:
    guest = toy_guest()
    return Machine(bind_plugin(ToyDriver()), guest.memory, guest.registers)


def test_what_was_read_is_told_in_order_with_its_fields(machine: Machine) -> None:
    explained = machine.explain(3, 0x5010, Access.READ)

    [fetch] = explained.configuration
    assert isinstance(fetch, Fetch)
    assert (fetch.structure, fetch.address) == ("Device", machine.registers["TABLE"] + 48)
    assert {value.name: value.value for value in fetch.fields} == {
        "Valid": 1, "Table": machine.registers["TABLE"] + 0x1000, "Domain": 7,
    }  # fmt: skip
    entries = [step.entry for step in explained.walk]
    assert [entry and (entry.stage, entry.level, entry.verdict) for entry in entries] == [
        (1, 2, "table"), (1, 1, "table"), (1, 0, "leaf"),
    ]  # fmt: skip
    assert explained.report is None


def test_a_refusal_says_what_was_missing(machine: Machine) -> None:
    explained = machine.explain(200, 0x5010, Access.WRITE, 3)

    assert explained.configuration == (Note("the device table ends before this requester"),)
    assert isinstance(explained.outcome, Fault)
    assert explained.report is not None
    assert "refused by the configuration, TOO_HIGH" in str(explained)
    assert "PASID 0x3" in str(explained)


def test_a_structure_in_a_hole_is_told() -> None:
    guest = toy_guest()
    machine = Machine(bind_plugin(ToyDriver()), guest.memory, {"TABLE": 0x10, "SIZE": 16})

    text = str(machine.explain(3, 0, Access.READ))

    assert "Device at 0x40: no memory is there" in text
    assert "the structure at 0x40 could not be read" in text


def test_the_deciding_entry_is_shown_with_its_reason(machine: Machine) -> None:
    explained = machine.explain(3, 0x5010, Access.WRITE)

    assert "refused in stage 1, level 0: a right is missing (PERMISSION)" in str(explained)
    assert "missing: write" in str(explained)
    assert explained.to_json()["result"]["missing"] == "w"


def test_an_access_that_passes_through_needs_no_walk(machine: Machine) -> None:
    explained = machine.explain(4, 0x5010, Access.READ)

    assert explained.walk == ()
    assert "PA 0x5010, untranslated" in str(explained)
    assert explained.to_json()["result"]["outcome"] == "bypass"


def test_reserved_bits_that_are_set_are_fields_that_matter() -> None:
    raw = Device(Valid=1).encode()[:15] + b"\x80"

    assert [(value.name, value.value) for value in fields_of(Device, raw)] == [("Valid", 1), ("reserved", 1 << 127)]
    assert fields_of(Device, b"short") == ()
    assert fields_of(int, raw) == ()


def test_every_explanation_is_json(machine: Machine) -> None:
    for requester, iova in ((3, 0x5010), (3, 0x9000), (4, 0), (5, 0), (200, 0), (3, 1 << 63)):
        for access in (Access.READ, Access.WRITE | Access.PRIVILEGED):
            shown = json.loads(json.dumps(machine.explain(requester, iova, access).to_json()))
            assert shown["rid"] == hex(requester)


def nested(iova: int, access: Access) -> Explanation:
    return load(RECORDINGS / "smmuv3-nested-4k-48").machine().explain(0x28, iova, access)


def test_stage_2_stands_beneath_the_stage_1_entry_that_it_found() -> None:
    explained = nested(0x1000, Access.READ)

    *first, last = [step for step in explained.walk if step.entry and step.entry.stage == 1]
    for step in (*first, last):
        assert step.entry is not None
        assert {entry.input for entry in step.beneath} == {step.entry.address}
        assert step.beneath[-1].output == step.entry.pa
    assert last.entry is not None
    assert last.entry.verdict == "leaf"
    final = [step for step in explained.walk if step.entry and step.entry.stage == 2]
    assert {step.entry.input for step in final if step.entry} == {last.entry.output}
    assert all(step.beneath == () for step in final)


def test_a_stage_1_entry_that_stage_2_kept_from_being_read_is_told_as_unread() -> None:
    explained = nested(0x1_0000_0000, Access.READ)

    unread = explained.walk[-1]
    assert unread.entry is None
    assert unread.beneath[-1].verdict == "fault"
    assert unread.to_json()["verdict"] == "unread"
    assert "never read" in str(explained)
    assert "while reaching for a stage-1 entry at IPA 0xb0000000" in str(explained)


def nested_entries(*, writable_tables: bool) -> list[Entry]:
    """Explain a read by tables of the guest that have no accessed flag yet: x86-64 behind VT-d's second stage."""
    memory = PhysicalMemory()
    memory.place(0x10_0000, np.zeros(1 << 15, np.uint64))
    memory.store(0x10_0000, 0x10_1000 | 3)
    memory.store(0x10_1000, 0x80 | (3 if writable_tables else 1))  # one identical page of 1 GiB
    for level in range(4):
        memory.store(0x11_0000 + level * 0x1000, 0x11_1000 + level * 0x1000 | 7)
    context = Context(stage1=X86(table=0x11_0000, levels=4), stage2=VtdSecondStage(table=0x10_0000, levels=3))
    return [Entry.of(step) for step in explain_walk(memory.engine, context, 0, 1)[1]]


def test_what_stage_2_reads_to_store_a_flag_stands_beneath_the_entry_that_is_updated() -> None:
    *stage1, final = grouped(nested_entries(writable_tables=True))[:5]

    for step in stage1:
        assert step.entry is not None
        assert step.entry.updated == step.entry.raw | 0x20
        assert [entry.input for entry in (*step.beneath, *step.beneath_store)] == [step.entry.address] * 4
    assert final.entry is not None
    assert final.entry.stage == 2


def test_a_flag_that_stage_2_keeps_from_being_stored_is_told_where_it_happens() -> None:
    [step] = grouped(nested_entries(writable_tables=False))

    assert [entry.verdict for entry in step.beneath] == ["table", "leaf"]
    assert [entry.verdict for entry in step.beneath_store] == ["table", "fault"]
    assert step.to_json()["beneath_store"][1]["kind"] == "PERMISSION"


@pytest.mark.parametrize(
    ("size", "text"), [(4096, "4K"), (0x20_0000, "2M"), (1 << 30, "1G"), (0x1_0000, "64K"), (1 << 39, "512G"), (8, "8")]
)
def test_sizes_are_written_as_people_say_them(size: int, text: str) -> None:
    assert size_text(size) == text
