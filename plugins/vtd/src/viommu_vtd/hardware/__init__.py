"""The silicon of one remapping unit: its registers, and how it finds its way through the tables in memory."""

from __future__ import annotations

from viommu_vtd.hardware.model import VtdHardware

__all__ = ["VtdHardware"]
