"""A guest's interface to a CMDQV: a vIOMMU of its own type, its queues, and the StreamIDs that these may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.iommufd.uapi import VeventTegra241Cmdqv, ViommuTegra241Cmdqv
from viommu.kernel_errors import Exists, Invalid, IoError
from viommu.numbers import Numbers
from viommu.objects.veventq import report_event
from viommu.register_watch import SharedWord
from viommu_smmuv3_cmdqv.host.vsmmu import VirtualSmmu
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import (
    CONS_AT,
    GERROR_AT,
    GERRORN_AT,
    PAGE_BYTES,
    PROD_AT,
    SID_MATCH,
    VCMDQ_BASE,
    VCMDQ_CONFIG_AT,
    VCMDQ_STATUS_AT,
    VCMDQ_STRIDE,
)

if TYPE_CHECKING:
    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.mmap import Region
    from viommu.objects.physical import Mmio
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import UserData
    from viommu_smmuv3_cmdqv.host.cmdqv import HostCmdqv
    from viommu_smmuv3_cmdqv.host.domain import PagingDomain
    from viommu_smmuv3_cmdqv.host.smmu import Smmu

VIOMMU_TYPE = 2
"""IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV"""
QUEUE_TYPE = 1
"""IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV"""
VEVENT_TYPE = 2
"""IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV"""
ENTRY_LG2 = 4
SMALLEST = 32
ACCESS_SIZES = (4, 8)


@frozen(eq=False)
class Page0:
    """What a guest maps: registers of the interface's queues, each access of which is one of hardware's."""

    port: Mmio
    place: int

    def read(self, offset: int, length: int) -> bytes:
        """Read registers."""
        return b"".join(
            self.port.read(self.place + at, 4).to_bytes(4, "little") for at in range(offset & -4, offset + length, 4)
        )[offset & 3 :][:length]

    def write(self, offset: int, data: bytes) -> None:
        """Write registers; an access of another size or alignment than hardware knows is none."""
        if len(data) in ACCESS_SIZES and not offset % len(data):
            for at in range(0, len(data), 4):
                self.port.write(self.place + offset + at, 4, int.from_bytes(data[at : at + 4], "little"))


@define(eq=False, kw_only=True)
class GuestVintf(VirtualSmmu):
    """A vIOMMU with an interface. ``slots``: StreamIDs that are named. ``queues``: by logical index."""

    number: int
    block: HostCmdqv
    slots: Numbers
    region: Region | None = None
    queues: dict[int, HwQueue] = field(factory=dict)

    def stand_on(self, parent: PagingDomain) -> None:
        """Take a stage 2, whose VMID the interface's commands will have: only now is it switched on."""
        super().stand_on(parent)
        with self.smmu.lock:
            self.block.open(self.number, self.vmid)

    def destroy(self) -> None:
        """Switch the interface off; nobody maps its page any more."""
        if self.region is not None:
            self.viommu.withdraw_registers(self.region)
        with self.smmu.lock:
            del self.smmu.guests[self.number]
            self.block.close(self.number)
            self.block.vintfs.give_back(self.number)
        super().destroy()

    # --- vDEVICEs

    def name_stream(self, vdevice: Vdevice) -> None:
        """Let the guest's queues name a device. Raises Invalid, NoSpace."""
        if vdevice.virt_id > SID_MATCH.VIRT_SID.maximum:
            raise Invalid(vdevice.title, "virt_id", vdevice.virt_id, f"at most {SID_MATCH.VIRT_SID.maximum:#x}")
        with self.smmu.lock:
            vdevice.data = self.slots.take(self.viommu.title)
            self.block.set_stream(self.number, vdevice.data, vdevice.virt_id, vdevice.device.physical.requester)

    def forget_stream(self, vdevice: Vdevice) -> None:
        """Let them name it no more."""
        with self.smmu.lock:
            self.block.clear_stream(self.number, vdevice.data)
            self.slots.give_back(vdevice.data)

    # --- HW_QUEUEs

    def add_queue(self, queue: HwQueue, index: int, base: int) -> None:
        """Give the guest a queue, which it enables itself. Raises Invalid, Exists, IoError."""
        with self.smmu.lock:
            self._check_queue(queue, index, base)
            self.block.give_queue(self.number, index, base, queue.length.bit_length() - 1 - ENTRY_LG2)
            if index:
                queue.depend_on(self.queues[index - 1])
            queue.data = index
            self.queues[index] = queue

    def remove_queue(self, queue: HwQueue) -> None:
        """Take it back."""
        with self.smmu.lock:
            del self.queues[queue.data]
            self.block.take_queue(self.number, queue.data)
            if queue.data:
                queue.undepend_on(self.queues[queue.data - 1])

    def _check_queue(self, queue: HwQueue, index: int, base: int) -> None:
        most = self.block.queues_per_vintf
        if index >= most:
            raise Invalid(queue.title, "index", index, f"below {most}")
        if index in self.queues:
            raise Exists(queue.title, "index", index, "not taken")
        if index and index - 1 not in self.queues:
            raise IoError(queue.title, "index", index, "allocated after the one before it")
        length, largest = queue.length, 1 << self.smmu.able.idr1.CMDQS + ENTRY_LG2
        if length & length - 1 or not SMALLEST <= length <= largest:
            raise Invalid(queue.title, "length", length, f"a power of two from {SMALLEST} to {largest:#x}")
        if base & ~VCMDQ_BASE.ADDR.mask or base % length:
            raise Invalid(queue.title, "physical address", base, f"a multiple of {length:#x}, below 2^48")

    # --- events

    def tell(self, errors: int) -> None:
        """Tell the guest which of its queues have an error. Raises Unsupported where it has no vEVENTQ."""
        event = VeventTegra241Cmdqv.of(lvcmdq_err_map=errors.to_bytes(16, "little"))
        report_event(self.viommu, VEVENT_TYPE, event.encode())


