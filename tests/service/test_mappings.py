"""Registers that programs have mapped, and how long a mapping lasts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from viommu.service.mappings import Mappings, room_of

if TYPE_CHECKING:
    from collections.abc import Iterable


@define(eq=False)
class Region:
    length: int = 4096
    registers: object = None


@define(eq=False)
class Mapping:
    """One that is no shared memory."""

    region: Region = field(factory=Region)
    closed: int = 0

    def shared(self) -> None:
        return None

    def close(self) -> None:
        self.closed += 1


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def nobody() -> Iterable[int]:
    return ()


def test_a_mapping_lasts_while_any_of_its_makers_may_still_map_it() -> None:
    mappings, region = Mappings(), Region()
    first, second = Mapping(region), Mapping(region)
    for mapping, maker in ((first, "one"), (second, "other")):
        memory, _ = mappings.add(mapping, maker)  # type: ignore[arg-type]  # it has what is used of a mapping
        os.close(memory)
    mappings.called("other")
    mappings.reap(nobody)
    assert not first.closed
    mappings.called("one")
    mappings.reap(nobody)
    assert first.closed == second.closed == 1


def test_a_mapping_that_finds_no_descriptor_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> int:
        raise OSError(24, f"no copy of {fd}")

    before = open_descriptors()
    mapping = Mapping()
    monkeypatch.setattr(os, "dup", refuse)
    with pytest.raises(OSError, match="no copy"):
        Mappings().add(mapping, None)  # type: ignore[arg-type]  # it has what is used of a mapping
    assert mapping.closed == 1
    assert open_descriptors() == before


def test_room_that_cannot_be_had_leaves_no_descriptor_open() -> None:
    before = open_descriptors()
    with pytest.raises(OverflowError):
        room_of(1 << 63)
    assert open_descriptors() == before
