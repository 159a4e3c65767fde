"""The hooks of device models, and their promises: the one page for who adds a PCI device that programs can own.

A model is an object registered under the entry-point group ``viommu.devices``. It implements the two hooks below with
``@viommu.modelspecs.modelimpl``. `viommu run --device NAME@BDF` puts one behind the machine's IOMMU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy
from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.ops import DeviceFeatures

__all__ = [
    "Bar",
    "Bus",
    "DeviceModel",
    "ModelInfo",
    "PciIdentity",
    "PciShape",
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


class Bus(Protocol):
    """What surrounds a model. Any thread may use it."""

    def read(self, iova: int, length: int, pasid: int | None = None) -> bytes | None:
        """Read memory by DMA; None where the IOMMU or the memory refuses."""

    def write(self, iova: int, data: bytes, pasid: int | None = None) -> bool:
        """Write memory by DMA; False where it is refused."""

    def interrupt(self, vector: int = 0) -> None:
        """Raise an interrupt: MSI-X or MSI if software uses it, else INTx."""

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something later; not at all if the device is reset meanwhile."""


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
