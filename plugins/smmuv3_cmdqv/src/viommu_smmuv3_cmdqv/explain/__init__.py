"""Bytes and log lines in words: what `viommu decode` says of an SMMUv3's."""

from __future__ import annotations

from viommu_smmuv3_cmdqv.explain.kinds import KINDS, decode
from viommu_smmuv3_cmdqv.explain.log_lines import recognise

__all__ = ["KINDS", "decode", "recognise"]
