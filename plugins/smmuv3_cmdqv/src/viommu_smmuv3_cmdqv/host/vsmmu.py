"""What a vIOMMU is on an SMMU: a guest's SMMU, standing on a stage 2; and guests' STEs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, frozen

from viommu.iommufd.uapi import HwptArmSmmuv3
from viommu.kernel_errors import Invalid, IoError, NotThere, Unsupported
from viommu.policies import VmidOwner
from viommu_smmuv3_cmdqv.host import commands, entries
from viommu_smmuv3_cmdqv.host.domain import Stage2Domain
from viommu_smmuv3_cmdqv.spec.stream_table import STE, AtsMode, StreamConfig

if TYPE_CHECKING:
    from collections import Counter

    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DomainFlags, UserData
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain
    from viommu_smmuv3_cmdqv.host.entries import Stage2, Stream
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
    """A vIOMMU's half in the driver. ``stage2``: what it stands on; None for an empty one that waits for it.

    ``own_vmid``: its VMID, where that is not its stage 2's.
    """

    viommu: Viommu
    smmu: Smmu
    stage2: Stage2Domain | None = None
    own_vmid: int | None = None

    @property
    def parent(self) -> Stage2Domain:
        """The stage 2 below it; not to be asked of one that has none."""
        if self.stage2 is None:
            raise Invalid(self.viommu.title, "stage 2", bound="set before it is used")
        return self.stage2

    @property
    def vmid(self) -> int:
        """The VMID by which the guest's translations are known: mainline's is that of its stage 2."""
        return self.parent.vmid if self.own_vmid is None else self.own_vmid

    @property
    def stage(self) -> Stage2:
        """The stage 2 as the guest's STEs name it."""
        return evolve(self.parent.stage, vmid=self.vmid)

    def stand_on(self, parent: PagingDomain) -> None:
        """Take a stage 2, and with it a VMID. Raises Invalid, NoSpace, Busy."""
        if parent.smmu is not self.smmu or not isinstance(parent, Stage2Domain):
            bound = f"of {self.smmu.name}, which the device is behind"
            raise Invalid(self.viommu.title, "nesting parent", bound=bound)
        with self.smmu.lock:
            self.own_vmid = self._take_vmid()
            self.stage2 = parent
            if self.own_vmid is not None:
                parent.guests[self.own_vmid] += 1

    def leave(self) -> None:
        """Let stage 2 and VMID go; no cache knows the guest any more."""
        if self.stage2 is None or self.own_vmid is None:
            return
        with self.smmu.lock:
            self.smmu.queue.submit([commands.forget_vm(self.own_vmid)])
            _drop(self.stage2.guests, self.own_vmid)
            self._give_vmid_back(self.own_vmid)

    def stream_of(self, virtual: int) -> int | None:
        """Give the StreamID of a vDEVICE."""
        device = self.viommu.find_device(virtual)
        return None if device is None else device.requester

    def destroy(self) -> None:
        """Leave nothing of it in hardware."""
        self.leave()

    def name_stream(self, vdevice: Vdevice) -> None:
        """Let a device be known by a StreamID of the guest's: commands are rewritten when they come."""

    def forget_stream(self, vdevice: Vdevice) -> None:
        """Forget it."""

    def _take_vmid(self) -> int | None:
        owner, virtual_machine = self.smmu.policy.vmid_owner, self.viommu.vm
        if owner is VmidOwner.VIOMMU:
            return self.smmu.vmids.take(self.viommu.title)
        if owner is VmidOwner.KVM and virtual_machine is not None:
            if not self.smmu.shared_vmids[virtual_machine.vmid]:
                self.smmu.vmids.reserve(virtual_machine.vmid, self.viommu.title)
            self.smmu.shared_vmids[virtual_machine.vmid] += 1
            return virtual_machine.vmid
        return None

    def _give_vmid_back(self, vmid: int) -> None:
        shared = self.smmu.shared_vmids
        if vmid in shared:
            _drop(shared, vmid)
        if vmid not in shared:
            self.smmu.vmids.give_back(vmid)


def _drop(counts: Counter[int], number: int) -> None:
    counts[number] -= 1
    if not counts[number]:
        del counts[number]


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

    def entry(self, stream: Stream) -> STE:
        """Give the STE of a device."""
        return entries.nested(stream, self.guest.stage, self.ste)

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
