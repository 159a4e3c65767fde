"""Intel's I/OAT DMA engine (CBDMA 3.3), one channel: copies along chains of descriptors, with MSI-X."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from viommu.errors import OutOfRange
from viommu.modelspecs import Bar, ModelInfo, PciIdentity, PciShape, modelimpl
from viommu.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.modelspecs import Bus, DeviceModel

IDENTITY = PciIdentity(vendor=0x8086, device=0x2021, class_code=0x088000, revision=4)
BAR_SIZE, CHANNEL = 0x4000, 0x80
"""The channel's registers follow the device's."""
CHANNELS, XFERCAP, INTRCTRL, VERSION = 0x00, 0x01, 0x03, 0x08
CHANCTRL, CHANCMD, DMACOUNT, CHANSTS, CHAINADDR, CHANCMP = 0x00, 0x04, 0x06, 0x08, 0x10, 0x18
CHANERR, CHANERR_MASK = 0x28, 0x2C
VERSION_3_3 = 0x33
MSIX_TABLE = 0x2000
MSIX_ENABLED = 0x08
INT_REARM, ERR_COMPLETION_EN, ERR_INT_EN = 0x0001, 0x0004, 0x0010
RESET, SUSPEND, ABORT = 0x20, 0x04, 0x08
ACTIVE, DONE, SUSPENDED, HALTED, ARMED = range(5)
"""Halted by a reset or an error; armed by the address of a chain."""
COMPLETED = -1 << 6
COUNT_MASK = 0xFFFF
AT_ONCE = 64
"""Descriptors that are worked on before registers are answered again."""

DESCRIPTOR = struct.Struct("<IIQQQ")
DESCRIPTOR_BYTES = 64
INTERRUPT, WRITE_BACK, NULL = 1 << 0, 1 << 3, 1 << 5
COPY, FILL = 0x00, 0x01
SOURCE_ERROR, TARGET_ERROR, DESCRIPTOR_ERROR, CONTROL_ERROR, LENGTH_ERROR = 0x100, 0x200, 0x008, 0x400, 0x800


class Descriptor(NamedTuple):
    """One piece of work, as memory has it."""

    size: int
    control: int
    source: int
    target: int
    next: int


class Ioat:
    """One device (a `viommu.modelspecs.DeviceModel`)."""

    shape = PciShape(IDENTITY, bars=(Bar(0, BAR_SIZE, wide=True, mapped=True),), msix=1, msix_table=(0, MSIX_TABLE))

    def __init__(self, bus: Bus, transfer_bits: int) -> None:
        """A descriptor moves 2 ** ``transfer_bits`` bytes at most."""
        self.bus = bus
        self.transfer_bits = transfer_bits
        self.reset()

    def reset(self) -> None:
        """Be as after power-on."""
        self.registers = bytearray(BAR_SIZE)
        self.registers[CHANNELS], self.registers[XFERCAP], self.registers[VERSION] = 1, self.transfer_bits, VERSION_3_3
        self._reset_channel()

    def _reset_channel(self) -> None:
        self.registers[CHANNEL : 2 * CHANNEL] = bytes(CHANNEL)
        self.state, self.completed = HALTED, 0
        self.at = self.done = 0
        self.armed = self.working = False

    def read(self, bar: int, offset: int, size: int) -> int:  # noqa: ARG002
        """Read a register."""
        if CHANNEL + CHANSTS <= offset < CHANNEL + CHANSTS + 8:
            status = (self.completed & COMPLETED) | self.state
            return status >> 8 * (offset - CHANNEL - CHANSTS) & ((1 << 8 * size) - 1)
        return int.from_bytes(self.registers[offset : offset + size], "little")

    def write(self, bar: int, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """Write a register."""
        register = offset - CHANNEL
        if offset == INTRCTRL or MSIX_TABLE <= offset < MSIX_TABLE + 0x20:
            self._put(offset, size, value)
        elif not 0 <= register < CHANNEL or CHANSTS <= register < CHANSTS + 8:
            return
        elif register == CHANCMD:
            self._command(value)
        elif register == CHANERR:
            self._put(offset, size, self._get(offset, size) & ~value)
        else:
            self._put(offset, size, value)
            self._set_up(register)

    def _set_up(self, register: int) -> None:
        if register == CHANCTRL:
            self.armed = bool(self._channel(CHANCTRL, 2) & INT_REARM)
        elif register in {CHAINADDR, CHAINADDR + 4}:
            self.at, self.done = self._channel(CHAINADDR, 8), 0
            if self.state != ACTIVE:
                self.state = ARMED
        elif register == DMACOUNT:
            self._start()

    def _command(self, command: int) -> None:
        if command & RESET:
            self._reset_channel()
        elif command & SUSPEND and self.state != HALTED:
            self.state = SUSPENDED
        elif command & ABORT:
            self.state = HALTED

    # --- the chain

    def _start(self) -> None:
        self.state = ACTIVE
        if not self.working:
            self.working = True
            self.bus.after(0, self._work)

    def _work(self) -> None:
        for _ in range(AT_ONCE):
            left = (self._channel(DMACOUNT, 2) - self.done) & COUNT_MASK
            if self.state != ACTIVE or not left:
                break
            error = self._step()
            if error:
                self._fail(error)
        else:
            self.bus.after(0, self._work)
            return
        self.working = False
        if self.state == ACTIVE:
            self.state = DONE

    def _step(self) -> int:
        """Work on one descriptor: 0, or a bit of CHANERR."""
        raw = self.bus.read(self.at, DESCRIPTOR_BYTES)
        if raw is None:
            return DESCRIPTOR_ERROR
        descriptor = Descriptor(*DESCRIPTOR.unpack_from(raw))
        error = 0 if descriptor.control & NULL else self._move(descriptor)
        if error:
            return error
        self.completed = self.at
        self.at, self.done = descriptor.next, self.done + 1 & COUNT_MASK
        if descriptor.control & WRITE_BACK:
            self._write_back()
        if descriptor.control & INTERRUPT:
            self._interrupt()
        return 0

    def _write_back(self) -> None:
        status = (self.completed & COMPLETED | self.state) & ((1 << 64) - 1)
        self.bus.write(self._channel(CHANCMP, 8), status.to_bytes(8, "little"))

    def _move(self, descriptor: Descriptor) -> int:
        if descriptor.size > 1 << self.transfer_bits:
            return LENGTH_ERROR
        operation = descriptor.control >> 24
        if operation == COPY:
            refused = self.bus.copy(descriptor.source, descriptor.target, descriptor.size)
            return 0 if refused is None else TARGET_ERROR if refused.writes else SOURCE_ERROR
        if operation != FILL:
            return CONTROL_ERROR
        pattern = descriptor.source.to_bytes(8, "little")
        data = (pattern * (descriptor.size // 8 + 1))[: descriptor.size]
        return 0 if self.bus.write(descriptor.target, data) else TARGET_ERROR

    def _fail(self, error: int) -> None:
        self.state = HALTED
        at = CHANNEL + CHANERR
        self._put(at, 4, self._get(at, 4) | error)
        control = self._channel(CHANCTRL, 2)
        if control & ERR_COMPLETION_EN:
            self._write_back()
        if control & ERR_INT_EN:
            self._interrupt()

    def _interrupt(self) -> None:
        if self.armed and self.registers[INTRCTRL] & MSIX_ENABLED:
            self.armed = False
            self.bus.interrupt(0)

    # --- registers

    def _channel(self, register: int, size: int) -> int:
        return self._get(CHANNEL + register, size)

    def _get(self, offset: int, size: int) -> int:
        return int.from_bytes(self.registers[offset : offset + size], "little")

    def _put(self, offset: int, size: int, value: int) -> None:
        self.registers[offset : offset + size] = value.to_bytes(size, "little")


@modelimpl
def viommu_model_info() -> ModelInfo:
    """Say what it is."""
    return ModelInfo(
        name="ioat",
        title="Intel I/OAT DMA engine (Skylake)",
        options={"transfer_bits": "the longest copy of a descriptor is 2 to this (12 to 20, default 20)"},
        specification="Intel CBDMA 3.3, as Linux's ioatdma driver and vfio selftests use it",
    )


@modelimpl
def viommu_model(bus: Bus, options: Mapping[str, str]) -> DeviceModel:
    """Make one."""
    bits = size_of(options.get("transfer_bits", "20"))
    if not 12 <= bits <= 20:
        raise OutOfRange("transfer_bits of ioat", bits, 20, 12)
    return Ioat(bus, bits)
