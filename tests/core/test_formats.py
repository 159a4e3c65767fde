from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from viommu import _engine, formats
from viommu.formats import entry_layout

CAPTURE = Path(__file__).parents[1] / "data" / "captures" / "vtd-legacy-aw48"


@pytest.fixture(scope="module")
def memory() -> _engine.Memory:
    """Give the captured pages, each at its own address."""
    made = _engine.Memory()
    with np.load(CAPTURE / "memory.npz") as captured:
        for gpa, page in zip(captured["gpa"].tolist(), captured["page"], strict=True):
            made.map(gpa, page.copy())
    return made


@pytest.mark.parametrize("name", ["ArmStage1", "ArmStage2", "X86", "VtdSecondStage", "AmdV1", "Riscv"])
def test_every_compiled_format_has_layouts(name: str) -> None:
    assert getattr(formats, name).__name__ == name
    assert entry_layout(name, "leaf", 0) is not None
    assert entry_layout(name, "table", 1) is not None


def test_an_explained_walk_goes_where_the_layouts_say(memory: _engine.Memory) -> None:
    context = formats.Context(stage2=formats.VtdSecondStage(table=0x1_44C1_0000, levels=4, legacy_order=True))

    result, steps = _engine.explain_walk(memory, context, 0x80_0000_0000, _engine.WRITE)

    assert (result.kind, result.pa) == (0, 0x1_455B_F000)
    assert [step.verdict for step in steps] == ["table", "table", "table", "leaf"]
    for step in steps:
        layout = entry_layout(step.format, step.verdict, step.level, step.raw)
        assert layout is not None
        assert getattr(layout.decode(step.raw), "Address") == step.output  # noqa: B009
