"""What nobody holds is let go, memory of a guest above all."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from viommu import Access
from viommu.captures.capture import load

CAPTURE = Path(__file__).parents[1] / "data" / "captures" / "smmuv3-s1"


def test_a_machine_that_nobody_holds_is_collected_with_its_memory() -> None:
    machine = load(CAPTURE).machine()
    machine.translate(0x28, 0x2010, Access.READ)
    traces: list[weakref.ref[object]] = [weakref.ref(machine), weakref.ref(machine.memory)]

    del machine
    gc.collect()

    assert [trace() for trace in traces] == [None, None]
