"""The command `viommu`: exit 0 good, 1 a disagreement, 2 bad input, always told in one line."""

from __future__ import annotations

from viommu.cli.entry import main

__all__ = ["main"]
