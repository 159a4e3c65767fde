"""Registers of queues, global errors and interrupts (IHI 0070, chapter 6.3)."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class CommandError(IntEnum):
    """CMDQ_CONS.ERR: why the command queue stopped. It counts only while GERROR.CMDQ_ERR is active."""

    CERROR_NONE = 0
    CERROR_ILL = 1
    CERROR_ABT = 2
    CERROR_ATC_INV_SYNC = 3


class IRQ_CTRL(Descriptor, width=32):
    """Which interrupts are enabled."""

    GERROR_IRQEN = Bit(0)
    PRIQ_IRQEN = Bit(1)
    EVENTQ_IRQEN = Bit(2)


class IRQ_CTRLACK(IRQ_CTRL):
    """What of IRQ_CTRL has taken effect."""


class GERROR(Descriptor, width=32):
    """Global errors: one is active while its bit differs from the one in GERRORN."""

    CMDQ_ERR = Bit(0)
    EVENTQ_ABT_ERR = Bit(2)
    PRIQ_ABT_ERR = Bit(3)
    MSI_CMDQ_ABT_ERR = Bit(4)
    MSI_EVENTQ_ABT_ERR = Bit(5)
    MSI_PRIQ_ABT_ERR = Bit(6)
    MSI_GERROR_ABT_ERR = Bit(7)
    SFM_ERR = Bit(8)
    CMDQP_ERR = Bit(9)
    DPT_ERR = Bit(10)


class GERRORN(GERROR):
    """Which global errors software has acknowledged."""


class _IrqAddress(Descriptor, width=64):
    ADDR = Bits(51, 2, shift=2)


class _IrqData(Descriptor, width=32):
    DATA = Bits(31, 0)


class _IrqAttributes(Descriptor, width=32):
    MEMATTR = Bits(3, 0)
    SH = Bits(5, 4)


class GERROR_IRQ_CFG0(_IrqAddress):
    """Where the message of a global error goes; address 0: a wire."""


class GERROR_IRQ_CFG1(_IrqData):
    """What the message of a global error says."""


class GERROR_IRQ_CFG2(_IrqAttributes):
    """How the message of a global error is written."""


class EVENTQ_IRQ_CFG0(_IrqAddress):
    """Where the message of the event queue goes; address 0: a wire."""


class EVENTQ_IRQ_CFG1(_IrqData):
    """What the message of the event queue says."""


class EVENTQ_IRQ_CFG2(_IrqAttributes):
    """How the message of the event queue is written."""


class PRIQ_IRQ_CFG0(_IrqAddress):
    """Where the message of the PRI queue goes; address 0: a wire."""


class PRIQ_IRQ_CFG1(_IrqData):
    """What the message of the PRI queue says."""


class PRIQ_IRQ_CFG2(_IrqAttributes):
    """How the message of the PRI queue is written. LO: only the last request of a group is signalled."""

    LO = Bit(31)


class _QueueBase(Descriptor, width=64):
    LOG2SIZE = Bits(4, 0)
    ADDR = Bits(51, 5, shift=5)


class CMDQ_BASE(_QueueBase):
    """Where the command queue is, and log2 of its entries."""

    RA = Bit(62)


class CMDQ_PROD(Descriptor, width=32):
    """Where software will put the next command."""

    WR = Bits(19, 0)


class CMDQ_CONS(Descriptor, width=32):
    """Which command is next, and why the queue stopped there."""

    RD = Bits(19, 0)
    ERR = Field(30, 24, of=CommandError)


class EVENTQ_BASE(_QueueBase):
    """Where the event queue is, and log2 of its entries."""

    WA = Bit(62)


class _Producer(Descriptor, width=32):
    WR = Bits(19, 0)
    OVFLG = Bit(31)


class _Consumer(Descriptor, width=32):
    RD = Bits(19, 0)
    OVACKFLG = Bit(31)


class EVENTQ_PROD(_Producer):
    """Where the next event goes. Records were lost while OVFLG is not EVENTQ_CONS.OVACKFLG."""


class EVENTQ_CONS(_Consumer):
    """Which event software reads next."""


class PRIQ_BASE(_QueueBase):
    """Where the queue of page requests is, and log2 of its entries."""

    WA = Bit(62)


class PRIQ_PROD(_Producer):
    """Where the next page request goes. Requests were lost while OVFLG is not PRIQ_CONS.OVACKFLG."""


class PRIQ_CONS(_Consumer):
    """Which page request software reads next."""
