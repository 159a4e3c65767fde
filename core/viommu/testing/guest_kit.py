"""What the conformance kit cannot know of a driver: how its guests write tables, requests, commands and events.

A driver says it by the hook `viommu.hookspecs.viommu_conformance`, or its tests by `DriverContract.guest_kit`. All
of it is optional; what is not said cannot be asked, and the kit's report says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from viommu.ops import DeviceFeatures
from viommu.policies import MAINLINE, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from viommu.api.buffers import Data
    from viommu.api.viommu import Viommu
    from viommu.io_page_table import TableShape
    from viommu.memory import PhysicalMemory

__all__ = [
    "Bare",
    "Events",
    "Fences",
    "GuestKit",
    "GuestMemory",
    "Nesting",
    "Queue",
    "Queues",
    "Space",
]


class GuestMemory(Protocol):
    """Memory of a guest, by the addresses that the guest knows (IPAs, in bytes)."""

    def take(self, pages: int = 1) -> int:
        """Take zeroed pages of 4 KiB, aligned to their whole size rounded up to a power of two; where they are."""

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""

    def read(self, address: int, length: int) -> bytes:
        """Load bytes."""


class Space(Protocol):
    """One address space of a guest, as its driver's formats have it. What it has may be plain attributes."""

    @property
    def data(self) -> Data:
        """What HWPT_ALLOC takes."""

    @property
    def data_type(self) -> int | None:
        """The type of that; None: told by its structure."""

    @property
    def pasid(self) -> int | None:
        """What DMA has to carry to go through it; None: nothing."""

    @property
    def request_type(self) -> int | None:
        """The type of what HWPT_INVALIDATE takes; None: told by its structure."""

    def drop(self, start: int, last: int) -> Sequence[Data]:
        """Give requests of HWPT_INVALIDATE that suffice once entries of these IOVAs have changed, at any level.

        [``start``, ``last``] in bytes, whole pages; [0, 2^64 - 1] is the whole space.
        """


class Queue(Protocol):
    """A hardware queue that is open: a ring of commands in the guest's memory, and its registers.

    All places are counted in entries, from 0 to ``entries`` - 1.
    """

    @property
    def entries(self) -> int:
        """How many commands the ring has room for."""

    def write(self, index: int, command: bytes) -> None:
        """Store one command in the ring."""

    def ring(self, tail: int) -> None:
        """Tell hardware that commands lie before ``tail``."""

    def head(self) -> int:
        """Say which command hardware will execute next."""

    def drop(self, space: Space, start: int, last: int) -> Sequence[bytes]:
        """Give commands that suffice as those of `Space.drop` (bytes)."""

    def illegal(self) -> bytes:
        """Give a command that hardware refuses."""

    def close(self) -> None:
        """Unmap the registers."""


class Queues(Protocol):
    """The HW_QUEUE that guests give commands by."""

    @property
    def type(self) -> int:
        """Its type."""

    @property
    def length(self) -> int:
        """A length that it may have (bytes)."""

    @property
    def by_iova(self) -> bool:
        """Whether hardware finds it by IOVA (policy ``iova_queues``)."""

    def open(self, viommu: Viommu, memory: GuestMemory, base: int) -> Queue:
        """Map the registers of a queue that was allocated at ``base`` (bytes), and switch it on."""


class Events(Protocol):
    """The vEVENTQ that tells of refused accesses."""

    @property
    def type(self) -> int:
        """Its type."""

    def told(self, raw: bytes) -> tuple[int, int | None]:
        """Read an event: the virtual id that it names, and the IOVA (None: it names none)."""


class Fences(Protocol):
    """How guests ask for a store to their memory (``address``, an IPA) once all that came before is done."""

    def request(self, address: int, value: int) -> Data | None:
        """Give a request of HWPT_INVALIDATE that stores ``value`` (32 bits); None where calls have none."""

    def command(self, address: int, value: int) -> bytes | None:
        """Give a command of a `Queue` that stores to ``address`` (an IPA, bytes); None where queues have none."""


class Nesting(Protocol):
    """How guests stand on their host. What it has may be plain attributes."""

    @property
    def tables(self) -> TableShape:
        """The shape of guests' page tables: the kit writes them by it, and walks them."""

    @property
    def viommu(self) -> int | None:
        """The type of their vIOMMUs; None: nested HWPTs stand on the parent directly."""

    @property
    def queues(self) -> Queues | None:
        """Their hardware queues; None: they have none."""

    @property
    def events(self) -> Events | None:
        """Their events; None: they have none."""

    def viommu_data(self) -> Data | None:
        """Give the data of VIOMMU_ALLOC."""

    def space(self, memory: GuestMemory, root: int, number: int, virt_id: int) -> Space:
        """Make an address space whose top table lies at ``root``: the ``number``-th (from 1) of a guest's device.

        Structures of the guest that lead to the root are written to ``memory``.
        """

    def drop_device(self, virt_id: int) -> Data | None:
        """Give a request that empties a device's own TLB; None where the format has none."""

    def illegal(self) -> Data | None:
        """Give a request that is refused whatever the state; None where the format has none."""


class Bare(Protocol):
    """How hardware is programmed by hand, for drivers that have no host side."""

    @property
    def tables(self) -> TableShape:
        """The shape of its page tables: the kit writes them by it, and walks them."""

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        """Write structures that let a requester's DMA go through the page table at ``root``; give register values.

        ``take`` gives that many zeroed pages of memory: their physical address.
        """


RECORDED = ("requester", "access", "address", "pasid")
"""What records of refused accesses name, usually."""


@frozen(kw_only=True)
class GuestKit:
    """What a driver says of itself to the kit.

    ``policy``, ``registers``: of the machines it is tested on. ``requesters``: ids of two devices, which have
    ``features``. ``virtual_ids``: by which guests know them. ``waived``: reasons, by rule, why a rule does not hold for
    this driver; it is then skipped with the reason. ``unrecorded``: reasons why records of refused accesses do not name
    the "requester" (then records of two devices have to differ: hardware has a number of its own for each), the
    "access" (reads and writes are told alike), the "address" or the "pasid"; rules ask of records what is left.
    """

    policy: Policy = MAINLINE
    registers: Mapping[str, int] = field(factory=dict)
    requesters: tuple[int, int] = (0x10, 0x18)
    virtual_ids: tuple[int, int] = (0x42, 0x43)
    features: DeviceFeatures = field(factory=DeviceFeatures)
    bare: Bare | None = None
    nesting: Nesting | None = None
    fences: Fences | None = None
    waived: Mapping[str, str] = field(factory=dict)
    unrecorded: Mapping[str, str] = field(factory=dict)
