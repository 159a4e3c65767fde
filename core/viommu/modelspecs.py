"""The hooks of device models, and their promises: the one page for who adds a PCI device that programs can own.

A model is an object registered under the entry-point group ``viommu.devices``. It implements the two hooks below with
``@viommu.modelspecs.modelimpl``. `viommu run --device NAME@BDF` puts one behind the machine's IOMMU.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

import pluggy
from attrs import field, frozen

from viommu.faults import Access, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Buffer

    from viommu.ops import DeviceFeatures
    from viommu.platform import ResponseCode

__all__ = [
    "PLAIN",
    "Attributes",
    "Bar",
    "Bus",
    "DeviceModel",
    "Granted",
    "ModelInfo",
    "OwnTlb",
    "PciIdentity",
    "PciShape",
    "Refused",
    "Why",
    "modelimpl",
    "viommu_model",
    "viommu_model_info",
]

ENTRY_POINT_GROUP = "viommu.devices"

modelspec = pluggy.HookspecMarker("viommu.devices")
modelimpl = pluggy.HookimplMarker("viommu.devices")
"""Marks a function as the implementation of the hook of its name."""


@frozen
class ModelInfo:
    """What a model says of itself; ``options`` are the names that it takes, each with what it means."""

    name: str
    title: str
    options: Mapping[str, str] = field(factory=dict)
    specification: str = ""


@frozen
class PciIdentity:
    """The numbers by which drivers know a device."""

    vendor: int
    device: int
    class_code: int
    """Base class, subclass, programming interface: 24 bits."""
    revision: int = 0
    subsystem_vendor: int = 0
    subsystem: int = 0


@frozen
class Bar:
    """A memory BAR: its number, and its size (bytes, a power of two from 16 on).

    ``wide``: 64 bits, which takes the next number too. ``mapped``: programs may map it; each load and store is told to
    the model all the same.
    """

    index: int
    size: int
    wide: bool = False
    mapped: bool = False


@frozen
class PciShape:
    """What a device is made of, as its configuration space tells.

    ``msi`` and ``msix`` count vectors (0: it has none); ``msix_table`` is the BAR and the offset of MSI-X's table,
    which the pending bits follow.
    """

    identity: PciIdentity
    bars: tuple[Bar, ...] = ()
    msi: int = 0
    msix: int = 0
    msix_table: tuple[int, int] = (0, 0)
    intx: bool = False
    features: DeviceFeatures | None = None


@frozen
class Attributes:
    """What a transaction says of itself besides its address, as PCIe's prefixes and AT field do.

    ``ats``: it goes by the device's own TLB, which asks the IOMMU for what it lacks; needs `DeviceFeatures.ats`.
    """

    pasid: int | None = None
    privileged: bool = False
    execute: bool = False
    """Of reads: instructions are fetched."""
    ats: bool = False

    def access(self, wanted: Access) -> Access:
        """Give the access that one of these asks for, which reads, writes or does both."""
        extra = Access.EXECUTE if self.execute and wanted & Access.READ else Access(0)
        return wanted | extra | (Access.PRIVILEGED if self.privileged else Access(0))


PLAIN = Attributes()
"""Nothing but an address."""


class Why(Enum):
    """Why a transaction was refused."""

    NOT_MASTER = "bus mastering is off"
    FAULT = "the IOMMU refused it, and has written down why"
    NO_MEMORY = "nothing answers there, or it is read-only"
    NO_ACCESS = "ATS: the translation request was answered without the rights that are needed"
    UNSUPPORTED = "ATS: the translation request was answered as unsupported"
    ABORTED = "ATS: the translation request was aborted"
    IMPOSSIBLE = "no device can send this here: a PASID that is too large, addresses that wrap, no ATS"


@frozen
class Refused:
    """A transaction that was refused at ``iova``, the first byte that was not moved. ``moved`` bytes were.

    ``writes``: it was the target of a copy that was refused. ``stalled``: the access waits for software, which may let
    it through; `Bus.wait` tells when. ``fault`` is what the IOMMU said (of `Why.FAULT`).
    """

    iova: int
    why: Why
    moved: int = 0
    writes: bool = False
    stalled: bool = False
    fault: Fault | None = None


@frozen
class Granted:
    """An answer to a translation request: where the IOVA leads, the size of its page (bytes), and what it allows."""

    address: int
    page_size: int
    rights: Access


class OwnTlb(Protocol):
    """A device's own TLB, which ATS fills. ``answers`` False: it ignores invalidations, as a device that hangs does."""

    answers: bool

    @property
    def invalidations(self) -> int:
        """How many invalidations there were, resets among them."""

    def __len__(self) -> int:
        """Count the translations that it holds."""

    def clear(self) -> None:
        """Drop them all."""


