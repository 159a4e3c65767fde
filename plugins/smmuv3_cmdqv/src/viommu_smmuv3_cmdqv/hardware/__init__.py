"""The silicon: reads stream tables, STEs and CDs from machine memory, and nothing else."""

from __future__ import annotations

from viommu_smmuv3_cmdqv.hardware.model import Smmuv3

__all__ = ["Smmuv3"]
