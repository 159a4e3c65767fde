"""Registers of the Tegra241 CMDQV, which gives an SMMU more command queues, some of them for guests.

There is no public manual: names and places are those of Linux's driver and of QEMU's model.
"""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field

PLACE = 0x100_0000
"""Where the block is: its offset from the SMMU's registers, in this model. Firmware tells a kernel."""

CONFIG_PAGE, DIRECT_PAGE0, DIRECT_PAGE1 = 0x0_0000, 0x1_0000, 0x2_0000
VINTF_PAGE0, VINTF_PAGE1, VINTF_STRIDE = 0x3_0000, 0x4_0000, 0x2_0000
PAGE_BYTES = 0x1_0000
"""Page 0 has what a guest may touch, page 1 the addresses."""
VCMDQ_STRIDE = 0x80
VINTF_BANK, VINTF_BANK_STRIDE = 0x1000, 0x100
CMDQ_ALLOC, CMDQ_ERR_MAP = 0x200, 0x24
SLOTS = 16
"""Pairs of SID_MATCH and SID_REPLACE that a VINTF's bank has room for."""

CONFIG_AT, PARAM_AT, STATUS_AT = 0x0, 0x4, 0x8
VINTF_ERR_MAP_AT, VINTF_INT_MASK_AT = 0x14, 0x1C
"""64 bits each, though their place is no multiple of 8."""
VINTF_CONFIG_AT, VINTF_STATUS_AT = 0x00, 0x04
SID_MATCH_AT, SID_REPLACE_AT, LVCMDQ_ERR_MAP_AT = 0x40, 0x80, 0xC0
CONS_AT, PROD_AT, VCMDQ_CONFIG_AT, VCMDQ_STATUS_AT, GERROR_AT, GERRORN_AT = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14
BASE_AT, CONS_BASE_AT = 0x00, 0x08


class VcmdqError(IntEnum):
    """CONS_INDX.ERR: why a queue stopped."""

    CERROR_NONE = 0
    CERROR_ILL_OPCODE = 1
    CERROR_ABT = 2
    CERROR_ATC_INV_SYNC = 3
    CERROR_ILL_ACCESS = 4


class VintfError(IntEnum):
    """VINTF_STATUS.STATUS."""

    NONE = 0
    VCMDQ = 1


class CMDQV_CONFIG(Descriptor, width=32):
    """What is switched on."""

    EN = Bit(0)
    PER_CMD_OFFSET = Bits(3, 1)
    MAX_CLK_BATCH = Bits(11, 4)
    MAX_CMD_BATCH = Bits(19, 12)
    CONS_DRAM_EN = Bit(20)


class CMDQV_PARAM(Descriptor, width=32):
    """How much there is of everything (log2)."""

    VER = Bits(3, 0)
    NUM_VCMDQ_LOG2 = Bits(7, 4)
    NUM_VINTF_LOG2 = Bits(11, 8)
    NUM_SID_PER_VM_LOG2 = Bits(15, 12)


class CMDQV_STATUS(Descriptor, width=32):
    """What of CONFIG has taken effect."""

    ENABLED = Bit(0)


class CMDQV_CMDQ_ALLOC(Descriptor, width=32):
    """Which VINTF has a VCMDQ, and by which number it knows it. ALLOC: it may use it."""

    ALLOC = Bit(0)
    LVCMDQ = Bits(7, 1)
    VINTF = Bits(20, 15)


class VINTF_CONFIG(Descriptor, width=32):
    """Whose an interface is. HYP_OWN: the hypervisor's; a guest finds it to be 0 whatever it writes."""

    EN = Bit(0)
    VMID = Bits(16, 1)
    HYP_OWN = Bit(17)


class VINTF_STATUS(Descriptor, width=32):
    """What of VINTF_CONFIG has taken effect, and whether a queue has an error."""

    ENABLED = Bit(0)
    STATUS = Field(3, 1, of=VintfError)
    NUM_LVCMDQ = Bits(23, 16)


class SID_MATCH(Descriptor, width=32):
    """A StreamID of a guest's."""

    EN = Bit(0)
    VIRT_SID = Bits(20, 1)


class SID_REPLACE(Descriptor, width=32):
    """What it is on the SMMU."""

    PHYS_SID = Bits(19, 0)


class VCMDQ_CONS_INDX(Descriptor, width=32):
    """Which command is next, and why the queue stopped there."""

    RD = Bits(19, 0)
    ERR = Field(30, 24, of=VcmdqError)


class VCMDQ_PROD_INDX(Descriptor, width=32):
    """Where software will put the next command."""

    WR = Bits(19, 0)


class VCMDQ_CONFIG(Descriptor, width=32):
    """Whether a queue is to run."""

    EN = Bit(0)


class VCMDQ_STATUS(Descriptor, width=32):
    """Whether it runs."""

    EN_OK = Bit(0)


class VCMDQ_GERROR(Descriptor, width=32):
    """Errors of a queue: one is active while its bit differs from the one in GERRORN."""

    CMDQ_ERR = Bit(0)
    CONS_DRAM_WR_ABT_ERR = Bit(1)
    CMDQ_INIT_ERR = Bit(2)


class VCMDQ_GERRORN(VCMDQ_GERROR):
    """Which errors software has acknowledged."""


class VCMDQ_BASE(Descriptor, width=64):
    """Where a queue is, and log2 of its entries."""

    LOG2SIZE = Bits(4, 0)
    ADDR = Bits(47, 5, shift=5)


class VCMDQ_CONS_INDX_BASE(Descriptor, width=64):
    """Where the SMMU keeps a copy of CONS_INDX in memory, if CMDQV_CONFIG says so."""

    ADDR = Bits(47, 0)


class VINTF_ERR_MAP(Descriptor, width=64):
    """Which VINTFs have a queue with an error."""

    VINTFS = Bits(63, 0)


class VINTF_INT_MASK(Descriptor, width=64):
    """Which VINTFs raise no interrupt."""

    VINTFS = Bits(63, 0)


class CMDQV_CMDQ_ERR_MAP(Descriptor, width=32):
    """Which of 32 VCMDQs have an error."""

    VCMDQS = Bits(31, 0)


class LVCMDQ_ERR_MAP(Descriptor, width=64):
    """Which of 64 queues of a VINTF, by the VINTF's numbers, have an error."""

    LVCMDQS = Bits(63, 0)


CMDQV_REGISTERS: tuple[type[Descriptor], ...] = (
    CMDQV_CONFIG,
    CMDQV_PARAM,
    CMDQV_STATUS,
    VINTF_ERR_MAP,
    VINTF_INT_MASK,
    CMDQV_CMDQ_ERR_MAP,
    CMDQV_CMDQ_ALLOC,
    VINTF_CONFIG,
    VINTF_STATUS,
    SID_MATCH,
    SID_REPLACE,
    LVCMDQ_ERR_MAP,
    VCMDQ_CONS_INDX,
    VCMDQ_PROD_INDX,
    VCMDQ_CONFIG,
    VCMDQ_STATUS,
    VCMDQ_GERROR,
    VCMDQ_GERRORN,
    VCMDQ_BASE,
    VCMDQ_CONS_INDX_BASE,
)
"""Every register of the block, by its layout."""
