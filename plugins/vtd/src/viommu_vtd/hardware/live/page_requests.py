"""Page requests: the queue that hardware fills, and what it answers by itself (VT-d 7.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import Refusal
from viommu.hardware import Silence
from viommu.platform import PageResponse, ResponseCode
from viommu.translation import refused
from viommu_vtd.hardware import scalable
from viommu_vtd.hardware.access_bits import EXECUTES, PRIVILEGED, READS, WRITES
from viommu_vtd.hardware.live.admissions import Admissions
from viommu_vtd.hardware.live.ats import pasid_refusal
from viommu_vtd.hardware.live.events import EventInterrupt
from viommu_vtd.spec.faults import FaultReason
from viommu_vtd.spec.page_requests import PAGE_REQUEST, PageRequestDescriptor
from viommu_vtd.spec.queue_registers import PQA, PRS
from viommu_vtd.spec.registers import TranslationTableMode

if TYPE_CHECKING:
    from viommu.faults import Fault
    from viommu.platform import PageRequest
    from viommu_vtd.hardware.live.state import State
    from viommu_vtd.hardware.model import VtdHardware
    from viommu_vtd.hardware.search import Search

PAGE_LG2 = 12
SILENCE = Silence()
PENDING, OVERFLOW = PRS.PPR.mask, PRS.PRO.mask


@define(eq=False)
class PageRequestQueue:
    """Takes page requests of devices."""

    state: State
    interrupt: EventInterrupt = field(init=False)
    _admissions: Admissions = field(init=False, factory=lambda: Admissions(judge))

    def __attrs_post_init__(self) -> None:
        self.interrupt = EventInterrupt(self.state, "page-request", "PE")

    def take(self, request: PageRequest) -> Fault | None:
        """Queue a request, or answer it at once. Gives the fault that keeps its device from asking."""
        if not self.state.unit.status.TES:
            self._answer(request, ResponseCode.INVALID)
            return None
        translation = self.state.translation
        refusal, _ = self._admissions.refusal(translation, request.requester, request.pasid, SILENCE)
        if refusal is not None:
            self._answer(request, _response(refusal))
            return refused(request.requester, request.pasid, request.iova, request.access, refusal)
        if self.state.registers["PRS"] & OVERFLOW or not self._put(request):
            # The device is told that all is well: it finds no translation, and asks again.
            self._answer(request, ResponseCode.SUCCESS)
            self._raise(OVERFLOW)
        else:
            self._raise(PENDING)
        return None

    def serviced(self) -> None:
        """Software cleared bits of PRS."""
        if not self.state.registers["PRS"]:
            self.interrupt.serviced()

    def _put(self, request: PageRequest) -> bool:
        """Write a descriptor at the tail; False where the queue is full. A store to where no memory is, is lost."""
        registers = self.state.registers
        address = registers.decoded("PQA", PQA)
        size = 1 << PAGE_LG2 + address.PQS
        tail = registers["PQT"] % size
        after = (tail + PageRequestDescriptor.size) % size
        if after == registers["PQH"] % size:
            return False
        self.state.memory.write(address.Address + tail, descriptor_of(request).encode())
        registers["PQT"] = after
        return True

    def _raise(self, bit: int) -> None:
        before = self.state.registers["PRS"]
        self.state.registers["PRS"] = before | bit
        if not before:
            self.interrupt.raise_()

    def _answer(self, request: PageRequest, code: ResponseCode) -> None:
        """Answer a whole group: only its last member is answered."""
        if request.last:
            self.state.platform.respond(PageResponse(request.requester, request.pasid, request.group, code))


def judge(translation: VtdHardware, search: Search, requester: int, pasid: int | None) -> Refusal | None:
    """Why a device may not ask for pages; None where it may."""
    wrong = translation.mode_refusal(search)
    if wrong is not None:
        return wrong
    if translation.mode == TranslationTableMode.LEGACY:
        return search.refuse(FaultReason.PAGE_GROUP_IN_LEGACY_MODE, "a page request in legacy mode")
    entry = scalable.context_entry(search, requester)
    if isinstance(entry, Refusal):
        return entry
    if not entry.PRE:
        return search.refuse(FaultReason.PAGE_REQUEST_DISABLED, "PRE is 0: page requests are not allowed")
    return pasid_refusal(search, entry, pasid)


def descriptor_of(request: PageRequest) -> PageRequestDescriptor:
    """What hardware writes into the queue."""
    access = int(request.access)
    return PageRequestDescriptor(
        Type=PAGE_REQUEST,
        PASIDP=int(request.pasid is not None),
        RID=request.requester,
        PASID=request.pasid or 0,
        EXE=int(bool(access & EXECUTES)),
        PRIV=int(bool(access & PRIVILEGED)),
        RD=int(bool(access & READS)),
        WR=int(bool(access & WRITES)),
        LPIG=int(request.last),
        PRGI=request.group & PageRequestDescriptor.PRGI.maximum,
        ADDR=request.iova & PageRequestDescriptor.ADDR.maximum,
    )


def _response(refusal: Refusal) -> ResponseCode:
    """A device that may not ask has made an invalid request; where structures are broken, asking failed."""
    asked_in_vain = (FaultReason.PAGE_REQUEST_DISABLED, FaultReason.PAGE_GROUP_IN_LEGACY_MODE)
    return ResponseCode.INVALID if refusal.code in asked_in_vain else ResponseCode.FAILURE
