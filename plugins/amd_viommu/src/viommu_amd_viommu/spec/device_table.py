"""The device table: what the IOMMU does for one DeviceID (AMD 48882, 2.2.2)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field, Ignored, Split


class HostAccessDirty(IntEnum):
    """DTE.HAD: which flags hardware sets in host page tables. 2 is reserved."""

    NONE = 0
    ACCESSED = 1
    ACCESSED_DIRTY = 3


class PortIo(IntEnum):
    """DTE.IoCtl: port I/O of the device. 3 is reserved."""

    ABORT = 0
    FORWARD = 1
    TRANSLATE = 2


class SystemManagement(IntEnum):
    """DTE.SysMgt: what becomes of messages in the system-management range."""

    ABORT = 0
    FORWARD = 1
    FORWARD_INTERRUPTS = 2
    TRANSLATE = 3


class GuestPaging(IntEnum):
    """DTE.GuestPagingMode: levels of the guest (v2) tables. 2 and 3 are reserved."""

    LEVELS_4 = 0
    LEVELS_5 = 1


class InterruptControl(IntEnum):
    """DTE.IntCtl: what becomes of fixed and arbitrated interrupts. 3 is reserved."""

    ABORT = 0
    PASS = 1
    REMAP = 2


class DTE(Descriptor, width=256):
    """Device Table Entry. Printed as four quadwords; bit n of quadword q is bit 64q + n here."""

    V = Bit(0)
    TV = Bit(1)
    HAD = Field(8, 7, of=HostAccessDirty)
    Mode = Bits(11, 9)
    HostPageTableRoot = Bits(51, 12, shift=12)
    PPR = Bit(52)
    GPRP = Bit(53)
    GIOV = Bit(54)
    GV = Bit(55)
    GLX = Bits(57, 56)
    GCR3 = Split((60, 58), (95, 80), (127, 107), shift=12)
    IR = Bit(61)
    IW = Bit(62)

    DomainID = Bits(79, 64)
    I = Bit(96)  # noqa: E741 - the printed name
    SE = Bit(97)
    SA = Bit(98)
    IoCtl = Field(100, 99, of=PortIo)
    Cache = Bit(101)
    SD = Bit(102)
    EX = Bit(103)
    SysMgt = Field(105, 104, of=SystemManagement)
    SATS = Bit(106)

    IV = Bit(128)
    IntTabLen = Bits(132, 129)
    IG = Bit(133)
    IntTableRoot = Bits(179, 134, shift=6)
    GuestPagingMode = Field(183, 182, of=GuestPaging)
    INITPass = Bit(184)
    EIntPass = Bit(185)
    NMIPass = Bit(186)
    HPTMode = Bit(187)
    IntCtl = Field(189, 188, of=InterruptControl)
    Lint0Pass = Bit(190)
    Lint1Pass = Bit(191)

    vImuEn = Bit(207)
    GuestDeviceID = Bits(223, 208)
    GuestID = Bits(239, 224)
    SoftwareAvailable = Ignored(245)
    AttrV = Bit(246)
    Mode0FC = Bit(247)
    SnoopAttr = Bits(255, 248)
