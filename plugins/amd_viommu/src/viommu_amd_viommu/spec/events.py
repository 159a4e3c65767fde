"""Event log entries, 16 bytes each (AMD 48882, 2.5). Bit n of dword d is bit 32d + n here.

Bits that no field covers are written as zero.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from viommu.layout import Bit, Bits, Descriptor, Field, Split

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventCode(IntEnum):
    """Which event an entry tells of."""

    ILLEGAL_DEV_TABLE_ENTRY = 0x1
    IO_PAGE_FAULT = 0x2
    DEV_TAB_HW_ERROR = 0x3
    PAGE_TAB_HW_ERROR = 0x4
    ILLEGAL_COMMAND_ERROR = 0x5
    COMMAND_HW_ERROR = 0x6
    IOTLB_INV_TIMEOUT = 0x7
    INVALID_DEVICE_REQUEST = 0x8
    INVALID_PPR_REQUEST = 0x9
    EVENT_COUNTER_ZERO = 0xA
    GUEST_EVENT_FAULT = 0xB
    VIOMMU_HW_ERROR = 0xC
    RMP_FAULT = 0xD
    RMP_HW_ERROR = 0xE


class HardwareErrorType(IntEnum):
    """Type of the hardware-error events: how the access failed."""

    MASTER_ABORT = 1
    TARGET_ABORT = 2
    DATA_ERROR = 3


class InvalidAccess(IntEnum):
    """Type of INVALID_DEVICE_REQUEST where TR is 0. The numbers are those of their order in the only source."""

    READ_OF_INTERRUPT_RANGE = 0
    PRE_TRANSLATED = 1
    PORT_IO = 2
    SYSTEM_MANAGEMENT = 3
    INTERRUPT_RANGE = 4
    RESERVED_INTERRUPT_RANGE = 5
    SYSTEM_MANAGEMENT_ADDRESS = 6


class InvalidTranslationRequest(IntEnum):
    """Type of INVALID_DEVICE_REQUEST where TR is 1."""

    INVALID_ACCESS = 0
    ATS_DISABLED = 1
    BAD_DEVICE_ID = 2


class AnyEvent(Descriptor, width=128):
    """What every event has."""

    EventCode = Field(63, 60, of=EventCode)


class EventEntry(AnyEvent):
    """What every event but `InvalidPprRequest` has: which of a guest's structures it is about."""

    VNR = Bit(27)
    vEVENT = Bit(29)
    vPTR = Bit(30)
    vCMD = Bit(31)


class IllegalDevTableEntry(EventEntry):
    """ILLEGAL_DEV_TABLE_ENTRY: a DTE that hardware may not use, or none for this DeviceID."""

    DeviceID = Bits(15, 0)
    PASID = Split((47, 32), (19, 16))
    GN = Bit(48)
    I = Bit(51)  # noqa: E741 - the printed name
    RW = Bit(53)
    RZ = Bit(55)
    TR = Bit(56)
    Address = Bits(127, 66, shift=2)


class IoPageFault(EventEntry):
    """IO_PAGE_FAULT: translation found no permission. With GN, the tag is PASID[15:0], else a DomainID."""

    DeviceID = Bits(15, 0)
    PASIDHigh = Bits(19, 16)
    DomainIDOrPASID = Bits(47, 32)
    GN = Bit(48)
    NX = Bit(49)
    US = Bit(50)
    I = Bit(51)  # noqa: E741 - the printed name
    PR = Bit(52)
    RW = Bit(53)
    PE = Bit(54)
    RZ = Bit(55)
    TR = Bit(56)
    Address = Bits(127, 64)


class DevTabHardwareError(EventEntry):
    """DEV_TAB_HW_ERROR: a DTE could not be read."""

    DeviceID = Bits(15, 0)
    I = Bit(51)  # noqa: E741 - the printed name
    RW = Bit(53)
    TR = Bit(56)
    Type = Field(58, 57, of=HardwareErrorType)
    Address = Bits(127, 64)


class PageTabHardwareError(EventEntry):
    """PAGE_TAB_HW_ERROR: a translation entry could not be read. The tag is as in `IoPageFault`."""

    DeviceID = Bits(15, 0)
    PASIDHigh = Bits(19, 16)
    DomainIDOrPASID = Bits(47, 32)
    GN = Bit(48)
    I = Bit(51)  # noqa: E741 - the printed name
    RW = Bit(53)
    TR = Bit(56)
    Type = Field(58, 57, of=HardwareErrorType)
    Address = Bits(127, 67, shift=3)


