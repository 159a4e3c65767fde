"""Registers by which hardware runs guests' IOMMUs: VF MMIO, VF control MMIO, and where both lie.

No manual of these is public: fields are those of the published driver series (`docs/drivers/amd_viommu.md` tells which
of them two sources agree on).
"""

from __future__ import annotations

from viommu.layout import Bit, Bits, Descriptor

MOST_GUESTS = 1 << 16
"""GuestIDs. 0 is no guest, and bit 15 is kept for secure guests."""

VF_PAGE = 0x1000
"""Bytes of VF MMIO for each GuestID: what the guest sees at 0x2000 of its own IOMMU."""

VF_CONTROL = 0x40
"""Bytes of VF control MMIO for each GuestID."""

GUEST_PAGE_OFFSET = 0x2000
"""Offset of the VF page in a guest's IOMMU: its registers are those of the physical page at the same offset."""

VSC_ID = 9
"""PCI capability id of a vendor-specific capability."""


class VscHeader(Descriptor, width=32):
    """Vendor-specific capability, +0x00."""

    Id = Bits(15, 0)
    Revision = Bits(23, 16)


class VscBarLow(Descriptor, width=32):
    """Lower half of a BAR of the vendor-specific capability: VF MMIO at +0x08, VF control MMIO at +0x10."""

    Enable = Bit(0)
    Address = Bits(31, 12, shift=12)


class VscBarHigh(Descriptor, width=32):
    """Upper half of the same, at +0x0c and +0x14."""

    Address = Bits(31, 0)


class GuestDeviceMap(Descriptor, width=64):
    """VF control 0x00: with Write, the guest's DeviceID stands for the host's from now on."""

    Valid = Bit(0)
    HostDeviceID = Bits(29, 14)
    GuestDeviceID = Bits(61, 46)
    Write = Bit(63)


class GuestDomainMap(Descriptor, width=64):
    """VF control 0x08: with Write, the guest's DomainID stands for the host's from now on."""

    Valid = Bit(0)
    HostDomainID = Bits(29, 14)
    GuestDomainID = Bits(61, 46)
    Write = Bit(63)


class GuestMiscControl(Descriptor, width=64):
    """VF control 0x10: the DeviceID whose entry leads from the guest's addresses to memory."""

    TranslateDeviceID = Bits(31, 16)


class GuestCommandControl(Descriptor, width=64):
    """VF control 0x20: the guest's command buffer."""

    Length = Bits(3, 0)
    CmdBufEn = Bit(8)
    ComWaitIntEn = Bit(9)
    Base = Bits(51, 12, shift=12)


class GuestEventControl(Descriptor, width=64):
    """VF control 0x28: the guest's event log."""

    Length = Bits(3, 0)
    LengthB = Bits(7, 4)
    EvtLogEn = Bit(8)
    EvtIntEn = Bit(9)
    DualEvtEn = Bits(11, 10)
    Base = Bits(51, 12, shift=12)


class GuestPprControl(Descriptor, width=64):
    """VF control 0x30: the guest's PPR log. Base is a page number here: bits 55:16 are the address from bit 12 on."""

    Length = Bits(3, 0)
    LengthB = Bits(7, 4)
    PPRLogEn = Bit(8)
    PPRIntEn = Bit(9)
    PPREn = Bit(10)
    DualPPREn = Bits(12, 11)
    AutoRspEn = Bit(13)
    BlkStopMrk = Bit(14)
    AutoRspAon = Bit(15)
    BasePage = Bits(55, 16)


VF_CONTROL_REGISTERS: dict[int, type[Descriptor]] = {
    0x00: GuestDeviceMap,
    0x08: GuestDomainMap,
    0x10: GuestMiscControl,
    0x20: GuestCommandControl,
    0x28: GuestEventControl,
    0x30: GuestPprControl,
}
"""By offset in a guest's VF control MMIO."""
