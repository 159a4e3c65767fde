"""Page requests: logged, refused, or answered by hardware itself (AMD 48882, 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import Access
from viommu.platform import PageResponse, ResponseCode
from viommu_amd_viommu.hardware.logs import PPR_LOG, RecordLog
from viommu_amd_viommu.spec.commands import PPRStatus
from viommu_amd_viommu.spec.events import EventCode, InvalidPprRequest
from viommu_amd_viommu.spec.page_requests import LAST, PAGE_REQUEST, PPRLogEntry
from viommu_amd_viommu.spec.queue_registers import PPRAutoResponse, PPROverflowEarly
from viommu_amd_viommu.spec.registers import EFR, Control, Status

if TYPE_CHECKING:
    from viommu.addresses import Pasid
    from viommu.memory import PhysicalMemory
    from viommu.platform import PageRequest, Platform
    from viommu.registers import RegisterFile
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.spec.device_table import DTE
    from viommu_amd_viommu.spec.events import AnyEvent

EARLY = (
    (PPR_LOG.a, "PPREARLY", Status.PPROverflowEarly.mask),
    (PPR_LOG.b, "PPREARLYB", Status.PPROverflowEarlyB.mask),
)


def response_code(status: int) -> ResponseCode:
    """What a status means to a device: what is neither of two is a failure."""
    if status == PPRStatus.SUCCESS:
        return ResponseCode.SUCCESS
    return ResponseCode.INVALID if status == PPRStatus.INVALID_REQUEST else ResponseCode.FAILURE


@define(eq=False, repr=False)
class PageRequests:
    """The PPR log, and what becomes of a request that does not get into it."""

    file: RegisterFile
    platform: Platform
    events: Events
    log: RecordLog = field(init=False)

    @classmethod
    def of(cls, file: RegisterFile, memory: PhysicalMemory, platform: Platform, events: Events) -> PageRequests:
        """Make the PPR log of one IOMMU."""
        made = cls(file, platform, events)
        made.log = RecordLog(PPR_LOG, file, memory)
        return made

    def take(self, request: PageRequest, entry: DTE) -> None:
        """Take a request of a device with this entry.

        Where the log has no room and hardware does not answer by itself, nobody does: the device's own time-out ends
        it.
        """
        control = self.file.decoded("CONTROL", Control)
        if not (control.PPREn and entry.V and entry.PPR):
            self.refuse(request, _refused(request))
        elif control.PPRAutoRspEn and (control.PPRAutoRspAon or not self._log(request)):
            self._answer(request, entry)
        elif not control.PPRAutoRspEn:
            self._log(request)
        self.events.interrupts.update()

    def refuse(self, request: PageRequest, event: AnyEvent) -> None:
        """The device may not ask, and is told so."""
        self.events.tell(event)
        self._respond(request, request.pasid, ResponseCode.INVALID)

    def _log(self, request: PageRequest) -> bool:
        logged = self.log.append(_entry(request).encode())
        record = "PAGE_REQUEST" if logged else None
        self.platform.observe("amd.page_request", {"requester": request.requester, "logged": logged, "record": record})
        self._warn_early()
        return logged

    def _warn_early(self) -> None:
        if not self.file.decoded("EFR", EFR).PPROverflowEarly:
            return
        for log, name, status in EARLY:
            early = self.file.decoded(name, PPROverflowEarly)
            if early.En and self.log.ring(log).used >= early.Threshold:
                self.file.change("STATUS", sets=status)

    def _answer(self, request: PageRequest, entry: DTE) -> None:
        automatic = self.file.decoded("PPRAUTORSP", PPRAutoResponse)
        pasid = request.pasid if entry.GPRP and not automatic.MaskGN else None
        self._respond(request, pasid, response_code(automatic.Code))

    def _respond(self, request: PageRequest, pasid: Pasid | None, code: ResponseCode) -> None:
        """Answer the group, once: when its last request comes."""
        if request.last:
            self.platform.respond(PageResponse(request.requester, pasid, request.group, code))


def _entry(request: PageRequest) -> PPRLogEntry:
    return PPRLogEntry(
        DeviceID=request.requester,
        PASID=request.pasid or 0,
        Tag=_tag(request),
        EXEC=Access.EXECUTE in request.access,
        READ=Access.READ in request.access,
        WRITE=Access.WRITE in request.access,
        US=Access.PRIVILEGED not in request.access,
        GN=request.pasid is not None,
        Type=PAGE_REQUEST,
        Address=request.iova & PPRLogEntry.Address.maximum,
    )


def _refused(request: PageRequest) -> InvalidPprRequest:
    return InvalidPprRequest(
        EventCode=EventCode.INVALID_PPR_REQUEST,
        DeviceID=request.requester,
        PASID=request.pasid or 0,
        Tag=_tag(request),
        EXEC=Access.EXECUTE in request.access,
        READ=Access.READ in request.access,
        WRITE=Access.WRITE in request.access,
        US=Access.PRIVILEGED not in request.access,
        GN=request.pasid is not None,
        Address=request.iova,
    )


def _tag(request: PageRequest) -> int:
    return request.group & LAST - 1 | LAST * request.last
