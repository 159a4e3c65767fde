"""The IOMMU's own interrupts: when one is due, and the message that signals it (AMD 48882, 2.8 and 3.4)."""

from __future__ import annotations

from enum import Enum
from functools import reduce
from operator import or_
from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.platform import Interrupt
from viommu_amd_viommu.spec.interrupt_registers import (
    MsiAddressHigh,
    MsiAddressLow,
    MsiCapabilityHeader,
    MsiData,
    MsiVector0,
    XTInterrupt,
)
from viommu_amd_viommu.spec.queue_registers import PPROverflowEarly
from viommu_amd_viommu.spec.registers import Control, Status

if TYPE_CHECKING:
    from viommu.platform import Platform
    from viommu.registers import RegisterFile

X86_MESSAGES = 0xFEE0_0000
"""Where x86 takes interrupt messages; the destination is in the address."""


class Vector(Enum):
    """Which message a source is signalled by; the value is the register of its XT form."""

    GENERAL = "XTEVTINT"
    PPR = "XTPPRINT"


@frozen
class Source:
    """A Status bit that interrupts while ``enable`` is set in the register ``enabled_by``."""

    name: str
    status: int
    enabled_by: str
    enable: int
    vector: Vector


_EVENT = ("CONTROL", Control.EventIntEn.mask, Vector.GENERAL)
_PPR = ("CONTROL", Control.PPRIntEn.mask, Vector.PPR)

SOURCES = (
    Source("event log", Status.EventLogInt.mask, *_EVENT),
    Source("event log overflow", Status.EventOverflow.mask, *_EVENT),
    Source("event log B overflow", Status.EventOverflowB.mask, *_EVENT),
    Source("completion wait", Status.ComWaitInt.mask, "CONTROL", Control.ComWaitIntEn.mask, Vector.GENERAL),
    Source("PPR log", Status.PPRInt.mask, *_PPR),
    Source("PPR log overflow", Status.PPROverflow.mask, *_PPR),
    Source("PPR log B overflow", Status.PPROverflowB.mask, *_PPR),
    Source("PPR log nearly full", Status.PPROverflowEarly.mask, "PPREARLY", PPROverflowEarly.IntEn.mask, Vector.PPR),
    Source(
        "PPR log B nearly full", Status.PPROverflowEarlyB.mask, "PPREARLYB", PPROverflowEarly.IntEn.mask, Vector.PPR
    ),
)

ALL_SOURCES = reduce(or_, (source.status for source in SOURCES))
"""The Status bits of all."""


@define(eq=False, repr=False)
class Interrupts:
    """Signals a source when its Status bit and its enable come to be set both; again once software cleared one."""

    file: RegisterFile
    platform: Platform
    _asserted: int = field(init=False)
    _lock: Lock = field(init=False, factory=Lock)

    def __attrs_post_init__(self) -> None:
        self._asserted = self._due()

    def raise_(self, status: int) -> None:
        """Set Status bits, and signal what they cause."""
        self.file.change("STATUS", sets=status)
        self.update()

    def update(self) -> None:
        """Signal what has become due since the last call."""
        with self._lock:
            due = self._due()
            fresh, self._asserted = due & ~self._asserted, due
        for source in SOURCES if fresh else ():
            if source.status & fresh:
                self._signal(source)

    def _due(self) -> int:
        status = self.file["STATUS"] & ALL_SOURCES
        return status and sum(
            source.status
            for source in SOURCES
            if status & source.status and self.file[source.enabled_by] & source.enable
        )

    def _signal(self, source: Source) -> None:
        """Send a message, if software has said how: with neither form enabled, Status alone tells."""
        if self.file.decoded("CONTROL", Control).IntCapXTEn:
            self.platform.interrupt(_xt_message(source, self.file.decoded(source.vector.value, XTInterrupt)))
        elif self.file.decoded("MSICAP", MsiCapabilityHeader).MsiEn:
            self.platform.interrupt(self._msi_message(source))

    def _msi_message(self, source: Source) -> Interrupt:
        """Of several messages, the number is in the low bits of the data."""
        vectors = self.file.decoded("MSIVECTOR0", MsiVector0)
        number = vectors.MsiNumPPR if source.vector is Vector.PPR else vectors.MsiNum
        several = (1 << self.file.decoded("MSICAP", MsiCapabilityHeader).MsiMultMessEn) - 1
        high = self.file.decoded("MSIADDRHI", MsiAddressHigh).Address
        data = self.file.decoded("MSIDATA", MsiData).Data
        return Interrupt(
            source.name,
            high << 32 | self.file.decoded("MSIADDRLO", MsiAddressLow).Address,
            data & ~several | number & several,
        )


def _xt_message(source: Source, register: XTInterrupt) -> Interrupt:
    """Write it as x86 writes a message with a 32-bit destination: bits 31:8 in the address's upper half."""
    low = X86_MESSAGES | (register.Destination & 0xFF) << 12 | register.DestMode << 2
    return Interrupt(source.name, (register.Destination >> 8) << 40 | low, register.DeliveryMode << 8 | register.Vector)
