"""What a guest does wrong: neutral fault values, which each vendor's hardware encodes into its own record.

Addresses are in bytes.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from viommu import _engine

if TYPE_CHECKING:
    from viommu.addresses import Iova, Ipa, Pasid, RequesterId

__all__ = [
    "Access",
    "ConfigurationLog",
    "Fault",
    "FaultClass",
    "FaultKind",
    "Refusal",
    "Report",
    "Stage",
]


class Access(IntFlag):
    """What one access asks for. A granted right uses the first three bits."""

    READ = _engine.READ
    WRITE = _engine.WRITE
    EXECUTE = _engine.EXECUTE
    PRIVILEGED = _engine.PRIVILEGED


class FaultKind(IntEnum):
    """Why an access was refused, in words that no vendor owns. Values are the engine's."""

    NONE = 0
    CONFIGURATION = 1
    """The tables that lead to the page tables refused it (see `Refusal`)."""
    INPUT_SIZE = 2
    """The input address is beyond what the stage translates, or walks of that half are disabled."""
    TRANSLATION = 3
    """An entry is not present."""
    PERMISSION = 4
    ACCESS_FLAG = 5
    """The accessed (or, on RISC-V, dirty) flag is clear and hardware does not set it."""
    ADDRESS_SIZE = 6
    """A table pointer or the output lies beyond the output size."""
    EXTERNAL_ABORT = 7
    """An entry could not be read: a hole in memory."""
    RESERVED = 8
    """A reserved bit is set in a present entry."""
    MALFORMED = 9
    """An encoding that no table may hold: a level that does not fall, an impossible page size."""
    UPDATE_FAILED = 10
    """An accessed/dirty store was refused by memory."""
    UPDATE_FORBIDDEN = 11
    """An accessed/dirty store is needed and the configuration forbids it."""
    BLOCKED_OUTPUT = 12
    """The output touches a range where no DMA may go (VT-d's interrupt range)."""


class Stage(IntEnum):
    """Which stage refused. NONE: before any page table."""

    NONE = 0
    STAGE1 = 1
    STAGE2 = 2
    FLAT = 3
    """A flat table, which takes pages over from stage 2 (`viommu.formats.FlatTable`)."""


class FaultClass(IntEnum):
    """For whose sake the refused address was used."""

    INPUT = 0
    """The access itself."""
    TABLE = 1
    """The fetch (or accessed/dirty store) of a stage-1 entry."""
    CONFIGURATION = 2
    """The fetch of a configuration structure (an SMMUv3 CD)."""


@frozen
class Refusal:
    """A configuration that translates nothing: what `HardwareModel.configure` gives instead of a Context.

    ``reason`` is the specification's name or code as users know it (``C_BAD_STE``, ``0x5b``); ``code`` its
    number. A ``silent`` refusal aborts the access without a record. ``address`` is that of the structure
    which could not be read, where that is what went wrong. ``walk`` is the stage-2 fault met by a
    configuration fetch behind stage 2. ``qualified``: the vendor lets software silence this one
    (VT-d FPD), and ``suppressed``: it did.
    """

    reason: str
    code: int = 0
    silent: bool = False
    address: int | None = None
    walk: _engine.Result | None = None
    suppressed: bool = False
    detail: str = ""


@frozen
class Fault:
    """One refused access (units: bytes). `_engine.Result` says what each field means."""

    requester: RequesterId = field(repr=hex)
    pasid: Pasid | None
    iova: Iova = field(repr=hex)
    access: Access
    kind: FaultKind
    stage: Stage
    level: int
    fault_class: FaultClass
    ipa: Ipa = field(repr=hex)
    entry_address: int = field(repr=hex)
    entry_value: int = field(repr=hex)
    missing: Access
    granted: Access
    top: bool
    for_top: bool
    for_update: bool
    refusal: Refusal | None = None
    driver_bits: int = 0
    """What the driver's Context said of itself (`_engine.Context`)."""


@frozen
class Report:
    """How one vendor's hardware tells of a fault.

    ``outcome`` is ``fault``, ``abort`` (refused without a record) or ``stall`` (recorded, and the access waits for
    software; ``stall_tag`` names it). ``reason`` is what the vendor calls it (an event name, or a code as
    ``0x71``). ``record`` is the event record in memory order, None where hardware writes none.
    """

    outcome: str
    reason: str
    record: bytes | None = None
    stall_tag: int | None = None


class ConfigurationLog(Protocol):
    """Where `HardwareModel.configure` tells what it read, so that a walk can be explained by the same code."""

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        """``structure`` (a Descriptor class) was read at ``address``; raw None: the read aborted."""

    def note(self, text: str) -> None:
        """One decision, in words."""
