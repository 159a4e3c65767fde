"""One IOMMU: a driver's hardware bound to memory and registers. DMA goes in here."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, overload

from viommu._engine import Context, Front, hits_first, read_dirty
from viommu.addresses import PAGE_SIZE, RequesterId
from viommu.board import Board, Observer
from viommu.devices import Device, DeviceTlb
from viommu.errors import BadValue, OutOfRange
from viommu.explain import Explanation, explain
from viommu.faults import Access, Fault, Refusal, Report
from viommu.hardware import CheckedHardware, Silence
from viommu.hookspecs import DriverInfo, Registers
from viommu.instance.dma import BusAbort, Dma
from viommu.instance.dma_copy import Copier, CopyStopped
from viommu.instance.lookups import Lookups
from viommu.instance.stalls import Stalls
from viommu.platform import Completion, RequestKind
from viommu.requests import IOVA_LAST, Bounds, check_access, requests
from viommu.translation import Translation, Translations, untranslated

if TYPE_CHECKING:
    from collections import Counter, deque
    from collections.abc import Callable, Iterable, Mapping
    from typing import SupportsIndex

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Buffer

    from viommu._engine import Iotlb, Translator
    from viommu.backing import BufferLike
    from viommu.devices import Held
    from viommu.drivers import BoundDriver
    from viommu.memory import PhysicalMemory
    from viommu.platform import Interrupt, PageRequest, TlbBroadcast
    from viommu.sanitizer import Sanitizer
    from viommu.translation import Outcome


__all__ = ["Iommu"]

REGISTER_SIZES = (4, 8)


class Iommu(Front):
    """An IOMMU in front of memory (`viommu.machine.Machine` says what the arguments mean).

    Addresses, lengths and sizes are in bytes. Raises BadRegister, DriverBug.
    """

    def __init__(
        self,
        driver: BoundDriver,
        memory: PhysicalMemory,
        registers: Registers | Mapping[str, int] | None = None,
        *,
        iotlb: Iotlb | None = None,
        walk_cache_entries: int = 0,
        on_interrupt: Callable[[Interrupt], None] | int | None = None,
        observers: Iterable[Observer] = (),
        sanitize: bool = False,
        name: str | None = None,
    ) -> None:
        self.driver = driver
        self.name = name or driver.info.name
        self.memory = memory
        self.registers = registers if isinstance(registers, Registers) else Registers(dict(registers or {}))
        if driver.observed:
            observers = (*observers, driver.observe)
        self._stalls = Stalls(lambda fault: self.translate(fault.requester, fault.iova, fault.access, fault.pasid))
        self._board = Board(memory, on_interrupt, tuple(observers), self._stalls.resolve)
        self.hardware = CheckedHardware.made_by(driver, memory, self.registers, self._board)
        self._lookups = Lookups.through(self.hardware, memory, iotlb, walk_cache_entries, sanitize=sanitize)
        self._board.caches = self._lookups.translator
        self._bounds = Bounds.of(driver.info)
        self.answer_through(self.translator, self._bounds.requester_last, self._bounds.pasid_last)
        self._dma = Dma(memory, self._lookups, self._bounds, self._recorded)
        self._copier = Copier(self._dma)

    @property
    def info(self) -> DriverInfo:
        """What the driver says of itself."""
        return self.driver.info

    @property
    def translator(self) -> Translator:
        """The engine's caches, with the verbs that invalidate them."""
        return self._lookups.translator

    @property
    def sanitizer(self) -> Sanitizer | None:
        """What holds caches against the tables, where that was asked for."""
        return self._lookups.sanitizer

    @property
    def command_counts(self) -> Counter[str]:
        """How many commands of each kind the hardware executed."""
        return self._board.command_counts

    @property
    def stalled(self) -> dict[tuple[int, int], Fault]:
        """Accesses that wait for software, by (requester, stall tag)."""
        return self._stalls.waiting

    @property
    def resumed(self) -> deque[tuple[Fault, Outcome]]:
        """Accesses that waited, and how they ended; the oldest go first."""
        return self._stalls.resumed

    def is_stalled(self, fault: Fault) -> bool:
        """Say whether a refused access waits for software, or has waited: `when_resumed` tells how that ends."""
        return self._stalls.knows(fault)

    def when_resumed(self, fault: Fault, done: Callable[[Outcome], None]) -> bool:
        """Have ``done`` told, once and by any thread, how a stalled access ends; False where it does not stall."""
        return self._stalls.follow(fault, done)

    def handle_interrupts(self, handler: Callable[[Interrupt], None] | None) -> None:
        """Let the host's driver handle interrupts, after ``on_interrupt`` was told; None: nobody of the host does."""
        self._board.handler = handler

    def answer_for(self, device: Front, requester: int) -> None:
        """Have hits of one requester answered by its own ``translate`` (`viommu._engine.hits_first`)."""
        device.answer_through(self.translator, self._bounds.requester_last, self._bounds.pasid_last, requester)

    def check_requester(self, requester: int) -> None:
        """Refuse a requester id that the hardware cannot have. Raises OutOfRange."""
        self._bounds.check(requester, None)

    # --- translation

    @hits_first
    def translate(self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None) -> Outcome:
        """Send one access through the caches and the tables; accessed and dirty flags are stored.

        Raises OutOfRange, BadValue (what the hardware cannot be asked), DriverBug.
        """
        self._bounds.check(requester, pasid)
        check_access(iova, access)
        return self._recorded(self._lookups.one(requester, iova, access, pasid))

    def translate_many(
        self, requester: ArrayLike, iova: ArrayLike, access: ArrayLike, pasid: ArrayLike | None = None
    ) -> Translations:
        """Do as `translate` for rows in order; a single value stands for every row. Raises as `translate`."""
        answer = self.translate_columns(Translations, requester, iova, access, pasid)
        if answer is None:
            answer = self._lookups.many(requests(self._bounds, requester, iova, access, pasid))
        if answer.fault_count and self.hardware.live is not None:  # else no fault need become a value
            for _, fault in answer.faults():
                self._recorded(fault)
        return answer

    def probe_many(
        self, requester: ArrayLike, iova: ArrayLike, access: ArrayLike, pasid: ArrayLike | None = None
    ) -> Translations:
        """Walk for each row on its own: no IOTLB, and memory is as before afterwards. Raises as `translate`."""
        asked = requests(self._bounds, requester, iova, access, pasid)
        return self.translator.walk_many(asked.requester, asked.iova, asked.access, asked.pasid, Translations)

    def explain(self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None) -> Explanation:
        """Say how one access is translated, step by step; nothing is cached or stored. Raises as `translate`."""
        self._bounds.check(requester, pasid)
        check_access(iova, access)
        return explain(self.hardware, self.memory, requester, iova, access, pasid)

    def report(self, fault: Fault) -> Report:
        """Say what the vendor's hardware records of a fault. Raises DriverBug."""
        return self.hardware.report(fault)

    def _recorded(self, outcome: Outcome) -> Outcome:
        """Have the hardware write a fault down; one that stalls is held."""
        if isinstance(outcome, Fault) and self.hardware.live is not None:
            self._stalls.record(outcome, self.hardware.record)
        return outcome

    # --- registers

    def read_register(self, offset: int, size: int = 4) -> int:
        """Read a register of the IOMMU (offset in bytes; size 4 or 8 bytes).

        What is no register reads as the hardware says, mostly zero. Raises BadValue (an offset or size that cannot
        be), DriverBug.
        """
        return self.hardware.read(_checked_offset(offset, size), size)

    def write_register(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register of the IOMMU; what it sets off is done when this returns. Raises as `read_register`."""
        offset = _checked_offset(offset, size)
        try:
            number = index(value)
        except TypeError:
            raise BadValue("register value", value, "an integer; int() makes one of a Descriptor") from None
        self.hardware.write(offset, size, number)

    def broadcast(self, message: TlbBroadcast) -> None:
        """Carry a CPU's TLB invalidation to the IOMMU. Raises DriverBug."""
        self.hardware.broadcast(message)

    # --- devices with a TLB of their own

    def device(self, requester: int, *, tlb_entries: int = 1024) -> Device:
        """Put a device with a TLB of its own behind the IOMMU; it replaces one of the same id. Raises OutOfRange."""
        self._bounds.check(requester, None)
        device = Device(self, RequesterId(requester), DeviceTlb(tlb_entries))
        self._board.devices[requester] = device
        return device

    def forget_device(self, requester: int) -> None:
        """Take a device of `device` away, if there is one."""
        self._board.devices.pop(requester, None)

    def request_translation(
        self, requester: int, iova: int, access: Access = Access.READ, pasid: int | None = None
    ) -> Translation | Completion:
        """Answer an ATS translation request. Raises as `translate`."""
        self._bounds.check(requester, pasid)
        check_access(iova, access)
        admitted = self.hardware.admit(requester, pasid, RequestKind.TRANSLATION_REQUEST, Silence())
        outcome = self._lookups.admitted(admitted, requester, iova, access, pasid)
        if isinstance(outcome, Fault):
            return self.hardware.complete(outcome)
        return self.hardware.granted(requester, pasid, outcome)

    def send_translated(
        self, requester: int, address: int, access: Access = Access.READ, pasid: int | None = None
    ) -> Outcome:
        """Send an access whose address ATS gave. Raises as `translate`."""
        self._bounds.check(requester, pasid)
        check_access(address, access)
        admitted = self.hardware.admit(requester, pasid, RequestKind.TRANSLATED, Silence())
        if admitted is None:
            return untranslated(address)
        return self._recorded(self._lookups.admitted(admitted, requester, address, access, pasid))

    def request_page(self, request: PageRequest) -> None:
        """Hand a page request to the IOMMU. Raises as `translate`."""
        self._bounds.check(request.requester, request.pasid)
        check_access(request.iova, request.access)
        self.hardware.page_request(request)

    def check_held(self, requester: int, iova: int, access: Access, pasid: int | None, held: Held) -> None:
        """Let the sanitizer, if there is one, judge a translation that a device TLB is about to use."""
        self._lookups.check_held(requester, iova, access, pasid, held)

    # --- memory, as devices see it

    @overload
    def dma_read(
        self, requester: int, iova: int, length: int, pasid: int | None = None
    ) -> bytes | Fault | BusAbort: ...
    @overload
    def dma_read(
        self, requester: int, iova: int, length: int, pasid: int | None = None, *, out: BufferLike
    ) -> Fault | BusAbort | None: ...
    def dma_read(
        self, requester: int, iova: int, length: int, pasid: int | None = None, *, out: BufferLike | None = None
    ) -> bytes | Fault | BusAbort | None:
        """Read as the device does, page by page.

        Into ``out``, a NumPy array or other writable buffer of ``length`` bytes, if it is given: None where all of it
        was read; what lies before a refused page is read. Raises as `translate`, and BadValue for any other buffer.
        """
        if out is not None:
            return self._dma.read_into(requester, iova, length, pasid, out)
        return self._dma.read(requester, iova, length, pasid)

    def dma_write(self, requester: int, iova: int, data: Buffer, pasid: int | None = None) -> Fault | BusAbort | None:
        """Write as the device does, page by page; what lies before a refused page is written. Raises as `translate`."""
        return self._dma.write(requester, iova, data, pasid)

    def dma_copy(
        self,
        requester: int,
        source: int,
        target: int,
        length: int,
        source_pasid: int | None = None,
        target_pasid: int | None = None,
        *,
        times: int = 1,
    ) -> CopyStopped | None:
        """Copy ``length`` bytes as a device does, in ascending order, ``times`` over; None where all was copied.

        Bytes that are source and target of one copy may be copied before or after they are overwritten. Raises as
        `translate`.
        """
        return self._copier.copy(requester, source, source_pasid, target, target_pasid, length, times)

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
        context = self._lookups.configured(requester, pasid)
        if isinstance(context, Refusal):
            context = Context()
        return read_dirty(self.memory.engine, context, iova, iova + length - 1, page_lg2, clear=clear)


def _checked_offset(offset: SupportsIndex, size: int) -> int:
    """Give an offset as a number; refuse what no access to registers is. Raises BadValue."""
    if size not in REGISTER_SIZES:
        raise BadValue("size of a register access", size, "4 or 8 bytes")
    try:
        number = index(offset)
    except TypeError:  # a register's name
        number = -1
    if number < 0:
        raise BadValue("register offset", offset, "an offset in bytes, from 0 on (a driver's offsets are in its spec)")
    return number
