"""The queue of page requests, and the answers that the SMMU gives itself (IHI 0070, chapter 8)."""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import Access, Refusal
from viommu.hardware import Silence
from viommu.platform import PageResponse, ResponseCode
from viommu_smmuv3_cmdqv.hardware.ring import OVERFLOW, POINTER, request_ring
from viommu_smmuv3_cmdqv.hardware.signals import GlobalError, Source, tell_nobody
from viommu_smmuv3_cmdqv.spec.page_requests import PageRequestRecord
from viommu_smmuv3_cmdqv.spec.queue_registers import PRIQ_IRQ_CFG2

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.addresses import Pasid
    from viommu.platform import PageRequest
    from viommu_smmuv3_cmdqv.hardware.signals import Signals
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon


@define(eq=False)
class RequestQueue:
    """Writes page requests. While it cannot, it answers groups itself, and drops requests that end no group."""

    chip: Silicon
    signals: Signals
    _lock: Lock = field(factory=Lock)

    def append(self, request: PageRequest) -> None:
        """Take one request. A queue that lost requests takes no more until software acknowledges that."""
        if not self._is_open():
            self._answer(request, ResponseCode.FAILURE)
            return
        with self._lock:  # devices ask from any thread; whoever is told may write registers
            tell = self._overflowed(request) or self._stored(request)
        tell()

    def _is_open(self) -> bool:
        features = self.chip.features
        enabled = features.idr0.PRI and features.cr0.SMMUEN and features.cr0.PRIQEN
        return bool(enabled) and not self.signals.is_active(GlobalError.PRIQ_ABORT)

    def _overflowed(self, request: PageRequest) -> Callable[[], None] | None:
        """Where there is no room, give the answer: the device will ask again."""
        registers = self.chip.registers
        if (registers["PRIQ_PROD"] ^ registers["PRIQ_CONS"]) & OVERFLOW:
            return partial(self._answer, request, ResponseCode.SUCCESS)
        if not request_ring(self.chip).is_full(registers["PRIQ_PROD"] & POINTER, registers["PRIQ_CONS"] & POINTER):
            return None
        registers["PRIQ_PROD"] ^= OVERFLOW
        return partial(self._tell_overflow, request)

    def _tell_overflow(self, request: PageRequest) -> None:
        self.chip.platform.observe("smmuv3.overflow", {"queue": "PRIQ"})
        self._answer(request, ResponseCode.SUCCESS)

    def _answer(self, request: PageRequest, code: ResponseCode) -> None:
        if request.last:
            pasid = self._answered_pasid(request)
            self.chip.platform.respond(PageResponse(request.requester, pasid, request.group, code))

    def _answered_pasid(self, request: PageRequest) -> Pasid | None:
        """Whether an answer that software does not give carries the PASID is the STE's to say (PPAR)."""
        if request.pasid is None or not self.chip.features.cr0.SMMUEN:
            return None
        ste = self.chip.configuration.stream(request.requester, Silence())
        return None if isinstance(ste, Refusal) or not ste.PPAR else request.pasid

    def _stored(self, request: PageRequest) -> Callable[[], None]:
        """Queue a request; gives whom to tell."""
        ring, registers = request_ring(self.chip), self.chip.registers
        prod, cons = registers["PRIQ_PROD"] & POINTER, registers["PRIQ_CONS"] & POINTER
        if not self.chip.memory.write(ring.address(prod), record_of(request).encode()):
            return partial(self._abort, request)
        registers["PRIQ_PROD"] = registers["PRIQ_PROD"] & OVERFLOW | ring.after(prod)
        last_only = PRIQ_IRQ_CFG2.decode(registers["PRIQ_IRQ_CFG2"]).LO
        interrupts = request.last if last_only else not ring.waiting(prod, cons)
        return partial(self.signals.interrupt, Source.PRIQ) if interrupts else tell_nobody

    def _abort(self, request: PageRequest) -> None:
        self.signals.raise_error(GlobalError.PRIQ_ABORT)
        self._answer(request, ResponseCode.FAILURE)


def record_of(request: PageRequest) -> PageRequestRecord:
    """The queue's entry for a request."""
    return PageRequestRecord(
        SID=request.requester,
        SSID=request.pasid or 0,
        SSID_V=request.pasid is not None,
        Priv=Access.PRIVILEGED in request.access,
        Exec=Access.EXECUTE in request.access,
        Read=Access.READ in request.access,
        Write=Access.WRITE in request.access,
        Last=request.last,
        PRGIndex=request.group & PageRequestRecord.PRGIndex.maximum,
        Address=request.iova & PageRequestRecord.Address.maximum,
    )
