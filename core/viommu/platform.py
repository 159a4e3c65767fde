"""What surrounds a hardware model: the engine's caches, the devices, interrupts. The values that pass between them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.addresses import Iova, Pasid, RequesterId
    from viommu.faults import Access
    from viommu.memory import PhysicalMemory

__all__ = [
    "BadAnswer",
    "Caches",
    "Completion",
    "DeviceInvalidation",
    "Interrupt",
    "PageRequest",
    "PageResponse",
    "Platform",
    "RequestKind",
    "ResponseCode",
    "StallResolution",
    "TlbBroadcast",
]


class RequestKind(Enum):
    """What kind of transaction a device sent (PCIe AT field)."""

    UNTRANSLATED = "untranslated"
    TRANSLATION_REQUEST = "translation request"
    """ATS: asks for a translation, to keep in the device's own TLB."""
    TRANSLATED = "translated"
    """Carries an address that ATS gave."""


class Completion(Enum):
    """How a translation request that gave no translation ends for the device (PCIe ATS)."""

    NO_ACCESS = "success without rights"
    UNTRANSLATED_ONLY = "success, for untranslated accesses only"
    """The page may be accessed, but the device is told no address to keep (PCIe's U bit)."""
    UNSUPPORTED_REQUEST = "unsupported request"
    COMPLETER_ABORT = "completer abort"


class ResponseCode(Enum):
    """How a page-request group was answered (PCIe PRI; values are each vendor's own)."""

    SUCCESS = "success"
    INVALID = "invalid request"
    FAILURE = "failure"


class BadAnswer(Enum):
    """What a device sends in place of an answer to an invalidation: it counts as none, and is false as False is."""

    WRONG_TAG = "a completion with a tag that nobody waits for"

    def __bool__(self) -> bool:
        return False


@frozen
class Interrupt:
    """One interrupt of an IOMMU: which of its sources, and the message where it is signalled by one.

    ``address`` (bytes) and ``data`` are None for a wired interrupt. ``guest``: hardware signals it to that guest by
    itself, and the host has no part in it.
    """

    source: str
    address: int | None = None
    data: int | None = None
    guest: int | None = None


@frozen
class PageRequest:
    """A device asks for a page (PCIe PRI): one member of the group ``group`` (9 bits), ``last`` ends the group."""

    requester: RequesterId
    pasid: Pasid | None
    iova: Iova
    access: Access
    group: int
    last: bool


@frozen
class PageResponse:
    """The answer to one whole group of page requests."""

    requester: RequesterId
    pasid: Pasid | None
    group: int
    code: ResponseCode


@frozen
class DeviceInvalidation:
    """A device is told to drop translations that ATS gave it: [``start``, ``last``] in bytes.

    ``pasid`` None and ``every_pasid`` False: those without a PASID; ``every_pasid``: whatever their PASID.
    """

    requester: RequesterId
    pasid: Pasid | None
    start: int
    last: int
    every_pasid: bool = False


@frozen
class StallResolution:
    """Software ended the wait of stalled accesses of ``requester``; ``tag`` None: of all of them.

    ``retry``: they are translated again; else they end, ``abort`` telling whether the device sees an error.
    """

    requester: RequesterId
    tag: int | None
    retry: bool
    abort: bool = True


@frozen
class TlbBroadcast:
    """A TLB invalidation that a CPU broadcasts (Arm TLBI ...IS), as the interconnect carries it.

    Without ``start``: all of ``asid``, or of stage 1 where that is None, or with ``stage2`` all of the VMID. With it,
    [``start``, ``last``] in bytes: of ``asid``, of every ASID where that is None; with ``stage2`` they are IPAs.
    """

    vmid: int
    asid: int | None = None
    start: int | None = None
    last: int | None = None
    stage2: bool = False
    leaf_only: bool = False


class Caches(Protocol):
    """The engine's caches, as invalidation sees them. Ranges are closed, in bytes."""

    def invalidate_all(self) -> None:
        """Drop every translation."""

    def invalidate_stage2_tag(self, stage2_tag: int, *, stage1_only: bool = False) -> None:
        """Drop those of a stage-2 tag."""

    def invalidate_stage1_tag(self, stage2_tag: int, stage1_tag: int) -> None:
        """Drop those of a stage-1 tag that are not global."""

    def invalidate_range(
        self, stage2_tag: int, stage1_tag: int | None, start: int, last: int, *, leaf_only: bool = False
    ) -> None:
        """Drop those of stage 1, or nested, that overlap a range of inputs."""

    def invalidate_stage2_range(self, stage2_tag: int, start: int, last: int, *, leaf_only: bool = False) -> None:
        """Drop those of stage 2 alone that overlap a range of inputs."""

    def invalidate_contexts(self, requester: int | None = None, pasid: int | None = None) -> None:
        """Drop cached configuration."""


class Platform(Protocol):
    """Where a hardware model stands: what it may act upon besides memory. None of these calls raises."""

    memory: PhysicalMemory
    caches: Caches

    def interrupt(self, interrupt: Interrupt) -> None:
        """Signal; a message is also stored in memory where its address has any."""

    def invalidate_device(self, invalidation: DeviceInvalidation) -> bool | BadAnswer:
        """Tell a device to drop translations. False: it does not answer (the invalidation times out).

        So is a `BadAnswer`, which some hardware tells software of.
        """

    def respond(self, response: PageResponse) -> None:
        """Answer a group of page requests."""

    def resolve_stall(self, resolution: StallResolution) -> None:
        """End the wait of stalled accesses."""

    def observe(self, event: str, facts: Mapping[str, object]) -> None:
        """Tell of something on the control path: a command batch, a configuration change, a fault.

        ``event`` is a dotted name that begins with the driver's. A batch of commands has the fact ``kinds``: the
        specification's names, with how many of each were executed; where they came from a guest's own queue, the fact
        ``guest`` says which guest's. A record that was written to a queue in memory has the fact ``record``, its name,
        and likewise ``guest``. No fact is named ``event``.
        """
