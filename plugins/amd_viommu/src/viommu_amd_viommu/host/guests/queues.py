"""A guest's buffers and logs (HW_QUEUE at IOVAs), and the switches that its Control register has for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import Exists, Invalid
from viommu_amd_viommu.host.extensions import QueueType
from viommu_amd_viommu.host.ranges import PAGE
from viommu_amd_viommu.spec.guest_registers import GuestCommandControl, GuestEventControl, GuestPprControl
from viommu_amd_viommu.spec.registers import Control

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.hw_queue import HwQueue
    from viommu_amd_viommu.host.guests.hardware_slice import GuestSlice

ENTRY_LG2 = 4
LEAST_LG2, MOST_LG2 = 8, 15
"""log2 of entries."""
LAST_BASE = (1 << 52) - PAGE
CONTROL_OFFSET = 0x18


@define(eq=False, repr=False)
class GuestQueues:
    """The queues by type. `write` takes what a guest stores into its Control register: its VMM traps that page."""

    slice: GuestSlice
    control: Control = field(factory=Control)
    queues: dict[int, HwQueue] = field(factory=dict)

    def add(self, queue: HwQueue) -> None:
        """Let hardware use a queue, as far as the guest has switched it on. Raises Invalid, Exists."""
        if queue.type in self.queues:
            raise Exists(queue.title, "type", queue.type, "one queue of each type")
        if queue.iova % PAGE or queue.iova > LAST_BASE:
            raise Invalid(queue.title, "nesting_parent_iova", queue.iova, f"a page below {1 << 52:#x}")
        _length_lg2(queue)
        self.queues[queue.type] = queue
        self._tell(queue.type)

    def remove(self, queue: HwQueue) -> None:
        """Let hardware use a queue no more."""
        del self.queues[queue.type]
        self._tell(queue.type)

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes of the page: the Control register, and zeros."""
        page = bytes(CONTROL_OFFSET) + self.control.encode()
        return page[offset : offset + length].ljust(length, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        """Take a store; only one of the whole Control register means anything."""
        if offset == CONTROL_OFFSET and len(data) == Control.size:
            self.control = Control.decode(data)
            for kind in QueueType:
                self._tell(kind)

    def _tell(self, kind: int) -> None:
        queue = self.queues.get(kind)
        self.slice.write(_register(QueueType(kind), queue, self.control))


def _register(kind: QueueType, queue: HwQueue | None, control: Control) -> Descriptor:
    """Give the VF control register of a queue: zeros where there is none."""
    base, length = (0, 0) if queue is None else (queue.iova, _length_lg2(queue))
    there = queue is not None
    if kind is QueueType.COMMANDS:
        return GuestCommandControl(
            Base=base, Length=length, CmdBufEn=control.CmdBufEn and there, ComWaitIntEn=control.ComWaitIntEn
        )
    if kind is QueueType.EVENTS:
        return GuestEventControl(
            Base=base, Length=length, EvtLogEn=control.EventLogEn and there, EvtIntEn=control.EventIntEn
        )
    return GuestPprControl(
        BasePage=base // PAGE,
        Length=length,
        PPRLogEn=control.PPRLogEn and there,
        PPRIntEn=control.PPRIntEn,
        PPREn=control.PPREn,
        AutoRspEn=control.PPRAutoRspEn,
        BlkStopMrk=control.BlkStopMrkEn,
        AutoRspAon=control.PPRAutoRspAon,
    )


def _length_lg2(queue: HwQueue) -> int:
    """Give log2 of a queue's entries. Raises Invalid."""
    lg2 = queue.length.bit_length() - 1 - ENTRY_LG2
    if queue.length & (queue.length - 1) or not LEAST_LG2 <= lg2 <= MOST_LG2:
        least, most = 1 << LEAST_LG2 + ENTRY_LG2, 1 << MOST_LG2 + ENTRY_LG2
        raise Invalid(queue.title, "length", queue.length, f"a power of two, {least:#x} to {most:#x}")
    return lg2
