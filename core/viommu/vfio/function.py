"""A PCI function of a machine: a model, its configuration space, its BARs and interrupts, and its way to memory."""

from __future__ import annotations

from threading import RLock, Timer
from typing import TYPE_CHECKING

from viommu.faults import Fault
from viommu.instance.dma import BusAbort
from viommu.vfio.config_space import BUS_MASTER, SIZE, ConfigSpace
from viommu.vfio.interrupts import Interrupts
from viommu.vfio.uapi import Irq, Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.endpoint import Endpoint
    from viommu.modelspecs import DeviceModel

ACCESS_SIZES = (8, 4, 2, 1)


class Function:
    """One function (a `viommu.modelspecs.Bus` for its model). ``lock`` is held while its model works."""

    def __init__(self, name: str) -> None:
        """Begin without a model: `plug` gives it one."""
        self.name = name
        self.lock = RLock()
        self._timers: set[Timer] = set()

    def plug(self, model: DeviceModel, endpoint: Endpoint) -> None:
        """Become this device."""
        shape = model.shape
        self.endpoint = endpoint
        self.model = model
        self.config = ConfigSpace(shape)
        self.bars = {bar.index: bar for bar in shape.bars}
        self.interrupts = Interrupts({Irq.INTX: int(shape.intx), Irq.MSI: shape.msi, Irq.MSIX: shape.msix, Irq.REQ: 1})
        model.reset()

    def __repr__(self) -> str:
        return f"<Function {self.name}>"

    # --- what software does

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

    def load(self, region: int, offset: int, length: int) -> bytes:
        """Read a region, register by register; all of it lies there."""
        with self.lock:
            if region == Region.CONFIG:
                return self.config.read(offset, length)
            return b"".join(
                self.model.read(region, at, size).to_bytes(8, "little")[:size]
                for at, size in _registers(offset, length)
            )

    def store(self, region: int, offset: int, data: bytes) -> None:
        """Write a region, register by register; all of it lies there."""
        with self.lock:
            if region == Region.CONFIG:
                self.config.write(offset, data)
                return
            for at, size in _registers(offset, len(data)):
                raw = data[at - offset : at - offset + size]
                self.model.write(region, at, size, int.from_bytes(raw, "little"))

    def reset(self) -> None:
        """Reset the function."""
        with self.lock:
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            self.config.reset()
            self.model.reset()

    # --- what the model does

    def read(self, iova: int, length: int, pasid: int | None = None) -> bytes | None:
        """Read memory by DMA; None where it is refused."""
        if not self.config.command & BUS_MASTER:
            return None
        found = self.endpoint.dma_read(iova, length, pasid)
        return None if isinstance(found, Fault | BusAbort) else found

    def write(self, iova: int, data: bytes, pasid: int | None = None) -> bool:
        """Write memory by DMA; False where it is refused."""
        return bool(self.config.command & BUS_MASTER) and self.endpoint.dma_write(iova, data, pasid) is None

    def interrupt(self, vector: int = 0) -> None:
        """Raise an interrupt."""
        self.interrupts.raise_(vector)

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something later."""

        def due() -> None:
            with self.lock:
                if timer in self._timers:
                    self._timers.discard(timer)
                    work()

        timer = Timer(seconds, due)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()


def _registers(offset: int, length: int) -> list[tuple[int, int]]:
    """Cut a stretch into aligned registers: (offset, size)."""
    found: list[tuple[int, int]] = []
    while length:
        size = next(size for size in ACCESS_SIZES if size <= length and offset % size == 0)
        found.append((offset, size))
        offset, length = offset + size, length - size
    return found
