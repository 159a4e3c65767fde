"""The installed SMMUv3 driver explains what was recorded as the recordings do, to the same bytes again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from viommu import drivers
from viommu.decoding.naming import field_of

CAPTURES = sorted(Path(__file__).parent.parent.glob("data/captures/smmuv3-*"))
DRIVER = drivers.bind("smmuv3_cmdqv")
NOT_OF_THE_COMMAND = {("CFGI_STE_RANGE", "leaf")}
"""The recording's decoder reads a bit of Range as a Leaf, which this command does not have."""


def rows_of(name: str) -> list[dict[str, str]]:
    return [
        row
        for capture in CAPTURES
        if (capture / name).exists()
        for row in csv.DictReader((capture / name).read_text().splitlines())
    ]


def number(value: int | str) -> int:
    return int(value, 16) if isinstance(value, str) else value


@pytest.mark.parametrize(("file", "kind", "name"), [("commands.csv", "command", "op"), ("faults.csv", "event", "type")])
def test_recorded_bytes_read_as_recorded(file: str, kind: str, name: str) -> None:
    rows = rows_of(file)
    assert len(rows) > 100
    for row in rows:
        fields, raw = json.loads(row["fields"]), bytes.fromhex(row["raw"])
        mask = int.from_bytes(bytes.fromhex(row["mask"]), "little") if "mask" in row else -1

        decoded = DRIVER.decode(kind, raw)

        assert decoded.name == fields.pop(name), row
        assert decoded.descriptor.encode() == raw
        for field, value in fields.items():
            spec = field_of(decoded, field)
            if (decoded.name, field) in NOT_OF_THE_COMMAND:
                continue
            if spec is None:
                assert not number(value), row
            elif spec.mask & mask == spec.mask:
                assert spec.take(int(decoded.descriptor)) == number(value) & spec.maximum & -(1 << spec.shift), row
