"""The host's side of the page request queue: what Linux refuses itself, and what it passes on (VT-d 7.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.objects.fault import report_fault
from viommu.ops import PageFault
from viommu_vtd.host import requests
from viommu_vtd.host.unit import PAGE_REQUEST_PAGES_LG2
from viommu_vtd.spec.commands import ResponseCode
from viommu_vtd.spec.page_requests import PageRequestDescriptor
from viommu_vtd.spec.queue_registers import PQH, PQT, PRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.unit import Unit

RING = 4096 << PAGE_REQUEST_PAGES_LG2
READ, WRITE, EXECUTE, PRIVILEGED = 1, 2, 4, 8
PENDING, OVERFLOW = PRS(PPR=1), PRS(PRO=1)


def service(unit: Unit) -> None:
    """Pass on what lies in the queue. PPR is cleared first, so that what comes meanwhile interrupts again.

    After an overflow the requests of groups whose end is lost are forgotten; hardware queues again after that.
    """
    unit.registers.write(PENDING)
    tail = unit.registers.read(PQT).PQT
    for request in _waiting(unit, unit.registers.read(PQH).PQH, tail):
        _take(unit, request)
    unit.registers.write(PQH(PQH=tail))
    if unit.registers.read(PRS).PRO and _has_drained(unit, tail):
        for device in tuple(unit.devices.values()):
            device.physical.partial_faults.clear()
        unit.registers.write(OVERFLOW)


def respond(device: HostDevice, fault: PageFault, *, success: bool) -> None:
    """Answer a group. It may be that this is called for while requests are taken: then it is done right after."""
    code = ResponseCode.SUCCESS if success else ResponseCode.INVALID
    answer = requests.page_response(device.source, fault.pasid, fault.grpid, code)
    device.unit.queue.leave(lambda: [answer])


def _has_drained(unit: Unit, head: int) -> bool:
    tail: int = unit.registers.read(PQT).PQT
    return tail == head


def _waiting(unit: Unit, head: int, tail: int) -> Iterator[PageRequestDescriptor]:
    while head != tail:
        raw = unit.memory.read(unit.page_requests + head, PageRequestDescriptor.size)
        yield PageRequestDescriptor.decode(raw or bytes(PageRequestDescriptor.size))
        head = (head + PageRequestDescriptor.size) % RING


def _take(unit: Unit, request: PageRequestDescriptor) -> None:
    device = unit.devices.get(request.RID)
    wrong = _is_wrong(unit, request)
    if not wrong and request.LPIG and not (request.RD or request.WR):
        return  # a stop marker, which wants no answer
    if wrong or device is None:
        _refuse(unit, request)
        return
    try:
        report_fault(device.physical, _fault_of(request))
    except KernelError:  # nobody listens: the group was answered already
        return


def _is_wrong(unit: Unit, request: PageRequestDescriptor) -> bool:
    """Say whether Linux takes a request for malformed: its address, privilege, execution."""
    bits = 57 if unit.able.cap.FL5LP else 48
    above = request.ADDR >> bits - 1
    is_canonical = above in {0, (1 << 65 - bits) - 1}
    return not is_canonical or bool(request.PRIV and (request.RD or request.WR)) or bool(request.EXE and request.RD)


def _refuse(unit: Unit, request: PageRequestDescriptor) -> None:
    """Answer the last one of a group that it was invalid."""
    if request.LPIG:
        pasid = request.PASID if request.PASIDP else None
        answer = requests.page_response(request.RID, pasid, request.PRGI, ResponseCode.INVALID)
        unit.queue.leave(lambda: [answer])


def _fault_of(request: PageRequestDescriptor) -> PageFault:
    return PageFault(
        addr=request.ADDR,
        perm=request.RD * READ | request.WR * WRITE | request.EXE * EXECUTE | request.PRIV * PRIVILEGED,
        grpid=request.PRGI,
        pasid=request.PASID if request.PASIDP else None,
        last=bool(request.LPIG),
    )
