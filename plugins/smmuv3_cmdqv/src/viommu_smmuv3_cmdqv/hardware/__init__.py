"""The silicon: reads stream tables, STEs and CDs from machine memory, serves queues there, and holds the registers."""

from __future__ import annotations

from viommu_smmuv3_cmdqv.hardware.live import Smmuv3

__all__ = ["Smmuv3"]
