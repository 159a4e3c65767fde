"""Nested domains: a guest's first stage, or its process directory, on a second stage of the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen
from viommu.kernel_errors import Invalid, Unsupported
from viommu.ops import DomainFlags

from viommu_riscv.host import entries
from viommu_riscv.host.extensions import TYPE, HwptRiscv
from viommu_riscv.spec.directories import (
    DeviceAttributes,
    FirstStageContext,
    PdtpMode,
    ProcessDirectory,
    StageMode,
    TranslationControl,
)

if TYPE_CHECKING:
    from viommu.ops import UserData

    from viommu_riscv.host.device import HostDevice
    from viommu_riscv.host.guests import GuestIommu
    from viommu_riscv.host.unit import Unit
    from viommu_riscv.spec.directories import DeviceContext
    from viommu_riscv.spec.registers import Capabilities

WHAT = "nested domain"
KNOWN = TranslationControl(PDTV=1, DPE=1, SADE=1, SBE=1)
"""What a guest may ask of its device context; V is implied."""


@frozen
class GuestContext:
    """The words of a guest's device context that count."""

    control: TranslationControl
    attributes: DeviceAttributes
    table: FirstStageContext

    @classmethod
    def of(cls, given: HwptRiscv) -> GuestContext:
        """Read what user space gave."""
        return cls(
            TranslationControl.decode(given.tc), DeviceAttributes.decode(given.ta), FirstStageContext.decode(given.fsc)
        )

    def check(self, able: Capabilities) -> None:
        """Refuse what hardware would call misconfigured, or what is not the guest's. Raises Invalid."""
        control, wrong = self.control, int(self.control) & ~int(KNOWN) & ~TranslationControl.V.mask
        if wrong:
            raise Invalid(WHAT, "tc", int(control), "of PDTV, DPE, SADE and SBE")
        if int(self.attributes) & ~DeviceAttributes.PSCID.mask:
            raise Invalid(WHAT, "ta", int(self.attributes), "of PSCID")
        if (control.DPE and not control.PDTV) or (control.SADE and not able.AMO_HWAD) or (control.SBE and not able.END):
            raise Invalid(WHAT, "tc", int(control), "DPE with PDTV; SADE and SBE where capabilities has them")
        if self.table.reserved_set or not self._has_mode(able):
            raise Invalid(WHAT, "fsc", int(self.table), "a mode that capabilities has, and no reserved bits")

    def _has_mode(self, able: Capabilities) -> bool:
        if self.control.PDTV:
            mode = ProcessDirectory.decode(int(self.table)).MODE
            return bool(
                {PdtpMode.Bare: 1, PdtpMode.PD8: able.PD8, PdtpMode.PD17: able.PD17, PdtpMode.PD20: able.PD20}.get(mode)  # type: ignore[call-overload]
            )
        return bool(
            {
                StageMode.Bare: 1,
                StageMode.Sv39: able.Sv39,
                StageMode.Sv48: able.Sv48,
                StageMode.Sv57: able.Sv57,
            }.get(self.table.MODE)  # type: ignore[call-overload]
        )


@define(eq=False, kw_only=True)
class NestedDomain:
    """A guest's context, as user space gave it, on a vIOMMU."""

    guest: GuestIommu
    given: GuestContext
    devices: list[tuple[HostDevice, int]] = field(factory=list)

    def context(self, device: HostDevice) -> DeviceContext:
        """Make the device context: the guest's first stage, the host's second."""
        control, parent = self.given.control, self.guest.standing
        return entries.context(
            device,
            PDTV=control.PDTV,
            DPE=control.DPE,
            SADE=control.SADE,
            SBE=control.SBE,
            PSCID=self.given.attributes.PSCID,
            fsc_MODE=int(self.given.table.MODE),
            fsc_PPN=self.given.table.PPN,
            **entries.second_stage(parent, self.guest.tag),
        )

    def govern(self, device: HostDevice, pasid: int) -> None:
        """Take note of a device."""
        self.devices.append((device, pasid))

    def ungovern(self, device: HostDevice, pasid: int) -> None:
        """Forget a device; what its guest's tables gave stays cached for the guest's others, and is the guest's."""
        self.devices.remove((device, pasid))

    def check(self, unit: Unit) -> None:
        """Refuse a unit that is not the vIOMMU's. Raises Invalid."""
        if unit is not self.guest.unit:
            raise Invalid(WHAT, "unit", bound="that of its vIOMMU")

    def free(self) -> None:
        """Leave the vIOMMU. Its address space may be another one next: nothing of it stays cached."""
        self.guest.forget(self)


def make(guest: GuestIommu, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Make one of what user space gives. Raises Unsupported, Invalid, BadAddress."""
    if flags & ~DomainFlags.PASID:
        raise Unsupported(WHAT, "flags", int(flags), "of PASID")
    if data.type != TYPE:
        raise Unsupported(WHAT, "data_type", data.type, f"{TYPE:#x}")
    given = GuestContext.of(HwptRiscv.decode(data.copy(TYPE, HwptRiscv.total, HwptRiscv.total)))
    given.check(guest.unit.able.capabilities)
    guest.standing  # noqa: B018 - raises where there is no second stage yet
    made = NestedDomain(guest=guest, given=given)
    guest.nested.append(made)
    return made
