"""What this driver answers where mainline has an answer, and where it is ahead of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from viommu.policies import Policy
    from viommu_amd_viommu.spec.registers import EFR


@frozen
class Profile:
    """The defaults are Linux 7.2: a vIOMMU of any type can be made, and nothing can be done with it."""

    nested: bool = False
    """Nested domains on vIOMMUs, and invalidation by vIOMMU."""
    pasid_domains: bool = False
    """Paging domains on PASIDs; 7.2 attaches nothing but SVA domains there."""
    hardware: bool = False
    """Hardware vIOMMUs: the guest owns its command buffer, event log and PPR log (the published series)."""

    @classmethod
    def of(cls, policy: Policy, features: EFR) -> Profile:
        """Take it from what a machine wants, and its hardware can."""
        hardware = bool(policy.iova_queues and features.vIOMMU)
        ahead = hardware or policy.invalidate_by_viommu
        return cls(nested=ahead, pasid_domains=ahead, hardware=hardware)
