"""All guests' IOMMUs of one physical IOMMU: their MMIO, and which devices and events are whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.hardware.guests.addresses import TranslatedMemory
from viommu_amd_viommu.hardware.guests.guest import Guest
from viommu_amd_viommu.hardware.guests.maps import IdMaps
from viommu_amd_viommu.spec.events import EventCode, ViommuHardwareError
from viommu_amd_viommu.spec.guest_registers import (
    MOST_GUESTS,
    VF_CONTROL,
    VF_CONTROL_REGISTERS,
    VF_PAGE,
    VSC_ID,
    GuestCommandControl,
    GuestDeviceMap,
    GuestDomainMap,
    GuestEventControl,
    GuestMiscControl,
    GuestPprControl,
    VscBarHigh,
    VscBarLow,
    VscHeader,
)
from viommu_amd_viommu.spec.inferred import OWN_DEVICE_ID, VF_CONTROL_MMIO, VF_MMIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.hardware.settings import Settings
    from viommu_amd_viommu.spec.device_table import DTE
    from viommu_amd_viommu.spec.registers import EFR

APERTURES = (("VFBARLO", "VFBARHI", VF_MMIO), ("VFCTLBARLO", "VFCTLBARHI", VF_CONTROL_MMIO))

HALVES = {4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}


def show_apertures(file: RegisterFile, features: EFR) -> None:
    """Let software find VF MMIO and VF control MMIO, where there are any."""
    if not features.vIOMMU:
        return
    file["VSCHDR"] = int(VscHeader(Id=VSC_ID))
    for low, high, offset in APERTURES:
        file[low] = int(VscBarLow(Enable=1, Address=offset & 0xFFFF_FFFF))
        file[high] = int(VscBarHigh(Address=offset >> 32))


@define(eq=False, repr=False)
class Guests:
    """The guests by GuestID; one exists from the first store to its VF control registers on.

    ``entry`` reads the bytes of a device table entry. VF MMIO is decoded, and entries with vImuEn mean something, while
    Control.vIommuEn is set; command buffers run while Control.vCmdEn is.
    """

    memory: PhysicalMemory
    platform: Platform
    events: Events
    settings: Callable[[], Settings]
    entry: Callable[[int], bytes | None]
    known: dict[int, Guest] = field(factory=dict)
    _owners: dict[int, tuple[int, int]] = field(factory=dict)
    """For a device whose entry was read with vImuEn: its GuestID, and its DeviceID there."""

    @property
    def here(self) -> bool:
        """Whether hardware can do all this."""
        return self.settings().hosting.here

    @property
    def enabled(self) -> bool:
        """Whether software has switched it on."""
        return self.settings().hosting.enabled

    # --- registers

    def read(self, offset: int, size: int) -> int:
        """Read from VF MMIO or VF control MMIO; what is neither, or no guest's, reads as zero."""
        if VF_MMIO <= offset < VF_MMIO + MOST_GUESTS * VF_PAGE:
            number, within = divmod(offset - VF_MMIO, VF_PAGE)
            guest = self.known.get(number)
            return guest.read(within, size) if guest is not None and self.enabled else 0
        if self.here and VF_CONTROL_MMIO <= offset < VF_CONTROL_MMIO + MOST_GUESTS * VF_CONTROL:
            number, within = divmod(offset - VF_CONTROL_MMIO, VF_CONTROL)
            guest = self.known.get(number)
            whole = 0 if guest is None else guest.controls.get(within & ~7, 0)
            return whole >> within % 8 * 8 & HALVES.get(size, 0)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write to VF MMIO or VF control MMIO, whose registers are written whole."""
        if VF_MMIO <= offset < VF_MMIO + MOST_GUESTS * VF_PAGE:
            number, within = divmod(offset - VF_MMIO, VF_PAGE)
            guest = self.known.get(number)
            if guest is not None and self.enabled:
                guest.write(within, size, value)
        elif self.here and VF_CONTROL_MMIO <= offset < VF_CONTROL_MMIO + MOST_GUESTS * VF_CONTROL:
            number, within = divmod(offset - VF_CONTROL_MMIO, VF_CONTROL)
            if number and size == 8 and within in VF_CONTROL_REGISTERS:
                self._control(number, within, value)

    def reset(self, number: int) -> None:
        """Clear the VF page of a guest (RESET_VMMIO)."""
        guest = self.known.get(number)
        if guest is not None:
            guest.reset_page()

    def run(self) -> None:
        """Let every command buffer go on, as Control has changed."""
        for guest in tuple(self.known.values()):
            guest.run()

    def _control(self, number: int, offset: int, value: int) -> None:
        register = VF_CONTROL_REGISTERS[offset].decode(value & HALVES[8])
        guest = self.known.get(number)
        if guest is None:
            guest = self.known[number] = self._made(number)
        guest.controls[offset] = int(register)
        match register:
            case GuestDeviceMap() if register.Write:
                self._check(
                    number,
                    guest.maps.map_device(register.GuestDeviceID, register.HostDeviceID, valid=bool(register.Valid)),
                )
            case GuestDomainMap() if register.Write:
                self._check(
                    number,
                    guest.maps.map_domain(register.GuestDomainID, register.HostDomainID, valid=bool(register.Valid)),
                )
            case GuestMiscControl():
                guest.translating = register.TranslateDeviceID
            case GuestCommandControl():
                guest.set_commands(register)
            case GuestEventControl():
                guest.set_events(register)
            case GuestPprControl():
                guest.set_page_requests(register)

    def _check(self, number: int, done: bool) -> None:
        """A map that is not in memory is told. While nothing is to be mapped there any more, nobody misses it."""
        if not done and self.settings().control.vIommuEn:
            self.events.tell(ViommuHardwareError(EventCode=EventCode.VIOMMU_HW_ERROR, GuestID=number, vPTR=1))

    def _made(self, number: int) -> Guest:
        private = TranslatedMemory(self.memory, lambda: self.entry(OWN_DEVICE_ID), self.settings)
        theirs = TranslatedMemory(self.memory, lambda: self._translating_entry(number), self.settings)
        return Guest.of(
            IdMaps(private, number),
            theirs,
            self.settings().features,
            self.platform,
            self.events,
            lambda: self.settings().hosting.executes,
        )

    def _translating_entry(self, number: int) -> bytes | None:
        """Read the entry by which a guest's addresses are translated; without one it has no memory."""
        device = self.known[number].translating
        return self.entry(device) if device and self.settings().hosting.translates else None

    # --- whose devices are whose

    def seen(self, device: int, entry: DTE) -> None:
        """Take note of what a device's entry says, as it is read."""
        if entry.vImuEn and self.enabled:
            self._owners[device] = (entry.GuestID, entry.GuestDeviceID)
        else:
            self._owners.pop(device, None)

    def owner(self, device: int) -> tuple[Guest, int] | None:
        """Give the guest that a device belongs to, and its DeviceID there."""
        number, guest_device = self._owners.get(device, (0, 0))
        guest = self.known.get(number) if self.enabled else None
        return None if guest is None else (guest, guest_device)

    def of_entry(self, entry: DTE) -> Guest | None:
        """Give the guest that an entry names."""
        return self.known.get(entry.GuestID) if entry.vImuEn and self.enabled else None
