"""A guest's vCMDQ (Tegra241 CMDQV), from the doorbell on its mapped page: what it sustains, and how soon it answers."""

from __future__ import annotations

from functools import partial
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

from tools.bench.guest_memory import PAGE, PAGES, GuestMemory
from tools.bench.paths import Path
from viommu import Iotlb, Machine
from viommu.iommufd.uapi import HwptArmSmmuv3, ViommuTegra241Cmdqv
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as vcmdq
from viommu_smmuv3_cmdqv.spec.commands import SYNC, TLBI_NH_ASID, TLBI_NH_VA, CommandOpcode
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.stream_table import STE, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.layout import Descriptor

RING_LG2, ENTRY = 16, 16
RING = ENTRY << RING_LG2
BASE, IOVA, ASID, STREAM = 0x4000_0000, 0x7000_0000, 1, 0x100
"""Where the guest has memory, as it sees it; where its device's pages lie."""
TABLE, LEAF = 0b11, 0x743 | 1 << 11
SUSTAINED = 1 << RING_LG2 - 1
"""Commands of a doorbell: half a ring, as a guest keeps writing while hardware executes."""
CMDQV = 2
DOORBELLS = 500


class Guest:
    """A guest on a software Grace: its vCMDQ, and a device whose pages are cached."""

    def __init__(self) -> None:
        self.machine = Machine("smmuv3_cmdqv", memory="64M", iotlb=Iotlb(entries=2048))
        self.iommu = self.machine.open_iommufd()
        self.endpoint = self.machine.add_device(STREAM)
        device = self.iommu.bind(self.endpoint)
        memory, ioas = self.machine.buffer("4M"), self.iommu.ioas_alloc()
        ioas.map(memory, BASE)
        self.memory = GuestMemory(memory, BASE, RING)
        viommu = ioas.hwpt_alloc(device, nest_parent=True).viommu_alloc(device, CMDQV, ViommuTegra241Cmdqv.of())
        viommu.vdevice_alloc(device, STREAM)
        viommu.hw_queue_alloc(1, 0, BASE, RING)
        where = ViommuTegra241Cmdqv.decode(viommu.data)
        self.page = viommu.mmap(where.out_vintf_mmap_offset, where.out_vintf_mmap_length)
        self.page.write(vcmdq.VCMDQ_CONFIG_AT, b"\1\0\0\0")
        ste = STE(V=1, Config=StreamConfig.STAGE1, S1ContextPtr=self._tables())
        device.attach(viommu.hwpt_alloc(device, HwptArmSmmuv3.of(ste=ste.encode()[:16])))
        self.written = 0

    def _tables(self) -> int:
        """Write a CD, and tables of its address space: where the CD is."""
        cd = BASE + RING
        made = CD(T0SZ=16, EPD1=1, V=1, IPS=5, AA64=1, R=1, A=1, ASET=1, ASID=ASID, TTB0=cd + PAGE, MAIR=0xFF)
        self.memory.store(cd, made.encode())
        self.memory.map(cd + PAGE, IOVA, TABLE, LEAF)
        return cd

    def fill(self, command: Callable[[int], Descriptor]) -> None:
        """Write the whole ring, and let the IOTLB know every page."""
        self.memory.fill(command)
        for number in range(PAGES):
            self.endpoint.translate(IOVA + PAGE * number)

    def ring(self, count: int, doorbells: int) -> int:
        """Have so many commands executed at each doorbell. Refuses to measure what hardware refuses."""
        for _ in range(doorbells):
            self.written = self.written + count & (2 << RING_LG2) - 1
            self.page.write(vcmdq.PROD_AT, self.written.to_bytes(4, "little"))
        assert int.from_bytes(self.page.read(vcmdq.CONS_AT, 4), "little") == self.written
        return count * doorbells

    def latency(self) -> float:
        """Give the nanoseconds from a doorbell for one TLBI and one SYNC until CONS shows them, in the middle."""
        self.fill(lambda number: SYNC(Opcode=CommandOpcode.SYNC) if number & 1 else page(number))
        return median(self._answered() for _ in range(DOORBELLS))

    def _answered(self) -> int:
        before = perf_counter_ns()
        self.ring(2, 1)
        return perf_counter_ns() - before


def page(number: int) -> Descriptor:
    """Drop one page."""
    return TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, ASID=ASID, Address=IOVA + PAGE * number, Leaf=1)


def paths() -> list[Path]:
    """Give what a vCMDQ sustains of pages, of address spaces, and its latency."""
    guest = Guest()
    mixes: dict[str, Callable[[int], Descriptor]] = {
        "pages": page,
        "address spaces": lambda _: TLBI_NH_ASID(Opcode=CommandOpcode.TLBI_NH_ASID, ASID=ASID),
    }
    sustained = [
        Path(f"vCMDQ, {what}", partial(guest.ring, SUSTAINED, 4), partial(guest.fill, mix))
        for what, mix in mixes.items()
    ]
    return [*sustained, Path("vCMDQ, a doorbell", figure=guest.latency)]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give the group of vCMDQs."""
    return {"vCMDQs": paths}
