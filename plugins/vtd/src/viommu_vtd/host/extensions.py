"""Calls that mainline has no bytes for: VT-d's vIOMMU, invalidation by descriptors, a software vQUEUE, events.

Type numbers begin at 0x80000000, where no kernel's do. All of it is refused as mainline refuses it (EOPNOTSUPP)
until it is switched on for a unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.iommufd.experimental import ExperimentalType, HwptVtdGuest, VeventVtd, ViommuVtd, VtdDescriptor

if TYPE_CHECKING:
    from viommu.policies import Policy

__all__ = ["TYPE", "Extensions", "HwptVtdGuest", "VeventVtd", "ViommuVtd", "VtdDescriptor"]

TYPE = ExperimentalType.VTD
"""The number that stands for VT-d: the type of its vIOMMU, of arrays of descriptors, of queues, events and data."""


@frozen
class Extensions:
    """What is switched on. ``batches`` (of descriptors) and ``software_queues`` need ``viommus``."""

    viommus: bool = False
    batches: bool = False
    software_queues: bool = False

    @classmethod
    def of(cls, policy: Policy) -> Extensions:
        """Take them from what a machine wants: a vIOMMU is there for what can be done with it."""
        wanted = (
            policy.invalidate_by_viommu,
            policy.software_queues,
            policy.late_stage2,
            policy.device_tlb_invalidation,
            policy.viommu_page_requests,
        )
        return cls(any(wanted), policy.invalidate_by_viommu, policy.software_queues)
