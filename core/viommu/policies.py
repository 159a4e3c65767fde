"""Questions that mainline answers in one way, and that a machine may answer in another.

A machine is given one `Policy`; its defaults are Linux 7.2's answers. What has no bytes in mainline's uAPI is reached
by the calls of `viommu.iommufd.experimental`, which do not exist while their switch is off.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

__all__ = [
    "MAINLINE",
    "Policy",
    "VmidOwner",
]


class VmidOwner(Enum):
    """Whose is the tag of stage 2 (VMID, DomainID) that a vIOMMU's translations have."""

    STAGE2 = "stage 2"
    """The nesting parent's: all vIOMMUs on it share one (mainline)."""
    VIOMMU = "vIOMMU"
    """Each vIOMMU's own."""
    KVM = "KVM"
    """The virtual machine's own, given with its KVM handle; the CPU's broadcast TLBI then reaches the IOTLB."""


@frozen(kw_only=True)
class Policy:
    """Switches that are ahead of mainline; False, and `VmidOwner.STAGE2`, is what Linux 7.2 does."""

    late_stage2: bool = False
    """VIOMMU_ALLOC with ``hwpt_id`` 0 makes an empty vIOMMU, which takes its stage 2 by VIOMMU_SET_STAGE2, before its
    first nested HWPT, vDEVICE or HW_QUEUE; the hook is `viommu_set_stage2`."""

    iova_queues: bool = False
    """A HW_QUEUE may lie at an IOVA that hardware translates itself: nothing is pinned, and memory need not be
    contiguous; the hook is `viommu_hw_queue_init_iova`."""

    invalidate_by_viommu: bool = False
    """HWPT_INVALIDATE takes a vIOMMU on every driver whose hardware can, not on those alone whose mainline driver does;
    the hook is `viommu_invalidate`."""

    device_tlb_invalidation: bool = False
    """DEVICE_TLB_INVALIDATE: device TLBs by a call of their own, whatever else is invalidated; the hook is
    `viommu_invalidate_device_tlb`."""

    viommu_page_requests: bool = False
    """A FAULT may be a vIOMMU's: page requests of all of its vDEVICEs come to it; the hooks are those of FAULT."""

    fault_by_virtual_id: bool = False
    """Records name the vDEVICE (its virtual id) that (requester, PASID) resolves to, also where nothing that
    can take faults is attached."""

    vmid_owner: VmidOwner = VmidOwner.STAGE2
    """Whose the tag of stage 2 is. Drivers look at it in `viommu_init`; with KVM, VIOMMU_ALLOC takes a KVM file
    descriptor, and hardware hears the CPUs' broadcasts (`viommu.hookspecs.ListeningHardware`)."""

    software_queues: bool = False
    """A HW_QUEUE that the host's driver consumes, for hardware that has none (VT-d)."""


MAINLINE = Policy()
"""What Linux 7.2 does."""
