"""The hooks and their promises: the one page that a driver author must read.

A driver is an object registered under the entry-point group ``viommu``. It declares `HOOKSPEC_VERSION` as
``hookspec_version`` and implements the hooks below with ``@viommu.hookimpl``. A machine binds one driver
and calls hooks on it alone; wrapper plugins (``@viommu.hookimpl(wrapper=True)``) may be added around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import pluggy
from attrs import field, frozen

if TYPE_CHECKING:
    from viommu._engine import Context
    from viommu.faults import ConfigurationLog, Fault, Refusal, Report
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory

ENTRY_POINT_GROUP = "viommu"

HOOKSPEC_VERSION = 1
"""Raised when a promise here changes; a driver written for another number is refused by name."""

hookspec = pluggy.HookspecMarker("viommu")
hookimpl = pluggy.HookimplMarker("viommu")


@frozen
class DriverInfo:
    """What a driver says of itself (`viommu drivers`).

    ``requester_bits`` and ``pasid_bits`` bound what its hardware can be asked (``pasid_bits`` 0: no PASIDs).
    """

    name: str
    title: str
    requester_bits: int
    pasid_bits: int
    supports: tuple[str, ...] = ()
    specification: str = ""


@frozen
class Registers:
    """Register values by the specification's name, as a capture or a test gives them.

    A register that was not given reads as zero, as one that a device does not implement would.
    """

    values: Mapping[str, int] = field(factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.values.get(name, 0)


class HardwareModel(Protocol):
    """The silicon of one IOMMU instance: it reads memory and registers, and nothing else."""

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (requester, PASID) by reading the structures in memory.

        Every structure that is read is told to ``log``. The answer is decoded anew at each call: caching is
        the engine's. Never raises for what memory holds: that is a Refusal.
        """

    def report(self, fault: Fault) -> Report:
        """Say of a refused access what this hardware would record."""


@hookspec(firstresult=True)
def viommu_driver_info() -> DriverInfo | None:
    """Say who the driver is.

    When:     at discovery and at binding; any number of times.
    Given:    nothing.
    Owes:     the same value each time, without side effects.
    Returns:  DriverInfo; its name is that of the entry point.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_layouts() -> Mapping[str, type[Descriptor]] | None:
    """Give the bit layouts of the driver's structures, by the specification's name.

    When:     when somebody decodes or explains bytes.
    Given:    nothing.
    Owes:     a mapping that does not change while the driver is bound.
    Returns:  name -> Descriptor class.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_hardware(memory: PhysicalMemory, registers: Registers) -> HardwareModel | None:
    """Make the silicon of one IOMMU instance.

    When:     once for each IOMMU instance of a machine, before its first access.
    Given:    the machine's memory, and register values as software left them.
    Owes:     a model that keeps no state outside itself, and reads ``memory`` only.
    Returns:  a HardwareModel.
    Raises:   BadRegister where the register values describe no hardware this driver models.
    """
