"""The page-table formats that the engine walks, and the Context that a driver makes of them.

`walk` is for drivers whose configuration structures lie behind stage 2: one access, no cache. `read_dirty` is for host
drivers: which pages of their tables' mappings devices wrote.
"""

from __future__ import annotations

from viommu._engine import (
    NO_PASID,
    X86,
    AmdV1,
    ArmHalf,
    ArmStage1,
    ArmStage2,
    Context,
    Described,
    FlatForm,
    FlatTable,
    Result,
    Riscv,
    VtdSecondStage,
    read_dirty,
    walk,
)
from viommu.entries import entry_layout

__all__ = [
    "NO_PASID",
    "X86",
    "AmdV1",
    "ArmHalf",
    "ArmStage1",
    "ArmStage2",
    "Context",
    "Described",
    "FlatForm",
    "FlatTable",
    "Result",
    "Riscv",
    "VtdSecondStage",
    "entry_layout",
    "read_dirty",
    "walk",
]
