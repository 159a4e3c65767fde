"""Captures of flips that nobody recorded: the memory of one that was, and rows of mutations that a test made up."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class NotCapturedError(Exception):
    """A walk leads out of what was captured."""


def rows(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return list(csv.DictReader(file))


def pages_of(capture: Path) -> dict[int, bytes]:
    """Its pages by address."""
    with np.load(capture / "memory.npz") as memory:
        return {int(at): page.tobytes() for at, page in zip(memory["gpa"], memory["page"], strict=True)}


def word_at(pages: Mapping[int, bytes], address: int, flip: tuple[int, int]) -> int:
    """Read 64 bits, of which ``flip`` (address, bit) is another than was captured."""
    page = pages.get(address & -0x1000)
    if page is None:
        raise NotCapturedError
    word = int.from_bytes(page[address & 0xFFF :][:8], "little")
    return word ^ 1 << flip[1] if address == flip[0] else word


def write(
    folder: Path,
    capture: Path,
    pages: Mapping[int, bytes],
    mutations: Sequence[Mapping[str, str]],
    registers: Mapping[str, int] | None = None,
) -> None:
    """Write a capture like another one, which has mutations alone; ``registers`` are those that differ."""
    folder.mkdir()
    addresses = sorted(pages)
    contents = np.array([np.frombuffer(pages[at], np.uint8) for at in addresses])
    np.savez(folder / "memory.npz", gpa=np.array(addresses, np.uint64), page=contents)
    manifest = json.loads((capture / "manifest.json").read_text())
    manifest["counts"] = dict.fromkeys(manifest["counts"], 0) | {"mutations": len(mutations)}
    for name, value in (registers or {}).items():
        manifest["registers"][name]["value"] = hex(value)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for table in capture.glob("*.csv"):
        (folder / table.name).write_text(table.read_text().partition("\n")[0] + "\n")
    with (folder / "mutations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows(capture / "mutations.csv")[0]), restval="")
        writer.writeheader()
        writer.writerows(mutations)
