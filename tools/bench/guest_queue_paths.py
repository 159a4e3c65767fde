"""Queues of guests' own, from the register page that a guest has mapped: the whole way, host software in none of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tools.bench.guest_memory import PAGE, PAGES, GuestMemory
from tools.bench.paths import Path
from viommu import Iotlb, Machine
from viommu.iommufd.experimental import ViommuAmd
from viommu.iommufd.uapi import HwptAmdGuest
from viommu.policies import Policy
from viommu_amd_viommu.host.extensions import HARDWARE_VIOMMU, QueueType
from viommu_amd_viommu.spec.command_meanings import EVERYTHING
from viommu_amd_viommu.spec.commands import InvalidateIommuPages, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.registers import Control

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.layout import Descriptor

RING, ENTRY = 1 << 19, 16
BASE, IOVA, PASID, DOMAIN = 0x10_0000, 0x40_0000, 5, 7
"""Where the guest has memory, as it sees it; where its device's pages lie."""
PRESENT = 0x67
TAIL, HEAD, CONTROL = 0x08, 0x00, 0x18
SUSTAINED = RING // ENTRY // 2
"""Commands of a doorbell: half a ring, as a guest keeps writing while hardware executes."""


class AmdGuest:
    """A guest on AMD hardware: its command buffer, and a device whose pages are cached."""

    def __init__(self) -> None:
        policy = Policy(iova_queues=True)
        self.machine = Machine("amd_viommu", memory="64M", iotlb=Iotlb(entries=2048), policy=policy)
        self.iommu = self.machine.open_iommufd()
        self.endpoint = self.machine.add_device(0x0108, pasid_bits=8)
        device = self.iommu.bind(self.endpoint)
        memory, ioas = self.machine.buffer("2M"), self.iommu.ioas_alloc()
        ioas.map(memory, BASE)
        self.memory = GuestMemory(memory, BASE, RING)
        viommu = ioas.hwpt_alloc(device, nest_parent=True).viommu_alloc(device, HARDWARE_VIOMMU, ViommuAmd.of())
        viommu.vdevice_alloc(device, 0x10)
        offsets = ViommuAmd.decode(viommu.data)
        viommu.hw_queue_alloc(QueueType.COMMANDS, 0, BASE, RING, by_iova=True)
        viommu.mmap(offsets.out_control_mmap_offset, PAGE).write(CONTROL, Control(CmdBufEn=1).encode())
        self.page = viommu.mmap(offsets.out_vfmmio_mmap_offset, PAGE)
        entry = DTE(V=1, TV=1, GV=1, GCR3=self._tables(), DomainID=DOMAIN)
        device.attach(viommu.hwpt_alloc(device, HwptAmdGuest.of(dte=entry.encode())))
        self.tail = 0

    def _tables(self) -> int:
        """Write a GCR3 table, and tables of one PASID: where they are."""
        gcr3 = BASE + RING
        self.memory.store_word(gcr3 + 8 * PASID, gcr3 + PAGE | 1)
        self.memory.map(gcr3 + PAGE, IOVA, PRESENT, PRESENT)
        return gcr3

    def fill(self, command: Callable[[int], Descriptor]) -> None:
        """Write the whole ring, and let the IOTLB know every page."""
        self.memory.fill(command)
        for number in range(PAGES):
            self.endpoint.translate(IOVA + PAGE * number, pasid=PASID)

    def ring(self, count: int, doorbells: int) -> int:
        """Have so many commands executed at each doorbell. Refuses to measure what hardware refuses."""
        for _ in range(doorbells):
            self.tail = (self.tail + count * ENTRY) % RING
            self.page.write(TAIL, self.tail.to_bytes(8, "little"))
        assert int.from_bytes(self.page.read(HEAD, 8), "little") == self.tail
        return count * doorbells


def amd() -> list[Path]:
    """Give a guest's command buffer on AMD: sustained, with and without PDE, and one command a doorbell."""
    guest = AmdGuest()
    made = partial(InvalidateIommuPages, Opcode=Opcode.INVALIDATE_IOMMU_PAGES, DomainID=DOMAIN, PASID=PASID, GN=1)
    mixes: dict[str, Callable[[int], Descriptor]] = {
        "pages": lambda number: made(Address=IOVA + PAGE * number),
        "pages with PDE": lambda number: made(Address=IOVA + PAGE * number, PDE=1),
        "whole PASIDs with PDE": lambda _: made(S=1, Address=EVERYTHING, PDE=1),
    }
    paths = [
        Path(f"AMD guest command buffer, {what}", partial(guest.ring, SUSTAINED, 4), partial(guest.fill, mix))
        for what, mix in mixes.items()
    ]
    one = Path("AMD guest command buffer, a doorbell", partial(guest.ring, 1, 256), partial(guest.fill, mixes["pages"]))
    return [*paths, one]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give the group of guests' queues."""
    return {"guests' queues": amd}
