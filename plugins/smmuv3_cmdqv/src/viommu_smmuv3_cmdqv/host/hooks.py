"""The driver face: hooks of `viommu.hookspecs` for devices and domains, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu.iommufd.uapi import HwInfoArmSmmuv3, HwInfoTegra241Cmdqv
from viommu.kernel_errors import Unsupported
from viommu.ops import DeviceFacts, HwInfo, RegionKind, ReservedRegion
from viommu_smmuv3_cmdqv.host import attach, dirty, events, making
from viommu_smmuv3_cmdqv.host.master import Master
from viommu_smmuv3_cmdqv.host.smmu import Smmu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.ops import DirtyBitmap, DomainFlags, PageFault, UserData
    from viommu.platform import Interrupt
    from viommu_smmuv3_cmdqv.host.abilities import Abilities
    from viommu_smmuv3_cmdqv.host.cmdqv import HostCmdqv
    from viommu_smmuv3_cmdqv.host.domain import Domain, PagingDomain

HW_INFO_TYPE = 2
"""IOMMU_HW_INFO_TYPE_ARM_SMMUV3"""
CMDQV_INFO_TYPE = 3
"""IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV"""

MESSAGES = ReservedRegion(0x0800_0000, 0x080F_FFFF, RegionKind.SOFTWARE_MSI)
"""Where the host maps the doorbell of interrupt messages."""


# --- bring-up


@hookimpl
def viommu_probe(iommu: PhysicalIommu) -> None:
    """Bring an SMMU up."""
    port = iommu.port
    iommu.data = Smmu.bring_up(iommu.name, port.memory, port.frames, port, iommu.policy)


@hookimpl
def viommu_probe_device(device: PhysicalDevice) -> None:
    """Let the device's SMMU know it; its stream aborts."""
    master = Master.of(device, device.iommu.data)
    master.probe()
    device.data = master


@hookimpl
def viommu_release_device(device: PhysicalDevice) -> None:
    """Let the SMMU forget it."""
    master_of(device).release()


@hookimpl
def viommu_interrupt(iommu: PhysicalIommu, interrupt: Interrupt) -> None:
    """Read what the queue that the interrupt tells of has."""
    events.hear(iommu.data, interrupt)


# --- alloc


@hookimpl
def viommu_device_facts(device: PhysicalDevice) -> DeviceFacts:
    """Say what the SMMU and the device have."""
    master = master_of(device)
    able = master.smmu.able
    return DeviceFacts(
        cache_coherent=able.coherent,
        enforces_coherency=True,
        dirty_tracking=able.dirty,
        ats=master.ats,
        max_pasids=1 << master.ssid_bits if master.ssid_bits else 0,
        pasid_exec=device.features.pasid_exec,
        pasid_privileged=device.features.pasid_privileged,
        user_pasid_table=True,
    )


@hookimpl
def viommu_reserved_regions(device: PhysicalDevice) -> Sequence[ReservedRegion]:  # noqa: ARG001
    """The window of interrupt messages."""
    return (MESSAGES,)


@hookimpl
def viommu_hw_info(device: PhysicalDevice, data_type: int) -> HwInfo:
    """IDR0 to IDR5, IIDR and AIDR as they are; what a CMDQV has for one guest, where that is asked for."""
    smmu = master_of(device).smmu
    if data_type == CMDQV_INFO_TYPE and smmu.cmdqv is not None:
        return HwInfo(CMDQV_INFO_TYPE, _cmdqv_info(smmu.cmdqv).encode())
    if data_type not in {0, HW_INFO_TYPE}:
        raise Unsupported(device.name, "data_type", data_type, f"0, {HW_INFO_TYPE}, or with a CMDQV {CMDQV_INFO_TYPE}")
    able = smmu.able
    info = HwInfoArmSmmuv3.of(idr=_identification(able), iidr=int(able.iidr), aidr=int(able.aidr))
    return HwInfo(HW_INFO_TYPE, info.encode())


@hookimpl
def viommu_alloc_paging(device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """Stage 1 wherever it will do."""
    return making.make(master_of(device).smmu, flags, data)


@hookimpl
def viommu_free_domain(domain: Domain) -> None:
    """Give table and tag back."""
    domain.free()


# --- attach


@hookimpl
def viommu_attach(device: PhysicalDevice, pasid: int, domain: Domain) -> None:
    """Change STE or CD from the old domain to the new."""
    attach.attach(master_of(device), pasid, domain)


@hookimpl
def viommu_detach(device: PhysicalDevice, pasid: int) -> None:
    """Block."""
    attach.block(master_of(device), pasid)


@hookimpl
def viommu_reset(device: PhysicalDevice) -> None:
    """Block the device while it is reset, then let everything govern again."""
    attach.park(master_of(device))


# --- fault, dirty


@hookimpl
def viommu_page_response(device: PhysicalDevice, fault: PageFault, success: bool) -> None:
    """End the wait of a stalled access."""
    events.respond(master_of(device), fault, success=success)


@hookimpl
def viommu_set_dirty_tracking() -> bool:
    """Do nothing: hardware keeps dirty state always, and the core has cleared it."""
    return True


@hookimpl
def viommu_read_dirty(domain: PagingDomain, iova: int, length: int, clear: bool, bitmap: DirtyBitmap | None) -> bool:
    """Read the dirty state of leaves."""
    dirty.report(domain, iova, length, bitmap, clear=clear)
    return True


def master_of(device: PhysicalDevice) -> Master:
    """Give the driver's half of a device."""
    found: Master = device.data
    return found


def _identification(able: Abilities) -> bytes:
    registers = (able.idr0, able.idr1, able.idr2, able.idr3, able.idr4, able.idr5)
    return b"".join(register.encode() for register in registers)


def _cmdqv_info(block: HostCmdqv) -> HwInfoTegra241Cmdqv:
    return HwInfoTegra241Cmdqv.of(
        version=block.param.VER,
        log2vcmdqs=block.queues_per_vintf.bit_length() - 1,
        log2vsids=block.param.NUM_SID_PER_VM_LOG2,
    )
