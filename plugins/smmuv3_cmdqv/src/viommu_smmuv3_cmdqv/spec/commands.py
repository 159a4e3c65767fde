"""Commands, as software puts them into the command queue (IHI 0070, chapter 4)."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu.layout import Bit, Bits, Descriptor, Field

if TYPE_CHECKING:
    from collections.abc import Mapping


class CommandOpcode(IntEnum):
    """Names are the specification's, without CMD_."""

    PREFETCH_CONFIG = 0x01
    PREFETCH_ADDR = 0x02
    CFGI_STE = 0x03
    CFGI_STE_RANGE = 0x04
    CFGI_CD = 0x05
    CFGI_CD_ALL = 0x06
    CFGI_VMS_PIDM = 0x07
    TLBI_NH_ALL = 0x10
    TLBI_NH_ASID = 0x11
    TLBI_NH_VA = 0x12
    TLBI_NH_VAA = 0x13
    TLBI_EL3_ALL = 0x18
    TLBI_EL3_VA = 0x1A
    TLBI_EL2_ALL = 0x20
    TLBI_EL2_ASID = 0x21
    TLBI_EL2_VA = 0x22
    TLBI_EL2_VAA = 0x23
    TLBI_S12_VMALL = 0x28
    TLBI_S2_IPA = 0x2A
    TLBI_NSNH_ALL = 0x30
    ATC_INV = 0x40
    PRI_RESP = 0x41
    RESUME = 0x44
    STALL_TERM = 0x45
    SYNC = 0x46


class RangeGranule(IntEnum):
    """TLBI TG: the granule that NUM and SCALE count in; NONE: one entry, not a range."""

    NONE = 0
    KB_4 = 1
    KB_16 = 2
    KB_64 = 3


class PageResponseCode(IntEnum):
    """PRI_RESP.Resp. 3 is reserved."""

    DENY = 0
    FAIL = 1
    SUCCESS = 2


class CompletionSignal(IntEnum):
    """SYNC.CS: how completion is told. 3 is reserved."""

    NONE = 0
    IRQ = 1
    SEV = 2


class Command(Descriptor, width=128):
    """What every command has; alone it is one without operands. SSec must be 0 on a Non-secure queue."""

    Opcode = Field(7, 0, of=CommandOpcode)
    SSec = Bit(10)


class _Stream(Command):
    SID = Bits(63, 32)


class _Substream(_Stream):
    SSID = Bits(31, 12)


class PREFETCH_CONFIG(_Substream):
    """A hint that a stream's configuration will be wanted."""

    SSV = Bit(11)


class PREFETCH_ADDR(_Substream):
    """A hint that a stream's translations will be wanted."""

    SSV = Bit(11)
    Size = Bits(68, 64)
    Address = Bits(127, 76, shift=12)


class CFGI_STE(_Stream):
    """Forget one STE, and the CDs found through it. Leaf: not the L1STD."""

    Leaf = Bit(64)


class CFGI_STE_RANGE(_Stream):
    """Forget 2^(Range+1) STEs, from SID with its lowest Range+1 bits clear. Range 31 is CFGI_ALL: all configuration."""

    Range = Bits(68, 64)


class CFGI_CD(_Substream):
    """Forget one CD. Leaf: not the L1CD."""

    Leaf = Bit(64)


class CFGI_CD_ALL(_Stream):
    """Forget every CD of a stream."""


class _Vmid(Command):
    VMID = Bits(47, 32)


class CFGI_VMS_PIDM(_Vmid):
    """Forget a VM's map of partition IDs (MPAM)."""


class TLBI_NH_ALL(_Vmid):
    """Forget what stage 1 gave to a VM."""


class TLBI_NH_ASID(_Vmid):
    """Forget what stage 1 gave to one ASID of a VM, but what is global."""

    ASID = Bits(63, 48)


class _Range(Command):
    NUM = Bits(16, 12)
    SCALE = Bits(24, 20)
    Leaf = Bit(64)
    TTL = Bits(73, 72)
    TG = Field(75, 74, of=RangeGranule)


