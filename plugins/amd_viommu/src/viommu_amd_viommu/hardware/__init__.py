"""The silicon of one IOMMU: its registers, and how it finds its way through the tables in memory."""

from __future__ import annotations

from viommu_amd_viommu.hardware.model import AmdIommu

__all__ = ["AmdIommu"]
