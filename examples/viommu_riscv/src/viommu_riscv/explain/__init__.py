"""Bytes in words: what `viommu decode` says of this hardware's."""

from __future__ import annotations

from viommu_riscv.explain.kinds import KINDS, decode
from viommu_riscv.explain.log_lines import recognised

__all__ = ["KINDS", "decode", "recognised"]
