"""A PCI function of a machine, as software has it: its configuration space, its BARs and interrupts, and a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Invalid
from viommu.vfio.bus import FunctionBus
from viommu.vfio.config_space import SIZE, ConfigSpace
from viommu.vfio.interrupts import Interrupts
from viommu.vfio.later import Later, ModelLock
from viommu.vfio.uapi import Irq, Region

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.modelspecs import DeviceModel

ACCESS_SIZES = (8, 4, 2, 1)


class Function:
    """One function. ``bus`` is what its model has around it; ``lock`` is held while the model works."""

    def __init__(self, name: str) -> None:
        """Begin without a model: `plug` gives it one."""
        self.name = name
        self.lock = ModelLock()
        self.bus = FunctionBus(Later(name, self.lock))
        self.is_open_by_group = self.is_open_by_itself = False
        self._rests = False

    def plug(self, model: DeviceModel, endpoint: Endpoint) -> None:
        """Become this device."""
        shape = model.shape
        self.endpoint = endpoint
        self.model = model
        self.config = ConfigSpace(shape)
        self.bars = {bar.index: bar for bar in shape.bars}
        self.interrupts = Interrupts(
            {Irq.INTX: int(shape.intx), Irq.MSI: shape.msi, Irq.MSIX: shape.msix, Irq.ERR: 1, Irq.REQ: 1}
        )
        self.bus.plug(endpoint, self.config, self.interrupts)
        model.reset()

    def __repr__(self) -> str:
        return f"<Function {self.name}>"

    def region_size(self, region: int) -> int:
        """Say how long a region is (bytes); 0 where there is none."""
        if region == Region.CONFIG:
            return SIZE
        bar = self.bars.get(region)
        return 0 if bar is None else bar.size

    def may_map(self, region: int) -> bool:
        """Say whether programs may map a region."""
        bar = self.bars.get(region)
        return bar is not None and bar.mapped

    def has_vectors_in(self, region: int) -> bool:
        """Say whether MSI-X's table is in a region."""
        return bool(self.model.shape.msix) and self.model.shape.msix_table[0] == region

    def load(self, region: int, offset: int, length: int) -> bytes | None:
        """Read a region, register by register; all of it lies there. None where it does not answer: it is off."""
        if region == Region.CONFIG:
            return self.config.read(offset, length)
        with self.lock.for_software():
            if not self.config.has_memory:
                return None
            return b"".join(
                self.model.read(region, at, size).to_bytes(8, "little")[:size]
                for at, size in _registers(offset, length)
            )

    def store(self, region: int, offset: int, data: bytes) -> bool:
        """Write a region, register by register; all of it lies there. False where it does not answer."""
        with self.lock.for_software():
            if region == Region.CONFIG:
                self._configure(offset, data)
                return True
            if not self.config.has_memory:
                return False
            for at, size in _registers(offset, len(data)):
                raw = data[at - offset : at - offset + size]
                self.model.write(region, at, size, int.from_bytes(raw, "little"))
            return True

    def _configure(self, offset: int, data: bytes) -> None:
        self.config.write(offset, data)
        self.interrupts.disable_wire(self.config.has_wire_disabled)
        if self.config.take_reset():
            self._reset_model()

    def open(self) -> None:
        """Be as who opens a device finds it: reset, and configured as the host does before it hands it out."""
        with self.lock.for_software():
            self._rests = False
            self.config.open()
            self._reset_model()

    def close(self) -> None:
        """Be the host's again: reset, no master, and nobody is told of interrupts."""
        self.open()
        self.interrupts.close()
        self.is_open_by_itself = False

    def rest(self, *, rests: bool) -> None:
        """Take note that software lets it sleep, or needs it again; any access wakes it. Raises Invalid."""
        if rests and self._rests:
            raise Invalid(self.name, "power state", bound="not left to rest yet")
        self._rests = rests

    def reset(self) -> None:
        """Reset the function. Its configuration is as before afterwards: the host saves and restores it."""
        with self.lock.for_software():
            self._reset_model()

    def _reset_model(self) -> None:
        self.bus.reset()
        self.endpoint.reset()
        self.model.reset()


def _registers(offset: int, length: int) -> list[tuple[int, int]]:
    """Cut a stretch into aligned registers: (offset, size)."""
    found: list[tuple[int, int]] = []
    while length:
        size = next(size for size in ACCESS_SIZES if size <= length and offset % size == 0)
        found.append((offset, size))
        offset, length = offset + size, length - size
    return found
