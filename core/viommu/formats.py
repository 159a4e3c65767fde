"""The page-table formats that the engine walks, and the Context that a driver makes of them."""

from __future__ import annotations

from viommu._engine import X86, AmdV1, ArmHalf, ArmStage1, ArmStage2, Context, Described, Riscv, VtdSecondStage
from viommu.entries import entry_layout

__all__ = [
    "X86",
    "AmdV1",
    "ArmHalf",
    "ArmStage1",
    "ArmStage2",
    "Context",
    "Described",
    "Riscv",
    "VtdSecondStage",
    "entry_layout",
]
