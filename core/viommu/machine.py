"""A machine: one driver's hardware bound to memory and registers. DMA goes in here."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from attrs import frozen

from viommu import drivers
from viommu._engine import NO_PASID, Context, Iotlb, Translator, explain_walk, read_dirty, walk
from viommu.addresses import PAGE_SIZE, RequesterId
from viommu.board import Board, Observer
from viommu.devices import Device, DeviceTlb, Held
from viommu.drivers import BoundDriver
from viommu.errors import BadValue, OutOfRange
from viommu.explain import Explanation, explain
from viommu.faults import Access, Fault, Refusal, Report
from viommu.hardware import CheckedHardware, Silence
from viommu.hookspecs import DriverInfo, Registers
from viommu.memory import PhysicalMemory
from viommu.platform import Completion, RequestKind
from viommu.requests import IOVA_LAST, Bounds, check_access, first_rows, requests
from viommu.sanitizer import Sanitizer
from viommu.stale import StaleUse
from viommu.translation import Translation, Translations, outcome_of, pasid_of, refused, untranslated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Buffer

    from viommu.platform import Interrupt, PageRequest, StallResolution
    from viommu.translation import Outcome

MOST_STALLED = 65536
"""Accesses that may wait for software at once; one more ends as a fault that nobody waits for."""


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

    Tables are memory: whoever changes them must invalidate, by commands or by `translator`, as on real hardware.
    Faults are written down as the hardware's registers say. ``on_interrupt`` is called for each interrupt (or is an
    eventfd, to which each adds one), ``observers`` for what happens on the control path (a name and its facts).
    ``sanitize``: hold every use of a cache against the tables (`sanitizer`); slow.

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
        on_interrupt: Callable[[Interrupt], None] | int | None = None,
        observers: Iterable[Observer] = (),
        sanitize: bool = False,
    ) -> None:
        self.driver = driver if isinstance(driver, BoundDriver) else drivers.bind(driver, wrappers)
        self.memory = PhysicalMemory() if memory is None else memory
        self.registers = registers if isinstance(registers, Registers) else Registers(dict(registers or {}))
        if self.driver.observed:
            observers = (*observers, self.driver.observe)
        self._board = Board(self.memory, on_interrupt, tuple(observers), self._stall_resolved)
        self.hardware = CheckedHardware.made_by(self.driver, self.memory, self.registers, self._board)
        self.translator = Translator(
            self.memory.engine,
            _Resolver(self.hardware),
            iotlb=iotlb,
            walk_cache_entries=walk_cache_entries,
            sanitize=sanitize,
        )
        self._board.caches = self.translator
        self.stalled: dict[tuple[int, int], Fault] = {}
        self.resumed: deque[tuple[Fault, Outcome]] = deque(maxlen=MOST_STALLED)
        self.sanitizer: Sanitizer | None = None
        if sanitize:
            self.sanitizer = Sanitizer(self.translator, self._configured, self.hardware.cure)
            self.memory.watcher = self.sanitizer.stored
        self._bounds = Bounds.of(self.driver.info)

    @property
    def command_counts(self) -> Counter[str]:
        """How many commands of each kind the hardware executed."""
        return self._board.command_counts

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
        outcome = self._look_up(requester, iova, access, pasid)
        if isinstance(outcome, Fault):
            self._record(outcome)
        return outcome

    def translate_many(
        self, requester: ArrayLike, iova: ArrayLike, access: ArrayLike, pasid: ArrayLike | None = None
    ) -> Translations:
        """Do as `translate` for rows in order; a single value stands for every row. Raises as `translate`."""
        asked = requests(self._bounds, requester, iova, access, pasid)
        if self.sanitizer is not None:
            for key, row in first_rows(asked).items():
                self.sanitizer.check_context(key[0], int(asked.iova[row]), Access(int(asked.access[row])), key[1])
        batch = self.translator.translate_many(asked.requester, asked.iova, asked.access, asked.pasid)
        if self.sanitizer is not None:
            self.sanitizer.collect()
        answer = Translations.of(batch, asked)
        if self.hardware.live is not None:  # else no fault need become a value
            for _, fault in answer.faults():
                self._record(fault)
        return answer

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

    def read_register(self, offset: int, size: int = 4) -> int:
        """Read a register of the IOMMU (offset and size in bytes). Raises DriverBug."""
        return self.hardware.read(offset, size)

    def write_register(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register of the IOMMU; what it sets off is done when this returns. Raises DriverBug."""
        self.hardware.write(offset, size, value)

    def device(self, requester: int, *, tlb_entries: int = 1024) -> Device:
        """Put a device with a TLB of its own behind the IOMMU; it replaces one of the same id. Raises OutOfRange."""
        self._bounds.check(requester, None)
        device = Device(self, RequesterId(requester), DeviceTlb(tlb_entries))
        self._board.devices[requester] = device
        return device

    def request_translation(
        self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None
    ) -> Translation | Completion:
        """Answer an ATS translation request. Raises as `translate`."""
        self._bounds.check(requester, pasid)
        check_access(iova, access)
        admitted = self.hardware.admit(requester, pasid, RequestKind.TRANSLATION_REQUEST, Silence())
        outcome = self._admitted(admitted, requester, iova, access, pasid)
        return self.hardware.complete(outcome) if isinstance(outcome, Fault) else outcome

    def send_translated(
        self, requester: int, address: int, access: Access = Access.READ, pasid: int | None = None
    ) -> Outcome:
        """Send an access whose address ATS gave. Raises as `translate`."""
        self._bounds.check(requester, pasid)
        check_access(address, access)
        admitted = self.hardware.admit(requester, pasid, RequestKind.TRANSLATED, Silence())
        if admitted is None:
            return untranslated(address)
        outcome = self._admitted(admitted, requester, address, access, pasid)
        if isinstance(outcome, Fault):
            self._record(outcome)
        return outcome

    def request_page(self, request: PageRequest) -> None:
        """Hand a page request to the IOMMU. Raises as `translate`."""
        self._bounds.check(request.requester, request.pasid)
        check_access(request.iova, request.access)
        self.hardware.page_request(request)

    def check_held(self, requester: int, iova: int, access: Access, pasid: int | None, held: Held) -> None:
        """Let the sanitizer, if there is one, judge a translation that a device TLB is about to use."""
        if self.sanitizer is None:
            return
        context = self._configured(requester, pasid)
        if isinstance(context, Refusal):
            fresh: Outcome = refused(requester, pasid, iova, access, context)
        else:
            fresh = outcome_of(requester, pasid, explain_walk(self.memory.engine, context, iova, access)[0])
        if isinstance(fresh, Fault) or fresh.pa != held.pa | iova & (1 << held.size_lg2) - 1:
            self.sanitizer.add(
                StaleUse(
                    "device TLB",
                    requester,
                    pasid,
                    iova,
                    access,
                    cached=f"PA {held.pa:#x}, {held.rights.name}",
                    fresh=fresh,
                    page_size=1 << held.size_lg2,
                    now=self.translator.sanitizer_now,
                )
            )

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

    def read_dirty(
        self,
        requester: int,
        iova: int,
        length: int,
        pasid: int | None = None,
        *,
        page_size: int = PAGE_SIZE,
        clear: bool = False,
    ) -> NDArray[np.uint8]:
        """Give which pages of [iova, iova + length) devices wrote, one bit a page, lowest first.

        Read from the leaves of stage 2, of stage 1 where there is none; nothing is dirty where the configuration is
        refused. ``clear`` forgets: cached translations that know a page as dirty must then be invalidated. Raises as
        `translate`, and OutOfRange or BadValue for a range or page size that cannot be.
        """
        self._bounds.check(requester, pasid)
        check_access(iova, Access.READ)
        if not 1 <= length <= IOVA_LAST + 1 - iova:
            raise OutOfRange("length of a dirty range", length, IOVA_LAST + 1 - iova, 1)
        if page_size < PAGE_SIZE or page_size & (page_size - 1):
            raise BadValue("page size of a dirty bitmap", page_size, "a power of two from 0x1000 on")
        page_lg2 = page_size.bit_length() - 1
        context = self._configured(requester, pasid)
        if isinstance(context, Refusal):
            context = Context()
        return read_dirty(self.memory.engine, context, iova, iova + length - 1, page_lg2, clear=clear)

    def _configured(self, requester: int, pasid: int | None) -> Context | Refusal:
        return self.hardware.configure(requester, pasid, Silence())

    def _look_up(self, requester: int, iova: int, access: Access, pasid: int | None) -> Outcome:
        if self.sanitizer is not None:
            self.sanitizer.check_context(requester, iova, access, pasid)
        outcome = self._cached(requester, iova, access, pasid)
        if self.sanitizer is not None:
            self.sanitizer.collect()
        return outcome

    def _cached(self, requester: int, iova: int, access: Access, pasid: int | None) -> Outcome:
        answer = self.translator.translate(requester, iova, access, NO_PASID if pasid is None else pasid)
        result, refusal = answer if isinstance(answer, tuple) else (answer, None)
        return outcome_of(requester, pasid, result, refusal)

    def _admitted(
        self, admitted: Context | Refusal | None, requester: int, iova: int, access: Access, pasid: int | None
    ) -> Outcome:
        if isinstance(admitted, Refusal):
            return refused(requester, pasid, iova, access, admitted)
        if isinstance(admitted, Context):
            return outcome_of(requester, pasid, walk(self.memory.engine, admitted, iova, access))
        return self._look_up(requester, iova, access, pasid)

    def _record(self, fault: Fault) -> None:
        if self.hardware.live is None:
            return
        report = self.hardware.record(fault)
        if report.stall_tag is not None and len(self.stalled) < MOST_STALLED:
            self.stalled[fault.requester, report.stall_tag] = fault

    def _stall_resolved(self, resolution: StallResolution) -> None:
        """Take stalled accesses out of their wait; one that is retried may stall again, under another tag."""
        for key in [key for key in self.stalled if _is_meant(resolution, *key)]:
            fault = self.stalled.pop(key)
            ended: Outcome = fault
            if resolution.retry:
                ended = self.translate(fault.requester, fault.iova, fault.access, fault.pasid)
            self.resumed.append((fault, ended))

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


def _is_meant(resolution: StallResolution, requester: int, tag: int) -> bool:
    return requester == resolution.requester and resolution.tag in (None, tag)
