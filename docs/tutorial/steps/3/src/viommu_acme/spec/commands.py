"""Commands, and what each of them comes down to."""

from __future__ import annotations

from enum import IntEnum

from viommu.commands import (
    AllContexts,
    Block,
    Contexts,
    Everything,
    InvalidateStage2Range,
    Meanings,
    Number,
    Stage2Tag,
    means,
)
from viommu.layout import Bits, Descriptor, Field


class Op(IntEnum):
    """What a command does."""

    FORGET_ALL = 1
    FORGET_DEVICE = 2
    FORGET_DOMAIN = 3
    FORGET_PAGES = 4


class Command(Descriptor, width=128):
    """What every command has."""

    Op = Field(7, 0, of=Op)


class ForgetAll(Command):
    """Forget entries and translations of everybody."""


class ForgetDevice(Command):
    """Forget a device table entry."""

    DeviceID = Bits(31, 16)


class ForgetDomain(Command):
    """Forget all translations of a domain."""

    DomainID = Bits(43, 32)


class ForgetPages(Command):
    """Forget translations of 2^(12 + SizeLg2) bytes of a domain."""

    SizeLg2 = Bits(15, 8)
    DomainID = Bits(43, 32)
    Address = Bits(127, 76, shift=12)


COMMANDS: dict[int, type[Command]] = {
    Op.FORGET_ALL: ForgetAll,
    Op.FORGET_DEVICE: ForgetDevice,
    Op.FORGET_DOMAIN: ForgetDomain,
    Op.FORGET_PAGES: ForgetPages,
}

MEANINGS = Meanings(
    Command.size,
    Command.Op,
    {
        Op.FORGET_ALL: means("FORGET_ALL", Everything(), AllContexts(), zero=ForgetAll.reserved_mask),
        Op.FORGET_DEVICE: means("FORGET_DEVICE", Contexts(ForgetDevice.DeviceID), zero=ForgetDevice.reserved_mask),
        Op.FORGET_DOMAIN: means("FORGET_DOMAIN", Stage2Tag(ForgetDomain.DomainID), zero=ForgetDomain.reserved_mask),
        Op.FORGET_PAGES: means(
            "FORGET_PAGES",
            InvalidateStage2Range(
                ForgetPages.DomainID, Block(ForgetPages.Address, Number(ForgetPages.SizeLg2, plus=12))
            ),
            Stage2Tag(ForgetPages.DomainID, stage1_only=True),
            zero=ForgetPages.reserved_mask,
        ),
    },
)
"""A command with a reserved bit set, or another opcode, is refused: the queue stops at it."""