class Bus(Protocol):
    """What surrounds a model. Any thread may use it; nothing here raises, waits for software, or blocks.

    This is a promise: methods may come, and those that are here keep their meaning. ``pasid`` None: without a PASID.
    Bytes that are moved are moved in ascending order; 64-bit words that are aligned on both sides are moved whole.
    """

    def read(self, iova: int, length: int, pasid: int | None = None) -> bytes | None:
        """Read memory by DMA; None where the IOMMU or the memory refuses."""

    def write(self, iova: int, data: bytes, pasid: int | None = None) -> bool:
        """Write memory by DMA; False where it is refused."""

    def read_into(self, iova: int, out: bytearray | memoryview, attributes: Attributes = PLAIN) -> Refused | None:
        """Read memory into a buffer, all of it; what lies before a refused byte is read."""

    def write_from(self, iova: int, data: Buffer, attributes: Attributes = PLAIN) -> Refused | None:
        """Write memory; what lies before a refused byte is written."""

    def copy(
        self,
        source: int,
        target: int,
        length: int,
        source_pasid: int | None = None,
        target_pasid: int | None = None,
        *,
        times: int = 1,
    ) -> Refused | None:
        """Copy memory to memory, ``times`` over, as fast as there is (the engine does it, without the GIL).

        `Refused.moved` counts what was copied in all.
        """

    def update(
        self, iova: int, size: int, change: Callable[[int], int], attributes: Attributes = PLAIN
    ) -> int | Refused:
        """Do an AtomicOp on 4 or 8 aligned bytes: store ``change(value)`` in one step, and give the value before."""

    def translate(self, iova: int, access: Access = Access.READ, attributes: Attributes = PLAIN) -> Granted | Refused:
        """Send a translation request (ATS), unless the device's own TLB, which keeps answers, has one already."""

    def request_page(
        self,
        iova: int,
        access: Access,
        answered: Callable[[ResponseCode], None] | None,
        pasid: int | None = None,
        group: int = 0,
    ) -> bool:
        """Ask software for a page (PRI): one member of a group (0 to 511), whose last one brings ``answered``.

        That is called with the answer to the group, later, as work of `after` is. None: more members follow. False:
        nothing was sent, for the device has no page requests, or the group waits for its answer.
        """

    def wait(self, refused: Refused, ended: Callable[[bool], None]) -> None:
        """Have ``ended`` called, later, as work of `after` is, when software has answered a stalled access.

        With True where it may be sent again, from the byte that was refused; with False where it is aborted.
        """

    @property
    def tlb(self) -> OwnTlb | None:
        """The device's own TLB; None where it has no ATS."""

    def interrupt(self, vector: int = 0) -> None:
        """Raise an interrupt: MSI-X or MSI if software uses it, else INTx."""

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something later, as one of the model's own calls; not at all if the device is reset meanwhile."""


class DeviceModel(Protocol):
    """One device. Its methods are called one at a time. No value that a program writes may raise or hang."""

    @property
    def shape(self) -> PciShape:
        """What it is made of; always the same."""

    def read(self, bar: int, offset: int, size: int) -> int:
        """Read a register (size 1, 2, 4 or 8 bytes)."""

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Write a register; what is stored at once beyond 8 bytes comes in parts."""

    def reset(self) -> None:
        """Be as after power-on."""


@modelspec(firstresult=True)
def viommu_model_info() -> ModelInfo | None:
    """Say what the model is.

    When:     at discovery.
    Owes:     the same value each time.
    Returns:  ModelInfo; its name is that of the entry point.
    """


@modelspec(firstresult=True)
def viommu_model(bus: Bus, options: Mapping[str, str]) -> DeviceModel | None:
    """Make one device.

    When:     when it is added to a machine.
    Given:    its bus, and options that its user gave, all of which are among `ModelInfo.options`.
    Returns:  the device, as after power-on.
    Raises:   BadValue or OutOfRange for an option's value.
    """
