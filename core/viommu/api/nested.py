"""HWPT for Python: what devices are attached to. A nested one is a guest's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.api.handle import Handle
from viommu.api.hwpt_calls import invalidate

if TYPE_CHECKING:
    from viommu.api.buffers import Entries


@define(eq=False, repr=False)
class NestedHwpt(Handle):
    """A guest's table, on a nesting parent or a vIOMMU."""

    below: Handle

    def _told(self) -> str:
        return f" on {self.below.label}"

    def invalidate(self, requests: Entries, *, data_type: int | None = None) -> int:
        """Drop cached translations; how many requests were executed (`viommu.api.viommu.Viommu.invalidate`)."""
        return invalidate(self, requests, data_type)