class IllegalCommandError(EventEntry):
    """ILLEGAL_COMMAND_ERROR: a command that does not decode."""

    Address = Bits(127, 64)


class CommandHardwareError(EventEntry):
    """COMMAND_HW_ERROR: the command buffer could not be accessed."""

    Type = Field(58, 57, of=HardwareErrorType)
    Address = Bits(127, 64)


class IotlbInvTimeout(EventEntry):
    """IOTLB_INV_TIMEOUT: a device did not answer an invalidation."""

    DeviceID = Bits(15, 0)
    Address = Bits(127, 68, shift=4)


class InvalidDeviceRequest(EventEntry):
    """INVALID_DEVICE_REQUEST: an access that the device may not make."""

    DeviceID = Bits(15, 0)
    PASID = Split((47, 32), (19, 16))
    GN = Bit(48)
    US = Bit(49)  # the only source has it one bit lower than in the other events
    TR = Bit(56)
    Type = Bits(59, 57)
    Address = Bits(127, 64)


class InvalidPprRequest(AnyEvent):
    """INVALID_PPR_REQUEST: a page request from a device that may make none. Flags lie as in the PPR log."""

    DeviceID = Bits(15, 0)
    PASID = Split((31, 16), (45, 42))
    Tag = Bits(41, 32)
    EXEC = Bit(49)
    READ = Bit(50)
    WRITE = Bit(53)
    US = Bit(54)
    RSVD = Bit(55)
    GN = Bit(56)
    Address = Bits(127, 64)


class EventCounterZero(EventEntry):
    """EVENT_COUNTER_ZERO: a performance counter wrapped."""

    CounterNoteHigh = Bits(83, 64)
    CounterNoteLow = Bits(127, 96)


class GuestEventFault(EventEntry):
    """GUEST_EVENT_FAULT: an event could not be given to a guest."""

    GuestID = Bits(47, 32)


class ViommuHardwareError(EventEntry):
    """VIOMMU_HW_ERROR: a structure of a guest's IOMMU could not be accessed."""

    GuestID = Bits(15, 0)
    Source = Bits(17, 16)
    Address = Bits(127, 64)


class RmpFault(EventEntry):
    """RMP_FAULT: an access that the reverse map table refuses (SEV-SNP)."""

    DeviceID = Bits(15, 0)
    RMPFlags = Bits(23, 16)
    VMGTag = Bits(47, 32)
    Flags = Bits(59, 48)
    Address = Bits(127, 67, shift=3)


class RmpHardwareError(EventEntry):
    """RMP_HW_ERROR: the reverse map table could not be accessed (SEV-SNP)."""

    DeviceID = Bits(15, 0)
    VMGTag = Bits(47, 32)
    Flags = Bits(59, 48)
    Address = Bits(127, 67, shift=3)


EVENTS: Mapping[int, type[AnyEvent]] = {
    EventCode.ILLEGAL_DEV_TABLE_ENTRY: IllegalDevTableEntry,
    EventCode.IO_PAGE_FAULT: IoPageFault,
    EventCode.DEV_TAB_HW_ERROR: DevTabHardwareError,
    EventCode.PAGE_TAB_HW_ERROR: PageTabHardwareError,
    EventCode.ILLEGAL_COMMAND_ERROR: IllegalCommandError,
    EventCode.COMMAND_HW_ERROR: CommandHardwareError,
    EventCode.IOTLB_INV_TIMEOUT: IotlbInvTimeout,
    EventCode.INVALID_DEVICE_REQUEST: InvalidDeviceRequest,
    EventCode.INVALID_PPR_REQUEST: InvalidPprRequest,
    EventCode.EVENT_COUNTER_ZERO: EventCounterZero,
    EventCode.GUEST_EVENT_FAULT: GuestEventFault,
    EventCode.VIOMMU_HW_ERROR: ViommuHardwareError,
    EventCode.RMP_FAULT: RmpFault,
    EventCode.RMP_HW_ERROR: RmpHardwareError,
}
"""How to decode an entry of each code."""


def decode_event(raw: bytes) -> AnyEvent:
    """Decode an event log entry by its own code; of an unknown one only the code is told."""
    return EVENTS.get(AnyEvent.decode(raw).EventCode, AnyEvent).decode(raw)
