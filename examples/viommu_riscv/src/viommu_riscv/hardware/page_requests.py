"""Page requests: queued for software, or answered by the IOMMU itself (RISC-V IOMMU 1.0, "PCIe ATS Page Request")."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field
from viommu.faults import Access, Refusal
from viommu.hardware import Silence
from viommu.platform import PageResponse, ResponseCode

from viommu_riscv.hardware.contexts import Configuration, silenced
from viommu_riscv.hardware.directories import Search, refuse
from viommu_riscv.hardware.interrupts import PAGE_REQUESTS
from viommu_riscv.hardware.queues import Ring
from viommu_riscv.hardware.words import in_memory
from viommu_riscv.spec.records import PAGE_REQUEST_MESSAGE, Cause, FaultRecord, PageRequestRecord, TransactionType
from viommu_riscv.spec.registers import Fctl, Pqcsr

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.memory import PhysicalMemory
    from viommu.platform import PageRequest, Platform
    from viommu.registers import RegisterFile

    from viommu_riscv.hardware.fault_queue import FaultQueue
    from viommu_riscv.hardware.interrupts import Interrupts
    from viommu_riscv.hardware.settings import Settings
    from viommu_riscv.spec.directories import DeviceContext

FAILED, OVERFLOWED = Pqcsr.pqmf.mask, Pqcsr.pqof.mask

INVALID = frozenset({Cause.TYPE_DISALLOWED})
"""Causes by which a request is invalid, and asking has not failed for good."""


@define(eq=False, repr=False)
class PageRequests:
    """The page-request queue, and what becomes of a request that does not get into it."""

    file: RegisterFile
    memory: PhysicalMemory
    platform: Platform
    settings: Callable[[], Settings]
    faults: FaultQueue
    interrupts: Interrupts
    _lock: Lock = field(factory=Lock)

    def take(self, request: PageRequest) -> None:
        """Take one request of a device."""
        context = self._device(request)
        if isinstance(context, Refusal):
            self._refuse(request, context)
            return
        with self._lock:
            answer = self._queue(request)
        queued = answer is None
        record = "PAGE_REQUEST" if queued else None
        self.platform.observe("riscv.page_request", {"requester": request.requester, "record": record})
        if queued:
            self.interrupts.new_entry(PAGE_REQUESTS)
        self.interrupts.update()
        if answer is not None:
            self._answer(request, answer, with_process=bool(context.PRPR))

    def _device(self, request: PageRequest) -> DeviceContext | Refusal:
        search = Search(self.settings(), self.memory, Silence())
        found = Configuration(search).before_device()
        if isinstance(found, Refusal):
            return found
        if found is not None:
            return refuse(Cause.TYPE_DISALLOWED, "ddtp.iommu_mode is Bare")
        context = search.device_context(request.requester)
        if isinstance(context, Refusal) or (context.EN_ATS and context.EN_PRI):
            return context
        wrong = refuse(Cause.TYPE_DISALLOWED, "EN_PRI is 0")
        return silenced(wrong) if context.DTF else wrong

    def _refuse(self, request: PageRequest, refusal: Refusal) -> None:
        cause = Cause(refusal.code)
        if not refusal.suppressed:
            self.faults.tell(_record_of_message(request, cause))
        code = ResponseCode.INVALID if cause in INVALID else ResponseCode.FAILURE
        self._answer(request, code, with_process=False)

    def _queue(self, request: PageRequest) -> ResponseCode | None:
        """Write a record; or say what to answer."""
        control = self.file["PQCSR"]
        if not control & Pqcsr.pqon.mask or control & FAILED:
            return ResponseCode.FAILURE
        if control & OVERFLOWED:
            return ResponseCode.SUCCESS
        ring = Ring.of(self.file, "P", PageRequestRecord.size)
        if ring.full:
            self.file.change("PQCSR", sets=OVERFLOWED)
            return ResponseCode.SUCCESS
        raw = in_memory(record_of(request).encode(), big_endian=bool(self.file.decoded("FCTL", Fctl).BE))
        at = ring.address(ring.tail)
        if at >> self.settings().address_bits or not self.memory.write(at, raw):
            self.file.change("PQCSR", sets=FAILED)
            return ResponseCode.FAILURE
        self.file["PQT"] = ring.after(ring.tail)
        return None

    def _answer(self, request: PageRequest, code: ResponseCode, *, with_process: bool) -> None:
        """Answer a group when its last member comes; a stop marker wants no answer."""
        if not request.last or is_stop_marker(request):
            return
        pasid = request.pasid if with_process or code is ResponseCode.FAILURE else None
        self.platform.respond(PageResponse(request.requester, pasid, request.group, code))


def is_stop_marker(request: PageRequest) -> bool:
    """Whether a device says that it stops using a process id, and asks for nothing."""
    return request.last and not request.access & (Access.READ | Access.WRITE | Access.EXECUTE)


def record_of(request: PageRequest) -> PageRequestRecord:
    """Write the record."""
    with_process = request.pasid is not None
    return PageRequestRecord(
        PID=request.pasid or 0,
        PV=with_process,
        PRIV=with_process and Access.PRIVILEGED in request.access,
        EXEC=with_process and Access.EXECUTE in request.access,
        DID=request.requester,
        R=bool(request.access & (Access.READ | Access.EXECUTE)),  # what is executed is read
        W=Access.WRITE in request.access,
        L=request.last,
        PRGI=request.group & 0x1FF,
        address=request.iova & PageRequestRecord.address.maximum,
    )


def _record_of_message(request: PageRequest, cause: Cause) -> FaultRecord:
    with_process = request.pasid is not None
    return FaultRecord(
        CAUSE=cause,
        PID=request.pasid or 0,
        PV=with_process,
        PRIV=with_process and Access.PRIVILEGED in request.access,
        TTYP=TransactionType.MESSAGE,
        DID=request.requester,
        iotval=PAGE_REQUEST_MESSAGE,
    )
