"""What a vIOMMU is on an SMMU: a guest's SMMU, standing on a stage 2; and guests' STEs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, frozen

from viommu.iommufd.uapi import HwptArmSmmuv3
from viommu.kernel_errors import Invalid, IoError, NotThere, Unsupported
from viommu_smmuv3_cmdqv.host.domain import Stage2Domain
from viommu_smmuv3_cmdqv.spec.stream_table import STE, AtsMode, StreamConfig

if TYPE_CHECKING:
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DomainFlags, UserData
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain
    from viommu_smmuv3_cmdqv.host.master import Master
    from viommu_smmuv3_cmdqv.host.smmu import Smmu

HWPT_DATA_TYPE = 2
"""IOMMU_HWPT_DATA_ARM_SMMUV3"""
VIOMMU_TYPE = 1
"""IOMMU_VIOMMU_TYPE_ARM_SMMUV3"""

ALLOWED = sum(
    STE.fields[name].mask
    for name in (
        "V",
        "Config",
        "S1Fmt",
        "S1ContextPtr",
        "S1CDMax",
        "S1DSS",
        "S1CIR",
        "S1COR",
        "S1CSH",
        "S1STALLD",
        "EATS",
    )
)
"""The bits that a guest decides."""
CONFIGURATIONS = (StreamConfig.ABORT, StreamConfig.BYPASS, StreamConfig.STAGE1)


@define(eq=False)
class VirtualSmmu:
    """A vIOMMU's half in the driver."""

    viommu: Viommu
    smmu: Smmu
    parent: Stage2Domain

    @property
    def vmid(self) -> int:
        """The VMID by which the guest's translations are known: that of its stage 2."""
        return self.parent.vmid

    def stream_of(self, virtual: int) -> int | None:
        """Give the StreamID of a vDEVICE."""
        device = self.viommu.find_device(virtual)
        return None if device is None else device.requester

    def destroy(self) -> None:
        """Nothing is left of it in hardware."""

    def name_stream(self, vdevice: Vdevice) -> None:
        """Let a device be known by a StreamID of the guest's: commands are rewritten when they come."""

    def forget_stream(self, vdevice: Vdevice) -> None:
        """Forget it."""


@frozen(eq=False)
class VirtualMaster:
    """A device as a guest knows it: by a StreamID of the guest's."""

    guest: VirtualSmmu
    sid: int


@frozen(eq=False)
class NestedDomain:
    """A guest's STE. ``ats``: it lets the device use ATS."""

    guest: VirtualSmmu
    ste: STE
    ats: bool

    @property
    def smmu(self) -> Smmu:
        """The SMMU that it is for."""
        return self.guest.smmu

    @property
    def parent(self) -> Stage2Domain:
        """The stage 2 below it."""
        return self.guest.parent

    def virtual_master(self, master: Master) -> VirtualMaster | None:
        """Say as what the guest knows a device; it must, to invalidate what a stage 1 gave. Raises NotThere."""
        virtual = self.guest.viommu.virt_id_of(master.physical)
        if virtual is not None:
            return VirtualMaster(self.guest, virtual)
        if self.ste.Config == StreamConfig.STAGE1:
            raise NotThere(master.name, "vDEVICE", bound=f"one on {self.guest.viommu.title}")
        return None

    def free(self) -> None:
        """Nothing is kept for it."""


def make_viommu(viommu: Viommu, smmu: Smmu, parent: PagingDomain) -> VirtualSmmu:
    """Make a vIOMMU. Raises Invalid."""
    if parent.smmu is not smmu or not isinstance(parent, Stage2Domain):
        raise Invalid(viommu.title, "nesting parent", bound=f"of {smmu.name}, which the device is behind")
    return VirtualSmmu(viommu, smmu, parent)


def make_nested(guest: VirtualSmmu, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Take a guest's STE. Raises Unsupported (flags), Invalid (type, length), BadAddress, IoError (what it says)."""
    if flags:
        raise Unsupported("nested domain", "flags", int(flags), "0")
    raw = HwptArmSmmuv3.decode(data.copy(HWPT_DATA_TYPE, HwptArmSmmuv3.total, HwptArmSmmuv3.total))
    ste = _checked(int.from_bytes(raw.ste, "little"))
    return NestedDomain(guest, ste.replace(EATS=AtsMode.DISABLED), bool(ste.EATS))


def _checked(words: int) -> STE:
    """Check what a guest says; of an invalid STE nothing counts."""
    ste = STE.decode(words)
    if not ste.V:
        return STE()
    if words & ~ALLOWED:
        raise IoError("nested STE", "bits", words & ~ALLOWED, "none but those a guest decides")
    if ste.Config not in CONFIGURATIONS:
        raise IoError("nested STE", "Config", int(ste.Config), "0 (abort), 4 (bypass) or 5 (stage 1)")
    if ste.EATS not in (AtsMode.DISABLED, AtsMode.FULL):
        raise IoError("nested STE", "EATS", int(ste.EATS), "0 or 1")
    # Bypass and abort leave it to the host whether there is ATS; neither translates.
    return ste if ste.Config == StreamConfig.STAGE1 else ste.replace(EATS=AtsMode.DISABLED)
