"""Failure points, under the name by which objects know them (`viommu.failure`)."""

from __future__ import annotations

from viommu.failure import Injection, allocation_point, fail_nth

__all__ = ["Injection", "allocation_point", "fail_nth"]
