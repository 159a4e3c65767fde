"""Bytes and kernel log lines explained: what `viommu decode` says."""

from __future__ import annotations

from viommu_amd_viommu.explain.kinds import KINDS, decode
from viommu_amd_viommu.explain.log_lines import recognised

__all__ = ["KINDS", "decode", "recognised"]
