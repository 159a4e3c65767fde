"""Calls that mainline has no bytes for: VT-d's vIOMMU, invalidation by descriptors, a software vQUEUE, events.

Type numbers begin at 0x80000000, where no kernel's do. All of it is refused as mainline refuses it (EOPNOTSUPP)
until it is switched on for a unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.iommufd.uapi_struct import UapiStruct, bytes16, bytes32, u32, u64

if TYPE_CHECKING:
    from viommu.policies import Policy

TYPE = 0x8000_0001
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


class ViommuVtd(UapiStruct, name="viommu_vtd"):
    """Data of VIOMMU_ALLOC: where the registers of the software queue can be mapped."""

    out_queue_mmap_offset: u64
    out_queue_mmap_length: u64


class HwptVtdGuest(UapiStruct, name="viommu_hwpt_vtd_guest"):
    """Data of HWPT_ALLOC on a vIOMMU: iommu_hwpt_vtd_s1, and the DID by which the guest names the table."""

    flags: u64
    pgtbl_addr: u64
    addr_width: u32
    domain_id: u32


class VtdDescriptor(UapiStruct, name="viommu_vtd_descriptor"):
    """One entry of HWPT_INVALIDATE on a vIOMMU: a guest's descriptor, and what became of it.

    ``error`` is 0, or the bit of FSTS that hardware would set (IQE 0x10, ICE 0x20, ITE 0x40); ``info`` is what IQERCD
    would tell: IQEI, or the virtual source-id of the device that did not answer.
    """

    descriptor: bytes32
    error: u32
    info: u32


class VeventVtd(UapiStruct, name="viommu_vevent_vtd"):
    """One event: bits of FSTS and ICS that the guest's unit would set, and with PPF (1) the fault record.

    The record is as hardware writes it, with the virtual source-id.
    """

    fsts: u32
    ics: u32
    record: bytes16
