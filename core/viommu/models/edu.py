"""The educational device that QEMU documents: factorials, an interrupt, DMA to and from a buffer of 4 KiB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.errors import OutOfRange
from viommu.modelspecs import Bar, ModelInfo, PciIdentity, PciShape, modelimpl
from viommu.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.modelspecs import Bus, DeviceModel

IDENTITY = PciIdentity(vendor=0x1234, device=0x11E8, class_code=0x00FF00, revision=0x10)
BAR_SIZE = 1 << 20
ID, LIVENESS, FACTORIAL, STATUS = 0x00, 0x04, 0x08, 0x20
INTERRUPTS, RAISE, ACKNOWLEDGE = 0x24, 0x60, 0x64
DMA_SOURCE, DMA_TARGET, DMA_COUNT, DMA_COMMAND = 0x80, 0x88, 0x90, 0x98
WIDE_FROM = 0x80
"""Registers from here on may be accessed 8 bytes at a time; those below, 4."""
VERSION = 0x010000ED
COMPUTING, INTERRUPT_WHEN_COMPUTED = 0x01, 0x80
FACTORIAL_INTERRUPT, DMA_INTERRUPT = 0x01, 0x100
DMA_START, DMA_FROM_DEVICE, DMA_INTERRUPTS = 0x01, 0x02, 0x04
BUFFER_AT, BUFFER_SIZE = 0x40000, 4096
DEFAULT_MASK = (1 << 28) - 1
WORD = (1 << 32) - 1


class Edu:
    """One device (a `viommu.modelspecs.DeviceModel`)."""

    shape = PciShape(IDENTITY, bars=(Bar(0, BAR_SIZE, mapped=True),), msi=1, intx=True)

    def __init__(self, bus: Bus, mask: int, delay: float) -> None:
        """DMA addresses are cut to ``mask``; whatever is begun ends ``delay`` seconds later."""
        self.bus = bus
        self.mask = mask
        self.delay = delay
        self.reset()

    def reset(self) -> None:
        """Be as after power-on."""
        self.liveness = 0
        self.factorial = 0
        self.status = 0
        self.interrupts = 0
        self.dma = dict.fromkeys((DMA_SOURCE, DMA_TARGET, DMA_COUNT, DMA_COMMAND), 0)
        self.buffer = bytearray(BUFFER_SIZE)

    def read(self, bar: int, offset: int, size: int) -> int:  # noqa: ARG002
        """Read a register; all ones where there is none, or at another size."""
        if size not in ({4, 8} if offset >= WIDE_FROM else {4}):
            return (1 << 8 * size) - 1
        registers = {
            ID: VERSION,
            LIVENESS: self.liveness,
            FACTORIAL: self.factorial,
            STATUS: self.status,
            INTERRUPTS: self.interrupts,
            **self.dma,
        }
        return registers.get(offset, (1 << 8 * size) - 1) & ((1 << 8 * size) - 1)

    def write(self, bar: int, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """Write a register."""
        if size not in ({4, 8} if offset >= WIDE_FROM else {4}):
            return
        if offset == LIVENESS:
            self.liveness = ~value & WORD
        elif offset == FACTORIAL and not self.status & COMPUTING:
            self.factorial = value
            self.status |= COMPUTING
            self._later(self._computed)
        elif offset == STATUS:
            self.status = (self.status & ~INTERRUPT_WHEN_COMPUTED) | (value & INTERRUPT_WHEN_COMPUTED)
        elif offset == RAISE:
            self._raise(value)
        elif offset == ACKNOWLEDGE:
            self.interrupts &= ~value
        elif offset in self.dma and not self.dma[DMA_COMMAND] & DMA_START:
            self.dma[offset] = value
            if offset == DMA_COMMAND and value & DMA_START:
                self._later(self._moved)

    def _later(self, work: Callable[[], None]) -> None:
        if self.delay:
            self.bus.after(self.delay, work)
        else:
            work()

    def _computed(self) -> None:
        result = 1
        for factor in range(2, min(self.factorial, 34) + 1):  # 34! is a multiple of 2^32, and so are all above
            result = result * factor & WORD
        self.factorial = result
        self.status &= ~COMPUTING
        if self.status & INTERRUPT_WHEN_COMPUTED:
            self._raise(FACTORIAL_INTERRUPT)

    def _moved(self) -> None:
        command, count = self.dma[DMA_COMMAND], self.dma[DMA_COUNT]
        from_device = bool(command & DMA_FROM_DEVICE)
        inside = self.dma[DMA_SOURCE if from_device else DMA_TARGET] - BUFFER_AT
        outside = self.dma[DMA_TARGET if from_device else DMA_SOURCE] & self.mask
        if inside >= 0 and 0 < count <= BUFFER_SIZE - inside:
            if from_device:
                self.bus.write(outside, bytes(self.buffer[inside : inside + count]))
            else:
                self.buffer[inside : inside + count] = self.bus.read(outside, count) or bytes(count)
        self.dma[DMA_COMMAND] &= ~DMA_START
        if command & DMA_INTERRUPTS:
            self._raise(DMA_INTERRUPT)

    def _raise(self, bits: int) -> None:
        self.interrupts |= bits
        if self.interrupts:
            self.bus.interrupt()


@modelimpl
def viommu_model_info() -> ModelInfo:
    """Say what it is."""
    return ModelInfo(
        name="edu",
        title="QEMU's educational device",
        options={
            "dma_mask": "which bits of a DMA address count (default 0xfffffff)",
            "delay": "how long a factorial or a DMA takes (milliseconds, default 0: done at once)",
        },
        specification="QEMU, docs/specs/edu",
    )


@modelimpl
def viommu_model(bus: Bus, options: Mapping[str, str]) -> DeviceModel:
    """Make one."""
    delay = size_of(options.get("delay", "0"))
    if delay > 10_000:
        raise OutOfRange("delay of edu (ms)", delay, 10_000)
    return Edu(bus, int(options.get("dma_mask", hex(DEFAULT_MASK)), 0), delay / 1000)
