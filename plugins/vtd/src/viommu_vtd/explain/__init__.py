"""Bytes and log lines in words: what `viommu decode` says of VT-d's."""

from __future__ import annotations

from viommu_vtd.explain.kinds import KINDS, decode
from viommu_vtd.explain.log_lines import recognise

__all__ = ["KINDS", "decode", "recognise"]
