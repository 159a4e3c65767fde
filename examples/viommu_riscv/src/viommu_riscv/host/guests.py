"""What a vIOMMU is: a guest's IOMMU, of which the host executes invalidations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field
from viommu.kernel_errors import Invalid
from viommu.policies import VmidOwner

from viommu_riscv.host import requests
from viommu_riscv.host.domains import SecondStageDomain
from viommu_riscv.host.guest_commands import Guest, rewrite
from viommu_riscv.spec.commands import Ats, Iofence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.viommu import Viommu

    from viommu_riscv.host.device import HostDevice
    from viommu_riscv.host.nested import NestedDomain
    from viommu_riscv.host.unit import Unit
    from viommu_riscv.spec.commands import Command

STORED_BYTES = 4
MOST_PENDING = 1024
"""Commands that are gathered before hardware gets them: one of a guest's may stand for one of each of its devices."""


@define(eq=False, repr=False)
class GuestIommu:
    """A vIOMMU's half in the driver. ``tag``: the GSCID of its translations. ``nested``: what was made on it.

    ``parent`` None: it stands on nothing yet.
    """

    viommu: Viommu
    unit: Unit
    parent: SecondStageDomain | None = None
    tag: int = 0
    nested: list[NestedDomain] = field(factory=list)

    @property
    def standing(self) -> SecondStageDomain:
        """What it stands on. Raises Invalid while that is nothing."""
        if self.parent is None:
            raise Invalid(self.viommu.title, "stage 2", bound="set before anything nests on it")
        return self.parent

    def stand_on(self, parent: SecondStageDomain) -> None:
        """Stand on a parent from now on: its translations have the parent's GSCID, or one of their own.

        Raises Invalid, Busy (a VMID that is taken), NoSpace.
        """
        if not isinstance(parent, SecondStageDomain) or not parent.nest_parent:
            raise Invalid(self.viommu.title, "parent", bound="second stage, allocated with NEST_PARENT")
        with self.unit.lock:
            parent.check(self.unit)
            if self.unit not in parent.tags:
                parent.tags[self.unit] = self.unit.guests.take(self.unit.name)
            try:
                self.tag = self._own_tag() or parent.tags[self.unit]
            except BaseException:
                parent.let_go(self.unit)
                raise
            self.parent = parent
            parent.guests.append(self)

    def destroy(self) -> None:
        """Leave the parent."""
        parent = self.parent
        if parent is None:
            return
        with self.unit.lock:
            parent.guests.remove(self)
            if self.tag != parent.tags[self.unit]:
                self.unit.submit(
                    requests.guest_space(self.unit.able.capabilities, self.tag, requests.EVERYTHING, tables=True)
                )
                self.unit.guests.give_back(self.tag)
            parent.let_go(self.unit)

    def forget(self, domain: NestedDomain) -> None:
        """Let go of a nested domain, and of all that is cached of guests' tables."""
        self.nested.remove(domain)
        self.unit.submit([requests.guest_first_stages(self.tag)])

    def devices(self) -> list[HostDevice]:
        """Give the devices that it governs now."""
        return list(dict.fromkeys(device for domain in self.nested for device, _ in domain.devices))

    def empty_device_tlbs(self) -> list[Command]:
        """Give the commands that empty the TLBs of its devices: of all processes that it may have given them."""
        return [one for device in self.devices() for one in device.empty_tlb()]

    def find(self, virtual: int) -> HostDevice | None:
        """Give the device of a virtual id."""
        found = self.viommu.find_device(virtual)
        return None if found is None else self.unit.devices.get(found.requester)

    def run(self, raw: Sequence[bytes]) -> int:
        """Execute a guest's commands in order; how many were executed, where a device did not answer fewer than all.

        Raises Invalid, with ``done``, where hardware would refuse one: those before it stand.
        """
        view = Guest(self.tag, self.unit.able.capabilities, self.find, self._known)
        pending: list[Command] = []
        for index, one in enumerate(raw):
            wanted = rewrite(one, view)
            if wanted is None:
                self.unit.submit(pending)
                refused = Invalid(self.viommu.title, f"command {index}", bound="one that hardware takes of a guest")
                refused.done = index
                raise refused
            if isinstance(wanted, Iofence) or any(isinstance(command, Ats) for command in wanted):
                self.unit.submit(pending)
                pending = []
                if not self._at_once(wanted):
                    return index
            else:
                pending += wanted
            if len(pending) >= MOST_PENDING:
                self.unit.submit(pending)
                pending = []
        self.unit.submit(pending)
        return len(raw)

    def _at_once(self, wanted: Iofence | list[Command]) -> bool:
        """Do what the guest may wait for; False where a device did not answer."""
        if not isinstance(wanted, Iofence):
            return self.unit.submit(wanted)
        at = None if self.parent is None or not wanted.AV else self.parent.writable(wanted.ADDR)
        if at is not None:  # where the guest may not write, it is lost
            self.unit.memory.write(at, wanted.DATA.to_bytes(STORED_BYTES, "little"))
        return True

    def _known(self) -> list[HostDevice]:
        """Give the devices that it knows by a virtual id."""
        found = (self.find(virtual) for virtual in list(self.viommu.vdevices))
        return [device for device in found if device is not None]

    def _own_tag(self) -> int | None:
        """Take a GSCID for itself, where the policy says so."""
        owner, viommu = self.unit.policy.vmid_owner, self.viommu
        if owner is VmidOwner.STAGE2:
            return None
        if owner is VmidOwner.KVM and viommu.vm is not None:
            self.unit.guests.reserve(viommu.vm.vmid, viommu.title)
            return viommu.vm.vmid
        return self.unit.guests.take(viommu.title)
