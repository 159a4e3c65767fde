"""The hooks and their promises: the one page that a driver author must read.

A driver is an object registered under the entry-point group ``viommu``. It declares `HOOKSPEC_VERSION` as
``hookspec_version`` and implements the hooks below with ``@viommu.hookimpl``. A machine binds one driver
and calls hooks on it alone; wrapper plugins (``@viommu.hookimpl(wrapper=True)``) may be added around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pluggy
from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu._engine import Context
    from viommu.faults import ConfigurationLog, Fault, Refusal, Report
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Completion, PageRequest, Platform, RequestKind
    from viommu.stale import StaleUse

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


@runtime_checkable
class LiveHardware(HardwareModel, Protocol):
    """Silicon that software can program: registers, queues in memory, events.

    What software wrote takes effect before `write` returns: queues are drained, responses given, interrupts raised
    through the platform. No register value, index or byte in memory may raise, hang or grow memory without bound.
    """

    def read(self, offset: int, size: int) -> int:
        """Read a register (size 4 or 8 bytes); what is no register reads as zero."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; what is none, or may not be written, keeps its value."""

    def record(self, fault: Fault) -> Report:
        """Write down a refused access as `report` tells it: the event queue, fault registers, overflow, interrupt."""

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """Say whether a device may send an ATS request of this kind.

        None: yes; a TRANSLATION_REQUEST is answered as an untranslated access would be, a TRANSLATED one passes with
        its address. A Context: it is translated by that one instead. A Refusal: no.
        """

    def complete(self, fault: Fault) -> Completion:
        """Say how a refused translation request ends for the device, having recorded what this hardware records."""

    def page_request(self, request: PageRequest) -> None:
        """Take one page request: queue it, or answer it at once as this hardware does when it cannot."""

    def cure(self, use: StaleUse) -> str:
        """Name, in the vendor's words, the narrowest invalidation that would have prevented a stale use."""


@frozen
class Decoded:
    """Bytes explained: what they are, field by field and in words.

    ``name`` is the specification's (``TLBI_NH_VA``, ``F_TRANSLATION``). ``meaning`` is one sentence. ``complaints``
    are reserved bits that are set and encodings that hardware refuses; ``causes``, for faults, what is likely wrong,
    likeliest first.

    Recordings and logs may use other names: ``aliases`` are those of the whole (``wait``, ``0x71``), ``field_aliases``
    those of fields, with the descriptor's own (``addr`` -> ``InputAddr``). Names that differ in case and punctuation
    alone need none.
    """

    kind: str
    name: str
    descriptor: Descriptor
    meaning: str
    complaints: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    field_aliases: Mapping[str, str] = field(factory=dict)


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
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel | None:
    """Make the silicon of one IOMMU instance.

    When:     once for each IOMMU instance of a machine, before its first access.
    Given:    the machine's memory, register values as software left them, and what surrounds the model.
              ``platform.caches`` works once the hook has returned.
    Owes:     a model that keeps no state outside itself, and reaches nothing but ``memory`` and ``platform``.
    Returns:  a HardwareModel; a LiveHardware where software can program it.
    Raises:   BadRegister where the register values describe no hardware this driver models.
    """


@hookspec
def viommu_observe(event: str, facts: Mapping[str, object]) -> None:
    """See what happens on the control path: command batches, configuration changes, faults.

    When:     during the register write or access that set it off. Never for a translation.
    Given:    a dotted name and its facts (`viommu.platform.Platform.observe`).
    Owes:     not to change the facts, and to be quick. Plugins that a machine was given beside its driver may
              implement this hook without being wrappers.
    Returns:  nothing.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_kinds() -> Mapping[str, tuple[int, ...]] | None:
    """Name what `viommu_decode` can explain.

    When:     when somebody decodes or explains bytes, and for shell completion.
    Given:    nothing.
    Owes:     a mapping that does not change while the driver is bound. ``command`` and ``event`` are the kinds of
              queue entries, if the hardware has queues; page-table entries and registers are kinds of their own.
    Returns:  kind -> the sizes in bytes that it may have.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_decode(kind: str, raw: bytes) -> Decoded | None:
    """Explain bytes of one kind.

    When:     when somebody decodes bytes, and when recordings are checked.
    Given:    a kind that `viommu_kinds` names, and bytes of one of its sizes, in memory order.
    Owes:     an explanation of any bytes; ``descriptor.encode()`` gives the same bytes again.
    Returns:  Decoded.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_log_line(line: str) -> tuple[str, bytes] | None:
    """Recognise a line that this hardware's kernel driver logs.

    When:     for each line that somebody pastes.
    Given:    the line, with or without time stamp.
    Owes:     nothing for the lines of other drivers.
    Returns:  (kind, bytes in memory order) for `viommu_decode`; None where the line is not this driver's. A line
              that belongs to an event which several lines tell is given together with those, joined by newlines.
    Raises:   nothing.
    """
