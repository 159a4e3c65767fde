"""The installed SMMUv3 driver against what was recorded: translations, event records, and rows that are disputed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from viommu.faults import Access, Fault
from viommu.machine import Machine
from viommu.memory import PhysicalMemory
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId, OperationClass, TranslationRecord

Row = dict[str, str]

CAPTURES = sorted(Path(__file__).parent.parent.glob("data/captures/smmuv3-*"))
ACCESSES = {"r": Access.READ, "w": Access.WRITE}
FIELDS = {
    "ssv": "SSV", "ssid": "SSID", "sid": "SID", "stag": "STAG", "stall": "STALL", "pnu": "PnU", "ind": "InD",
    "rnw": "RnW", "s2": "S2", "cls": "CLASS", "addr": "InputAddr",
}  # fmt: skip
"""Names of the recording's decoder, which is not ours."""
OUTPUT_BITS = 44
"""IDR5.OAS of the recorded SMMU."""

each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)


def rows_of(capture: Path, name: str) -> list[Row]:
    file = capture / name
    return list(csv.DictReader(io.StringIO(file.read_text()))) if file.exists() else []


def machine_of(capture: Path) -> Machine:
    manifest = json.loads((capture / "manifest.json").read_text())
    registers = {name: int(register["value"], 16) for name, register in manifest["registers"].items()}
    memory = PhysicalMemory()
    with np.load(capture / "memory.npz") as pages:
        for address, page in zip(pages["gpa"], pages["page"], strict=True):
            memory.place(int(address), page.copy())
    return Machine("smmuv3_cmdqv", memory, registers)


def verdict(machine: Machine, row: Row) -> tuple[Row, bytes]:
    """Our row, and the record that goes with it."""
    pasid = int(row["pasid"], 16) if row["pasid"] else None
    found = machine.translate(int(row["rid"], 16), int(row["iova"], 16), ACCESSES[row["access"]], pasid)
    if isinstance(found, Fault):
        report = machine.report(found)
        return {"outcome": report.outcome, "fault": report.reason if report.record else ""}, report.record or b""
    outcome = "bypass" if found.untranslated else "ok"
    return {"outcome": outcome, "pa": hex(found.pa), "page_size": hex(found.page_size)}, b""


def under_mask(record: bytes, mask: str) -> bytes:
    return bytes(byte & kept for byte, kept in zip(record, bytes.fromhex(mask), strict=False))


@each_capture
def test_every_recorded_access_ends_as_recorded(capture: Path) -> None:
    machine = machine_of(capture)
    for row in rows_of(capture, "translations.csv"):
        said, record = verdict(machine, row)

        known = {name: row[name] for name in said if row[name]}
        assert {name: said[name] for name in known} == known, row
        assert under_mask(record, row["record_mask"]) == under_mask(bytes.fromhex(row["record"]), row["record_mask"]), (
            row
        )


@each_capture
def test_every_recorded_event_reads_as_another_decoder_read_it(capture: Path) -> None:
    for row in rows_of(capture, "faults.csv"):
        raw, fields = bytes.fromhex(row["raw"]), json.loads(row["fields"])
        layout = RECORDS[EventId[fields["type"]]]
        record = layout.decode(raw)

        known = {ours: fields[name] for name, ours in FIELDS.items() if ours in layout.fields and name in fields}
        assert {name: int(getattr(record, name)) for name in known} == known, row
        rebuilt = layout(**{name: getattr(record, name) for name in layout.fields}).encode()
        assert under_mask(rebuilt, row["mask"]) == under_mask(raw, row["mask"]), row


@each_capture
def test_disputed_accesses_end_as_the_architecture_says(capture: Path) -> None:
    machine = machine_of(capture)
    for row in rows_of(capture, "disputed.csv"):
        said, raw = verdict(machine, row)

        record = TranslationRecord.decode(raw)
        whose = f"s2={record.S2}:class={OperationClass(record.CLASS).name}"
        assert f"fault:{said['fault']}:{whose}" == by_the_architecture(row), row


def by_the_architecture(row: Row) -> str:
    """The second walker's verdict, but for addresses that are too large for a stage 1 that is bypassed.

    That is an Address Size fault of stage 1 (IHI 0070, 3.4), which the second walker does not check.
    """
    if int(row["iova"], 16) >> OUTPUT_BITS:
        return "fault:F_ADDR_SIZE:s2=0:class=IN"
    return row["second_walker"].partition(":ipa=")[0]
