"""Makes captures of the toy, as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.core.toy import Guest

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = (
    "rid", "pasid", "iova", "access", "outcome", "pa", "page_size", "fault", "qemu_fault", "record", "record_mask",
    "oracle",
)  # fmt: skip

RECORDINGS = Path(__file__).parents[1] / "data" / "captures"


def translation(
    rid: str, iova: str, access: str, outcome: str, *, pa: str = "", page_size: str = "", fault: str = "",
    pasid: str = "", record: str = "", record_mask: str = "",
) -> tuple[str, ...]:  # fmt: skip
    return (rid, pasid, iova, access, outcome, pa, page_size, fault, "", record, record_mask, "hand")


GOOD_ROWS = (
    translation("0x3", "0x5010", "r", "ok", pa="0x80000010", page_size="0x1000"),
    translation("3", "0x5010", "w", "fault", fault="PERMISSION", record="10500000000000000300000004000000"),
    translation("0x3", "0x7000", "r", "fault", fault="TRANSLATION"),
    translation("0x4", "0xdead000", "w", "bypass", pa="0xdead000"),
    translation("0x4", "0xdead000", "x", "ok", pa="0xdead000", page_size="0x0"),
    translation("0x5", "0x5000", "r", "abort"),
    translation("0x80", "0x5000", "r", "fault", fault="17"),
)


def toy_guest() -> Guest:
    guest = Guest()
    guest.map(0x5000, 0x8000_0000, writable=False)
    guest.map(0x20_0000, 0x4000_0000, level=1)
    return guest


def write_table(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> None:
    """Write a table anew; a manifest that is there already counts what it has now."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    manifest = path.parent / "manifest.json"
    if manifest.exists():
        told = json.loads(manifest.read_text())
        told["counts"][path.stem] = len(rows)
        manifest.write_text(json.dumps(told))


def write_capture(
    folder: Path, rows: Sequence[Sequence[str]] = GOOD_ROWS, guest: Guest | None = None, **changes: object
) -> Path:
    """Write a capture of ``guest`` (None: `toy_guest`); ``changes`` are fields of its manifest."""
    guest = guest or toy_guest()
    folder.mkdir(parents=True)
    manifest = {
        "format": "viommu-capture/1",
        "name": folder.name,
        "driver": "toy",
        "mmio_base": "0x1000",
        "registers": {name: {"offset": None, "value": hex(value)} for name, value in guest.registers.items()},
        "memory": {"file": "memory.npz"},
        "counts": {"translations": len(rows)},
        **changes,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    gpa, page = guest.pages()
    np.savez_compressed(folder / "memory.npz", gpa=gpa, page=page)
    write_table(folder / "translations.csv", rows)
    return folder
