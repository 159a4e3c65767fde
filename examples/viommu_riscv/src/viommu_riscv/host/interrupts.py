"""The queues that hardware fills: fault records and page requests, read and passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from viommu.kernel_errors import KernelError
from viommu.objects.fault import report_fault
from viommu.ops import PageFault

from viommu_riscv.host import guest_events, requests
from viommu_riscv.host.unit import FAULTS_LG2, PAGE_REQUESTS_LG2
from viommu_riscv.spec.commands import PrgResponse
from viommu_riscv.spec.records import FaultRecord, PageRequestRecord
from viommu_riscv.spec.registers import Fqcsr, Ipsr, Pqcsr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.layout import Descriptor

    from viommu_riscv.host.device import HostDevice
    from viommu_riscv.host.unit import Unit

RecordT = TypeVar("RecordT", bound="Descriptor")

READ, WRITE, EXECUTE, PRIVILEGED = 1, 2, 4, 8
ACKNOWLEDGED = Ipsr(fip=1, pip=1)


def hear(unit: Unit) -> None:
    """Read both queues, as soon as the command queue is free: one interrupt stands for all that there is to read."""
    unit.commands.turns.leave(lambda: _service(unit))


def respond(device: HostDevice, fault: PageFault, *, success: bool) -> None:
    """Answer a group of page requests."""
    code = PrgResponse.SUCCESS if success else PrgResponse.INVALID
    answer = requests.page_response(device.id, fault.pasid, fault.grpid, code)
    device.unit.commands.leave(lambda: [answer])


def _service(unit: Unit) -> None:
    """Acknowledge first, so that what comes meanwhile interrupts again."""
    registers = unit.registers
    registers["IPSR"] = int(ACKNOWLEDGED)
    for record in _waiting(unit, "F", unit.fault_queue, FAULTS_LG2, FaultRecord):
        unit.faults.append(record)
        guest_events.tell(unit, record)
    if registers["FQCSR"] & int(Fqcsr(fqof=1, fqmf=1)):
        registers["FQCSR"] = int(Fqcsr(fqen=1, fie=1, fqof=1, fqmf=1))
    if unit.request_queue:
        _page_requests(unit)


def _page_requests(unit: Unit) -> None:
    for request in _waiting(unit, "P", unit.request_queue, PAGE_REQUESTS_LG2, PageRequestRecord):
        _take(unit, request)
    if unit.registers["PQCSR"] & int(Pqcsr(pqof=1, pqmf=1)):
        for device in tuple(unit.devices.values()):  # the ends of their groups are lost
            device.physical.partial_faults.clear()
        unit.registers["PQCSR"] = int(Pqcsr(pqen=1, pie=1, pqof=1, pqmf=1))


def _waiting(unit: Unit, letter: str, base: int, lg2: int, layout: type[RecordT]) -> Iterator[RecordT]:
    """Give what lies in a queue now, and give its places back to hardware one by one."""
    head, tail = unit.registers[f"{letter}QH"], unit.registers[f"{letter}QT"]
    while head != tail:
        raw = unit.memory.read(base + head * layout.size, layout.size)
        head = head + 1 & (1 << lg2) - 1
        unit.registers[f"{letter}QH"] = head
        yield layout.decode(raw or bytes(layout.size))


def _take(unit: Unit, request: PageRequestRecord) -> None:
    if request.L and not (request.R or request.W):
        return  # a stop marker, which wants no answer
    device = unit.devices.get(request.DID)
    if device is None:
        _refuse(unit, request)
        return
    try:
        report_fault(device.physical, _fault_of(request))
    except KernelError:  # nobody listens: the group was answered already
        return


def _refuse(unit: Unit, request: PageRequestRecord) -> None:
    if request.L:
        process = request.PID if request.PV else None
        answer = requests.page_response(request.DID, process, request.PRGI, PrgResponse.INVALID)
        unit.commands.leave(lambda: [answer])


def _fault_of(request: PageRequestRecord) -> PageFault:
    return PageFault(
        addr=request.address,
        perm=request.R * READ | request.W * WRITE | request.EXEC * EXECUTE | request.PRIV * PRIVILEGED,
        grpid=request.PRGI,
        pasid=request.PID if request.PV else None,
        last=bool(request.L),
    )
