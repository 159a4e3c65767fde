"""The VT-d driver on tables that a real Linux kernel wrote, judged by QEMU except where the specification differs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import evolve, frozen

from viommu.captures.capture import load
from viommu.captures.rows import MutatedRow, Verdict
from viommu.faults import Fault, FaultKind
from viommu.replay.run import replay
from viommu.replay.verdicts import differences, reported
from viommu.translation import Translation

if TYPE_CHECKING:
    from viommu.machine import Machine

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
NAMES = ("vtd-legacy-aw48", "vtd-scalable-ss", "vtd-scalable-fs")


RULES = {
    "vtd-root-table": "of a scalable-mode root entry only the half that serves the function is checked",
    "vtd-root-table 0x52": "bits that are reserved come before what makes an entry invalid (another table was read)",
    "vtd-context-table 0x52": "likewise",
    "vtd-context-table 0x5a": "likewise",
    "vtd-context-table 0x42": "PASIDE, PRE and RID_PASID are reserved without their capabilities",
    "vtd-pasid-directory 0x52": "bits 11:2, and those of an address beyond the host's, are reserved",
    "vtd-pasid-table 0x5a": "reserved bits are, and so are fields without their capability",
    "vtd-pasid-table": "AW is the width of second stage: a first-stage entry may hold any",
    "vtd-page-table 0x90": "accessed and dirty flags cannot be stored while PWSNP is 0",
    "vtd-page-table 0x7a": "SNP is reserved while ECAP.SC is 0",
}
"""Where the specification says something else than QEMU: the structure that was changed, and the reason we give."""

EXPECTED = {
    "vtd-legacy-aw48": {"agrees": 703, "elsewhere": 102},
    "vtd-scalable-ss": {
        "agrees": 1062, "elsewhere": 31, "vtd-root-table": 38, "vtd-root-table 0x52": 2, "vtd-context-table 0x42": 29,
        "vtd-context-table 0x52": 1, "vtd-context-table 0x5a": 1, "vtd-pasid-directory 0x52": 33,
        "vtd-pasid-table 0x5a": 542, "vtd-page-table 0x7a": 4,
    },
    "vtd-scalable-fs": {
        "agrees": 941, "elsewhere": 93, "vtd-root-table": 36, "vtd-context-table 0x42": 28,
        "vtd-pasid-directory 0x52": 36, "vtd-pasid-table 0x5a": 555, "vtd-pasid-table": 2, "vtd-page-table 0x90": 15,
    },
}  # fmt: skip


@frozen
class Flipped:
    """A machine on a capture, one bit of which is flipped for one access."""

    machine: Machine

    def verdict(self, row: MutatedRow) -> tuple[Verdict, Fault | None]:
        self._flip(row)
        asked = row.asked
        found = self.machine.translate(asked.requester, asked.iova, asked.access, asked.pasid)
        self._flip(row)
        if isinstance(found, Translation):
            return Verdict("bypass" if found.untranslated else "ok", found.pa, found.page_size), None
        return reported(self.machine.report(found)), found

    def _flip(self, row: MutatedRow) -> None:
        word = self.machine.memory.load(row.address)
        assert word is not None
        self.machine.memory.store(row.address, word ^ 1 << row.bit)
        self.machine.translator.invalidate_contexts()


@pytest.mark.parametrize("name", NAMES)
def test_every_access_and_every_fault_record_is_as_recorded(name: str) -> None:
    capture = load(CAPTURES / name)

    found = replay(capture, capture.machine(), ("translations", "faults"))

    assert found.agreed, found.mismatches
    assert found.sections["translations"].agreed == capture.counts["translations"]
    assert found.sections["faults"].agreed > 1600


def kind_of(row: MutatedRow, ours: Verdict, fault: Fault | None) -> str:
    """Say how our verdict on a flipped bit stands to QEMU's."""
    if row.recorded.outcome == "ok":
        # The record that came with some is of another access: the device acted on what it had read.
        row = evolve(row, recorded=evolve(row.recorded, record=None))
    if not differences(row, ours):
        return "agrees"
    if left_the_capture(fault):
        return "elsewhere"
    name = f"{row.structure} {ours.fault}".strip()
    return name if name in RULES else "unexplained"


def left_the_capture(fault: Fault | None) -> bool:
    """Whether the flipped bit sent us to memory that was not captured, whatever QEMU found there."""
    if fault is None:
        return False
    return fault.kind is FaultKind.EXTERNAL_ABORT or (fault.refusal is not None and fault.refusal.address is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_does_what_it_did_in_qemu_but_for_rules_that_qemu_lacks(name: str) -> None:
    capture = load(CAPTURES / name)
    flipped = Flipped(capture.machine())

    found = Counter(kind_of(row, *flipped.verdict(row)) for row in capture.mutations())

    assert found == EXPECTED[name]
