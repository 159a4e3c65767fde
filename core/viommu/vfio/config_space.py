"""The configuration space of a PCI function: header, BARs, capabilities, and which bits software may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu.modelspecs import Bar, PciShape

SIZE = 4096
"""Bytes, as a PCI Express function has them."""
HEADER = 0x40
COMMAND, STATUS, CAPABILITIES, FIRST_BAR, INTERRUPT_PIN = 0x04, 0x06, 0x34, 0x10, 0x3D
COMMAND_WRITABLE = 0x0547
"""I/O, memory, bus master, parity, SERR, INTx disable."""
MEMORY, BUS_MASTER, WIRE_DISABLED = 1 << 1, 1 << 2, 1 << 10
HAS_CAPABILITIES = 1 << 4
EXPRESS, MSI, MSIX = 0x10, 0x05, 0x11
BAR_WIDE, BAR_PREFETCHABLE = 1 << 2, 1 << 3
DEVICE_CAPABILITIES_FLR = 1 << 28
DEVICE_CONTROL, INITIATE_FLR = 8, 1 << 15
"""The register, from the start of the Express capability, and its bit that resets the function; it reads as zero."""
MSIX_ENTRY_BYTES = 16


class ConfigSpace:
    """One function's. Values are little-endian, sizes in bytes."""

    def __init__(self, shape: PciShape) -> None:
        """Lay it out."""
        self.shape = shape
        self._bytes = bytearray(SIZE)
        self._writable = bytearray(SIZE)
        self._next = HEADER
        self._last_link = CAPABILITIES
        self._lay_out()
        self._power_on = bytes(self._bytes)

    def read(self, offset: int, size: int) -> bytes:
        """Give bytes."""
        return bytes(self._bytes[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Store what software may store."""
        for at, value in enumerate(data, offset):
            mask = self._writable[at]
            self._bytes[at] = (self._bytes[at] & ~mask) | (value & mask)

    def open(self) -> None:
        """Be as the host leaves it to who opens the device: as after power-on, and answering to memory accesses."""
        self._bytes[:] = self._power_on
        self._bytes[COMMAND] |= MEMORY

    def take_reset(self) -> bool:
        """Say whether software has asked for a reset of the function since this was last asked."""
        at = self._express + DEVICE_CONTROL + 1
        asked = bool(self._bytes[at] & INITIATE_FLR >> 8)
        self._bytes[at] &= ~(INITIATE_FLR >> 8)
        return asked

    @property
    def command(self) -> int:
        """The command register."""
        return int.from_bytes(self.read(COMMAND, 2), "little")

    @property
    def is_master(self) -> bool:
        """Whether the function may send DMA."""
        return bool(self._bytes[COMMAND] & BUS_MASTER)

    @property
    def has_memory(self) -> bool:
        """Whether its BARs answer."""
        return bool(self._bytes[COMMAND] & MEMORY)

    @property
    def has_wire_disabled(self) -> bool:
        """Whether INTx is disabled."""
        return bool(self.command & WIRE_DISABLED)

    def _lay_out(self) -> None:
        identity = self.shape.identity
        self._put(0x00, 2, identity.vendor)
        self._put(0x02, 2, identity.device)
        self._put(COMMAND, 2, 0, COMMAND_WRITABLE)
        self._put(0x08, 1, identity.revision)
        self._put(0x09, 3, identity.class_code)
        self._put(0x0C, 1, 0, 0xFF)  # cache line size
        self._put(0x2C, 2, identity.subsystem_vendor)
        self._put(0x2E, 2, identity.subsystem)
        self._put(0x3C, 1, 0, 0xFF)  # interrupt line
        self._put(INTERRUPT_PIN, 1, int(self.shape.intx))
        for bar in self.shape.bars:
            self._put_bar(bar)
        self._put_express()
        if self.shape.msi:
            self._put_msi()
        if self.shape.msix:
            self._put_msix()

    def _put(self, offset: int, size: int, value: int, writable: int = 0) -> None:
        self._bytes[offset : offset + size] = value.to_bytes(size, "little")
        self._writable[offset : offset + size] = writable.to_bytes(size, "little")

    def _put_bar(self, bar: Bar) -> None:
        size = 8 if bar.wide else 4
        kind = BAR_WIDE | BAR_PREFETCHABLE if bar.wide else 0
        self._put(FIRST_BAR + 4 * bar.index, size, kind, -bar.size & ((1 << 8 * size) - 1))

    def _capability(self, number: int, length: int) -> int:
        at, self._next = self._next, self._next + -(-length // 4) * 4
        self._put(at, 1, number)
        self._bytes[self._last_link] = at
        self._last_link = at + 1
        self._put(STATUS, 2, HAS_CAPABILITIES)
        return at

    def _put_express(self) -> None:
        """An endpoint, version 2, which can be reset by itself; software asks for that by an ioctl."""
        at = self._express = self._capability(EXPRESS, 0x3C)
        self._put(at + 2, 2, 2)
        self._put(at + 4, 4, DEVICE_CAPABILITIES_FLR)
        self._put(at + DEVICE_CONTROL, 2, 0, 0xFFFF)

    def _put_msi(self) -> None:
        at = self._capability(MSI, 14)
        vectors = (self.shape.msi - 1).bit_length()
        self._put(at + 2, 2, 1 << 7 | vectors << 1, 0x71)
        self._put(at + 4, 8, 0, 0xFFFF_FFFF_FFFF_FFFC)
        self._put(at + 12, 2, 0, 0xFFFF)

    def _put_msix(self) -> None:
        at = self._capability(MSIX, 12)
        self._put(at + 2, 2, self.shape.msix - 1, 0xC000)
        bar, table = self.shape.msix_table
        self._put(at + 4, 4, table | bar)
        self._put(at + 8, 4, (table + MSIX_ENTRY_BYTES * self.shape.msix) | bar)
