"""Registers of hardware errors, and those of features that few IOMMUs have (AMD 48882, 3.4)."""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor, Field
from viommu_amd_viommu.spec.events import EventCode


class HardwareEventUpper(Descriptor, width=64):
    """Hardware Event Upper (0x40): the first quadword of the last hardware-error event."""

    FirstOperand = Bits(59, 0)
    EventCode = Field(63, 60, of=EventCode)


class HardwareEventLower(Descriptor, width=64):
    """Hardware Event Lower (0x48): its second quadword."""

    SecondOperand = Bits(63, 0)


class HardwareEventStatus(Descriptor, width=64):
    """Hardware Event Status (0x50). HEO: another error came before software had cleared HEV."""

    HEV = Bit(0)
    HEO = Bit(1)


class SmiFilter(Descriptor, width=64):
    """SMI Filter (0x60 to 0xd8): a device that may send system-management interrupts."""

    SmiDID = Bits(15, 0)
    SmiDV = Bit(16)
    SmiFLock = Bit(17)


class DeviceSpecific(Descriptor, width=64):
    """Device-Specific Feature Extension, Control and Status (0x138, 0x140, 0x148)."""

    Bits23_0 = Bits(23, 0)
    RevMinor = Bits(27, 24)
    RevMajor = Bits(31, 28)


class PerformanceOptimization(Descriptor, width=32):
    """Performance Optimization Control (0x16c)."""

    PerfOptEn = Bit(13)


class ViommuStatus(Descriptor, width=64):
    """vIOMMU Status (0x190); its bits are those of hardware with EFR.vIOMMU."""

    Bits63_0 = Bits(63, 0)


class MarcBase(Descriptor, width=64):
    """Memory Access and Routing Control Base (0x200, ...)."""

    Base = Bits(51, 12, shift=12)


class MarcRelocation(Descriptor, width=64):
    """Memory Access and Routing Control Relocation (0x208, ...)."""

    Enable = Bit(0)
    ReadOnly = Bit(1)
    Address = Bits(51, 12, shift=12)


class MarcLength(Descriptor, width=64):
    """Memory Access and Routing Control Length (0x210, ...)."""

    Length = Bits(51, 12, shift=12)


class CounterConfiguration(Descriptor, width=64):
    """Counter Configuration (0x4000): how many performance counters there are."""

    NCounter = Bits(10, 7)
    NCounterBanks = Bits(17, 12)
