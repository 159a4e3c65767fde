"""The silicon: it knows memory and registers, and nothing of the host's driver."""

from __future__ import annotations

from viommu_riscv.hardware.iommu import RiscvIommu

__all__ = ["RiscvIommu"]
