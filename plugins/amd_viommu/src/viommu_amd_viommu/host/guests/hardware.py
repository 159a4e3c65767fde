"""Hardware that runs guests' IOMMUs, as the host finds it, switches it on and shares it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import NoSpace
from viommu.numbers import Numbers
from viommu_amd_viommu.host.guests.private_space import PrivateSpace
from viommu_amd_viommu.spec.guest_registers import VF_CONTROL, VF_PAGE, VSC_ID, VscBarHigh, VscBarLow, VscHeader
from viommu_amd_viommu.spec.inferred import OWN_DEVICE_ID

if TYPE_CHECKING:
    from viommu_amd_viommu.host.registers import HostRegisters
    from viommu_amd_viommu.host.unit import Unit

GUEST_IDS = range(1, 1 << 15)
"""GuestIDs for guests: 0 is none, and bit 15 is for secure ones."""

LAST_DEVICE = 0xFFFF


@define(eq=False, repr=False)
class HardwareGuests:
    """Shares out GuestIDs, and DeviceIDs that no device has: each stands for a guest's own view of its memory."""

    unit: Unit
    pages: int
    """Offset of VF MMIO."""
    controls: int
    """Offset of VF control MMIO."""
    space: PrivateSpace = field(init=False)
    guests: Numbers = field(factory=lambda: Numbers("GuestID", GUEST_IDS))
    translating: set[int] = field(factory=set)
    """DeviceIDs in use for guests' memory."""

    def __attrs_post_init__(self) -> None:
        self.space = PrivateSpace(self.unit)

    @classmethod
    def found(cls, unit: Unit) -> HardwareGuests | None:
        """Find the apertures, and switch all of it on; None where hardware lacks something."""
        registers = unit.registers
        pages, controls = _bar(registers, "VFBAR"), _bar(registers, "VFCTLBAR")
        if registers.decoded("VSCHDR", VscHeader).Id != VSC_ID or pages is None or controls is None:
            return None
        if not registers.switch(GstBufferTRPMode=1).GstBufferTRPMode:
            return None
        made = cls(unit, pages, controls)
        registers.switch(vCmdEn=1)
        registers.switch(vIommuEn=1)
        return made

    def page(self, guest: int) -> int:
        """Give the offset of a guest's VF page."""
        return self.pages + guest * VF_PAGE

    def control(self, guest: int, register: int) -> int:
        """Give the offset of a VF control register of a guest."""
        return self.controls + guest * VF_CONTROL + register

    def take_device(self) -> int:
        """Take the highest DeviceID that no device has. Raises NoSpace."""
        for number in range(LAST_DEVICE, 0, -1):
            if not self.has_taken(number) and number not in self.unit.devices:
                self.translating.add(number)
                return number
        raise NoSpace(self.unit.name, "DeviceID", LAST_DEVICE, "one that no device has")

    def has_taken(self, device: int) -> bool:
        """Say whether a DeviceID is no device's to have."""
        return device == OWN_DEVICE_ID or device in self.translating


def _bar(registers: HostRegisters, name: str) -> int | None:
    """Read a BAR; firmware must have enabled it."""
    low, high = registers.decoded(f"{name}LO", VscBarLow), registers.decoded(f"{name}HI", VscBarHigh)
    return high.Address << 32 | low.Address if low.Enable else None