def _words(queues: int) -> list[SharedWord]:
    """Say what page 0 has for so many queues: no store of what a register has already means anything.

    A queue that is switched on finds its indices set, and one that is switched off is so before they change.
    """
    return [
        SharedWord(queue * VCMDQ_STRIDE + at, stops=at == VCMDQ_CONFIG_AT, group=queue)
        for queue in range(queues)
        for at in (CONS_AT, PROD_AT, GERRORN_AT, VCMDQ_CONFIG_AT, VCMDQ_STATUS_AT, GERROR_AT)
    ]


def make_with_vintf(viommu: Viommu, smmu: Smmu, block: HostCmdqv, data: UserData | None) -> GuestVintf:
    """Make a vIOMMU with an interface that is switched off. Raises Invalid (no data, or wrong), NoSpace, BadAddress."""
    if data is None:
        raise Invalid(viommu.title, "data_len", 0, f"{ViommuTegra241Cmdqv.total}: it is told where its registers are")
    data.copy(VIOMMU_TYPE, ViommuTegra241Cmdqv.total, ViommuTegra241Cmdqv.total)
    with smmu.lock:
        number = block.vintfs.take(viommu.title)
        block.close(number)
        slots = Numbers("StreamID slot", range(block.streams_per_vintf))
        made = smmu.guests[number] = GuestVintf(viommu, smmu, number=number, block=block, slots=slots)
    try:
        page = Page0(viommu.iommu.port.mapped, block.page0(number))
        made.region = viommu.offer_registers(page, PAGE_BYTES, words=_words(block.queues_per_vintf))
        told = ViommuTegra241Cmdqv.of(out_vintf_mmap_offset=made.region.offset, out_vintf_mmap_length=PAGE_BYTES)
        data.reply(VIOMMU_TYPE, ViommuTegra241Cmdqv.total, told.encode())
    except BaseException:
        made.destroy()
        raise
    return made