class TLBI_NH_VA(_Range):
    """Forget what stage 1 gave to one ASID of a VM, and what is global, in a range of addresses."""

    VMID = Bits(47, 32)
    ASID = Bits(63, 48)
    Address = Bits(127, 76, shift=12)


class TLBI_NH_VAA(_Range):
    """Forget what stage 1 gave to a VM in a range of addresses, whatever the ASID."""

    VMID = Bits(47, 32)
    Address = Bits(127, 76, shift=12)


class TLBI_EL3_ALL(Command):
    """Forget what EL3 has; it has no place in a Non-secure queue."""


class TLBI_EL3_VA(_Range):
    """Forget what EL3 has in a range of addresses; it has no place in a Non-secure queue."""

    Address = Bits(127, 76, shift=12)


class TLBI_EL2_ALL(Command):
    """Forget what stage 1 gave to EL2."""


class TLBI_EL2_ASID(Command):
    """Forget what stage 1 gave to one ASID of EL2, but what is global."""

    ASID = Bits(63, 48)


class TLBI_EL2_VA(_Range):
    """Forget what stage 1 gave to EL2, to one ASID of it where it has them, in a range of addresses."""

    ASID = Bits(63, 48)
    Address = Bits(127, 76, shift=12)


class TLBI_EL2_VAA(_Range):
    """Forget what stage 1 gave to EL2 in a range of addresses, whatever the ASID."""

    Address = Bits(127, 76, shift=12)


class TLBI_S12_VMALL(_Vmid):
    """Forget all translations of a VM."""


class TLBI_S2_IPA(_Range):
    """Forget what stage 2 alone gave to a VM in a range of IPAs."""

    VMID = Bits(47, 32)
    Address = Bits(115, 76, shift=12)


class TLBI_NSNH_ALL(Command):
    """Forget all translations but those of EL2."""


class ATC_INV(_Substream):
    """Tell a device to forget the translations of 2^Size pages of 4 KB. Without SSV: whatever their SubstreamID."""

    Global = Bit(9)
    SSV = Bit(11)
    Size = Bits(69, 64)
    Address = Bits(127, 76, shift=12)


class PRI_RESP(_Substream):
    """Answer a group of page requests."""

    SSV = Bit(11)
    PRGIndex = Bits(72, 64)
    Resp = Field(77, 76, of=PageResponseCode)


class RESUME(_Stream):
    """End the wait of one stalled access. Ac: try it again; else Ab: end it with an abort, or silently."""

    Ac = Bit(12)
    Ab = Bit(13)
    STAG = Bits(79, 64)


class STALL_TERM(_Stream):
    """End every stalled access of a stream with an abort."""


class SYNC(Command):
    """Wait for all commands before it, and tell that they are complete."""

    CS = Field(13, 12, of=CompletionSignal)
    MSH = Bits(23, 22)
    MSIAttr = Bits(27, 24)
    MSIData = Bits(63, 32)
    MSIAddress = Bits(115, 66, shift=2)


_LAYOUTS: tuple[type[Command], ...] = (
    PREFETCH_CONFIG, PREFETCH_ADDR, CFGI_STE, CFGI_STE_RANGE, CFGI_CD, CFGI_CD_ALL, CFGI_VMS_PIDM,
    TLBI_NH_ALL, TLBI_NH_ASID, TLBI_NH_VA, TLBI_NH_VAA, TLBI_EL3_ALL, TLBI_EL3_VA,
    TLBI_EL2_ALL, TLBI_EL2_ASID, TLBI_EL2_VA, TLBI_EL2_VAA, TLBI_S12_VMALL, TLBI_S2_IPA, TLBI_NSNH_ALL,
    ATC_INV, PRI_RESP, RESUME, STALL_TERM, SYNC,
)  # fmt: skip
COMMANDS: Mapping[CommandOpcode, type[Command]] = MappingProxyType(
    {CommandOpcode[layout.__name__]: layout for layout in _LAYOUTS}
)
"""The layout of each command; any other opcode is CERROR_ILL."""
