"""A machine: one driver's hardware bound to memory and registers. DMA goes in here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu import drivers
from viommu._engine import NO_PASID, Iotlb, Translator
from viommu.drivers import BoundDriver
from viommu.errors import OutOfRange
from viommu.explain import Explanation, explain
from viommu.faults import Access, Fault, Refusal, Report
from viommu.hardware import CheckedHardware, Silence
from viommu.hookspecs import DriverInfo, Registers
from viommu.memory import PhysicalMemory
from viommu.requests import IOVA_LAST, Bounds, check_access, requests
from viommu.translation import Translations, outcome_of, pasid_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import ArrayLike
    from typing_extensions import Buffer

    from viommu._engine import Context
    from viommu.translation import Outcome


@frozen
class BusAbort:
    """A DMA that was translated, to a place where no memory answers (or where it is read-only)."""

    pa: int
    length: int


@frozen
class _Resolver:
    """What the engine asks on a configuration miss."""

    hardware: CheckedHardware

    def __call__(self, requester: int, pasid: int) -> Context | Refusal:
        return self.hardware.configure(requester, pasid_of(pasid), Silence())


class Machine:
    """An IOMMU in front of memory.

    ``driver`` is the name of an installed one, or one that `viommu.drivers` bound. Registers are given by the
    specification's names. ``iotlb`` None: every access walks. ``walk_cache_entries`` 0: no partial walks are kept.

    Tables are memory: whoever changes them must invalidate, by `translator`, as on real hardware.

    Raises UnknownDriver, BrokenDriver, BadRegister, DriverBug.
    """

    def __init__(
        self,
        driver: str | BoundDriver,
        memory: PhysicalMemory | None = None,
        registers: Registers | Mapping[str, int] | None = None,
        *,
        iotlb: Iotlb | None = None,
        walk_cache_entries: int = 0,
        wrappers: Iterable[object] = (),
    ) -> None:
        self.driver = driver if isinstance(driver, BoundDriver) else drivers.bind(driver, wrappers)
        self.memory = PhysicalMemory() if memory is None else memory
        self.registers = registers if isinstance(registers, Registers) else Registers(dict(registers or {}))
        self.hardware = CheckedHardware.made_by(self.driver, self.memory, self.registers)
        self.translator = Translator(
            self.memory.engine, _Resolver(self.hardware), iotlb=iotlb, walk_cache_entries=walk_cache_entries
        )
        self._bounds = Bounds.of(self.driver.info)

    @property
    def info(self) -> DriverInfo:
        """What the driver says of itself."""
        return self.driver.info

    def translate(self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None) -> Outcome:
        """Send one access through the caches and the tables; accessed and dirty flags are stored.

        Raises OutOfRange, BadValue (what the hardware cannot be asked), DriverBug.
        """
        self._bounds.check(requester, pasid)
        check_access(iova, access)
        answer = self.translator.translate(requester, iova, access, NO_PASID if pasid is None else pasid)
        result, refusal = answer if isinstance(answer, tuple) else (answer, None)
        return outcome_of(requester, pasid, result, refusal)

    def translate_many(
        self, requester: ArrayLike, iova: ArrayLike, access: ArrayLike, pasid: ArrayLike | None = None
    ) -> Translations:
        """Do as `translate` for rows in order; a single value stands for every row. Raises as `translate`."""
        asked = requests(self._bounds, requester, iova, access, pasid)
        batch = self.translator.translate_many(asked.requester, asked.iova, asked.access, asked.pasid)
        return Translations.of(batch, asked)

    def probe_many(
        self, requester: ArrayLike, iova: ArrayLike, access: ArrayLike, pasid: ArrayLike | None = None
    ) -> Translations:
        """Walk for each row on its own: no IOTLB, and memory is as before afterwards. Raises as `translate`."""
        asked = requests(self._bounds, requester, iova, access, pasid)
        batch = self.translator.walk_many(asked.requester, asked.iova, asked.access, asked.pasid)
        return Translations.of(batch, asked)

    def explain(self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None) -> Explanation:
        """Say how one access is translated, step by step; nothing is cached or stored. Raises as `translate`."""
        self._bounds.check(requester, pasid)
        check_access(iova, access)
        return explain(self.hardware, self.memory, requester, iova, access, pasid)

    def report(self, fault: Fault) -> Report:
        """Say what the vendor's hardware records of a fault. Raises DriverBug."""
        return self.hardware.report(fault)

    def dma_read(self, requester: int, iova: int, length: int, pasid: int | None = None) -> bytes | Fault | BusAbort:
        """Read as the device does, page by page. Raises as `translate`."""
        parts: list[bytes] = []
        for step in self._dma(requester, iova, length, Access.READ, pasid):
            if isinstance(step, Fault):
                return step
            _, pa, size = step
            part = self.memory.read(pa, size)
            if part is None:
                return BusAbort(pa, size)
            parts.append(part)
        return b"".join(parts)

    def dma_write(self, requester: int, iova: int, data: Buffer, pasid: int | None = None) -> Fault | BusAbort | None:
        """Write as the device does, page by page; what lies before a refused page is written. Raises as `translate`."""
        source = memoryview(data).cast("B")
        for step in self._dma(requester, iova, len(source), Access.WRITE, pasid):
            if isinstance(step, Fault):
                return step
            offset, pa, size = step
            if not self.memory.write(pa, source[offset : offset + size]):
                return BusAbort(pa, size)
        return None

    def _dma(
        self, requester: int, iova: int, length: int, access: Access, pasid: int | None
    ) -> Iterator[tuple[int, int, int] | Fault]:
        """Cut a DMA at page borders: (offset, physical address, bytes) of each piece; a fault is the last."""
        if not 0 <= length <= IOVA_LAST + 1 - iova:
            raise OutOfRange("length of a DMA", length, IOVA_LAST + 1 - iova)
        offset = 0
        while offset < length:
            at = iova + offset
            found = self.translate(requester, at, access, pasid)
            if isinstance(found, Fault):
                yield found
                return
            left = length - offset
            size = min(left, found.page_size - at % found.page_size) if found.page_size else left
            yield offset, found.pa, size
            offset += size
