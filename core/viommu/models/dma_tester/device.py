"""The tester itself: its registers, its rings, and whose turn it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Registers
from viommu.models.dma_tester import registers as regs
from viommu.models.dma_tester.page_groups import PageGroups
from viommu.models.dma_tester.registers import DEVICE, RING, RING_BYTES, RINGS_AT, Abilities
from viommu.models.dma_tester.ring import IN_FLIGHT, Ring
from viommu.modelspecs import Bar, PciIdentity, PciShape
from viommu.registers import RegisterFile

if TYPE_CHECKING:
    from viommu.modelspecs import Bus
    from viommu.ops import DeviceFeatures

IDENTITY = PciIdentity(vendor=0x1234, device=0xD3A7, class_code=0x088000, revision=regs.VERSION)
ROUNDS = 64
"""So often every ring is looked at before registers are answered again."""
MOST_BYTES = 64 << 20
"""So many bytes are moved before that."""


def abilities(features: DeviceFeatures, rings: int) -> Abilities:
    """Say what a tester with these features can."""
    return Abilities(
        ATS=features.ats,
        PageRequests=features.page_requests,
        Privileged=features.pasid_privileged,
        Execute=features.pasid_exec,
        Stalls=features.stalls,
        PasidBits=features.pasid_bits,
        Rings=rings,
        SizeLg2=regs.MOST_SIZE_LG2,
        InFlight=IN_FLIGHT,
    )


class Tester:
    """One device (a `viommu.modelspecs.DeviceModel`)."""

    def __init__(self, bus: Bus, features: DeviceFeatures, rings: int) -> None:
        """Have so many rings, each with a vector of MSI-X."""
        self.bus = bus
        self.able = abilities(features, rings)
        self._shape = PciShape(
            IDENTITY,
            bars=(Bar(0, regs.BAR_SIZE, wide=True, mapped=True),),
            msix=rings,
            msix_table=(0, regs.MSIX_TABLE),
            features=features,
        )
        self._power_on()

    @property
    def shape(self) -> PciShape:
        """What it is made of."""
        return self._shape

    def reset(self) -> None:
        """Be as after power-on."""
        self._control(regs.Control())
        self._power_on()

    def _power_on(self) -> None:
        self._is_working, self._next = False, 0
        self.groups = PageGroups()
        constant = {"ID": regs.MAGIC, "VERSION": regs.VERSION, "ABILITIES": int(self.able)}
        self.file = RegisterFile.of(DEVICE, Registers(constant))
        self.ring_files = [RegisterFile.of(RING, Registers()) for _ in range(self.able.Rings)]
        self.rings = [Ring(n, self.bus, self.groups, self.able, self._wake) for n in range(self.able.Rings)]

    # --- registers

    def read(self, bar: int, offset: int, size: int) -> int:  # noqa: ARG002
        """Read a register; zero where there is none, or at another size."""
        place = self._ring_at(offset)
        if place is None:
            self._show()
            return self.file.read(offset, size)
        number, register = place
        self._show_ring(self.ring_files[number], self.rings[number])
        return self.ring_files[number].read(register, size)

    def write(self, bar: int, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """Write a register."""
        place = self._ring_at(offset)
        if place is None:
            for store in self.file.write(offset, size, value):
                if store.name == "CONTROL":
                    self._control(regs.Control.decode(store.after))
            return
        number, register = place
        for store in self.ring_files[number].write(register, size, value):
            if store.name == "CONTROL" and store.changed:
                self._control_ring(number)
            elif store.name == "TAIL":
                self.rings[number].ring(store.after)

    def _ring_at(self, offset: int) -> tuple[int, int] | None:
        number, register = divmod(offset - RINGS_AT, RING_BYTES)
        return (number, register) if 0 <= number < len(self.rings) else None

    def _show(self) -> None:
        tlb, file = self.bus.tlb, self.file
        file["TLB_ENTRIES"] = 0 if tlb is None else len(tlb)
        file["INVALIDATIONS"] = 0 if tlb is None else tlb.invalidations
        file["PAGE_REQUESTS"], file["PAGE_RESPONSES"] = self.groups.sent, self.groups.answered

    @staticmethod
    def _show_ring(file: RegisterFile, ring: Ring) -> None:
        file["STATUS"] = int(regs.RingStatus(Running=ring.runs, Error=ring.error))
        file["TAIL"], file["HEAD"], file["DONE"] = ring.tail, ring.head, ring.done
        file["ACTIVE"], file["ERROR_ADDRESS"] = len(ring.active), ring.error_address

    def _control(self, control: regs.Control) -> None:
        tlb = self.bus.tlb
        if tlb is not None:
            tlb.answers = not control.Deaf
            if control.DropTlb:
                tlb.clear()
        self.file["CONTROL"] = int(control.replace(DropTlb=0))

    def _control_ring(self, number: int) -> None:
        file = self.ring_files[number]
        self.rings[number].control(
            file.decoded("BASE", regs.RingBase).Address,
            file.decoded("COMPLETIONS", regs.RingCompletions).Address,
            file.decoded("SIZE", regs.RingSize),
            file.decoded("PASID", regs.RingPasid),
            file.decoded("CONTROL", regs.RingControl),
        )

    # --- work

    def _wake(self) -> None:
        if not self._is_working:
            self._is_working = True
            self._work()

    def _work(self) -> None:
        """Work for a while; if there is more, go on when registers were answered."""
        until = self._moved() + MOST_BYTES
        for _ in range(ROUNDS):
            if not self._round(until):
                self._is_working = False
                return
            if self._moved() >= until:
                break
        self.bus.after(0, self._work)

    def _round(self, until: int) -> bool:
        """Let each ring do a piece of all that it has, up to so many bytes in all; whether any had something."""
        worked = False
        for _ in self.rings:
            room = until - self._moved()
            if room <= 0:
                return True
            ring, self._next = self.rings[self._next], (self._next + 1) % len(self.rings)
            if ring.runs:
                worked |= ring.step(room)
        return worked

    def _moved(self) -> int:
        return sum([ring.moved for ring in self.rings])
