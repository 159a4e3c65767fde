"""The host's side of the event and PRI queues: who is told of a fault, and how stalled accesses are answered."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.objects.fault import report_fault
from viommu.objects.veventq import report_event
from viommu.ops import PageFault
from viommu_smmuv3_cmdqv.host import commands
from viommu_smmuv3_cmdqv.spec.commands import PageResponseCode
from viommu_smmuv3_cmdqv.spec.events import RECORDS, EventId, EventRecord, TranslationRecord
from viommu_smmuv3_cmdqv.spec.page_requests import PageRequestRecord
from viommu_smmuv3_cmdqv.spec.queue_registers import (
    EVENTQ_CONS,
    EVENTQ_PROD,
    PRIQ_CONS,
    PRIQ_PROD,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.platform import Interrupt
    from viommu_smmuv3_cmdqv.host.cmdqv import HostCmdqv
    from viommu_smmuv3_cmdqv.host.master import Master
    from viommu_smmuv3_cmdqv.host.smmu import Smmu

VEVENT_TYPE = 1
"""IOMMU_VEVENTQ_TYPE_ARM_SMMUV3"""
READ, WRITE, EXECUTE, PRIVILEGED = 1, 2, 4, 8

TRANSLATION_EVENTS = (EventId.F_TRANSLATION, EventId.F_ADDR_SIZE, EventId.F_ACCESS, EventId.F_PERMISSION)
GUESTS_EVENTS = (
    EventId.C_BAD_STE,
    EventId.F_STREAM_DISABLED,
    EventId.C_BAD_SUBSTREAMID,
    EventId.C_BAD_CD,
    *TRANSLATION_EVENTS,
)
"""What a guest's structures can be to blame for."""


def hear(smmu: Smmu, interrupt: Interrupt) -> None:
    """Do what an interrupt asks for. Waits for nobody."""
    if interrupt.source == "EVENTQ":
        for raw in _events(smmu):
            _handle(smmu, raw)
    elif interrupt.source == "PRIQ":
        for request in _requests(smmu):
            _take_request(smmu, request)
    elif interrupt.source == "GERROR":
        _acknowledge(smmu)
    elif interrupt.source == "CMDQV" and smmu.cmdqv is not None:
        _tell_guests(smmu, smmu.cmdqv)


def respond(master: Master, fault: PageFault, *, success: bool) -> None:
    """End the wait of a stalled access: it is tried again, or ends with an abort. Or answer a group of requests."""
    if master.stalls:
        master.smmu.queue.leave(lambda: commands.resume(master.sid, fault.grpid, again=success))
    elif master.ats:
        code = PageResponseCode.SUCCESS if success else PageResponseCode.FAIL
        master.smmu.queue.leave(lambda: commands.page_response(master.sid, fault.pasid, fault.grpid, code))


def _events(smmu: Smmu) -> Iterator[bytes]:
    """Give records, one by one, each of which hardware may overwrite from then on."""
    cons = smmu.registers.read(EVENTQ_CONS)
    while True:
        prod = smmu.registers.read(EVENTQ_PROD)
        if not smmu.events.waiting(prod.WR, cons.RD):
            break
        raw = smmu.memory.read(smmu.events.address(cons.RD), EventRecord.size) or bytes(EventRecord.size)
        cons = EVENTQ_CONS(RD=smmu.events.after(cons.RD), OVACKFLG=prod.OVFLG)
        smmu.registers.write(cons)
        yield raw
    smmu.registers.write(EVENTQ_CONS(RD=cons.RD, OVACKFLG=prod.OVFLG))


def _handle(smmu: Smmu, raw: bytes) -> None:
    """Tell who is concerned; what nobody takes is kept, as a kernel prints it."""
    try:
        told = _tell(smmu, raw)
    except KernelError:
        told = False
    if not told:
        smmu.log.append(RECORDS.get(EventRecord.decode(raw).ID, EventRecord).decode(raw))  # type: ignore[call-overload]


def _tell(smmu: Smmu, raw: bytes) -> bool:
    record = TranslationRecord.decode(raw)
    master = smmu.masters.get(record.SID)
    if record.ID not in GUESTS_EVENTS or master is None:
        return False
    if record.ID in TRANSLATION_EVENTS and record.STALL:
        report_fault(master.physical, _page_fault(record))
        return True
    virtual = master.virtual
    if virtual is None or (record.ID in TRANSLATION_EVENTS and record.S2):
        return False
    report_event(virtual.guest.viommu, VEVENT_TYPE, record.replace(SID=virtual.sid).encode())
    return True


def _page_fault(record: TranslationRecord) -> PageFault:
    perm = READ if record.RnW else WRITE
    perm |= EXECUTE if record.InD else 0
    perm |= PRIVILEGED if record.PnU else 0
    return PageFault(record.InputAddr, perm, record.STAG, record.SSID if record.SSV else None)


def _requests(smmu: Smmu) -> Iterator[PageRequestRecord]:
    """Give page requests, one by one."""
    ring = smmu.requests
    if ring is None:
        return
    prod, cons = smmu.registers.read(PRIQ_PROD), smmu.registers.read(PRIQ_CONS).RD
    while ring.waiting(prod.WR, cons):
        raw = smmu.memory.read(ring.address(cons), PageRequestRecord.size) or bytes(PageRequestRecord.size)
        cons = ring.after(cons)
        yield PageRequestRecord.decode(raw)
    smmu.registers.write(PRIQ_CONS(RD=cons, OVACKFLG=prod.OVFLG))


def _take_request(smmu: Smmu, request: PageRequestRecord) -> None:
    """Linux enables page requests nowhere, and refuses them; a machine's policy may let guests have theirs."""
    master = smmu.masters.get(request.SID)
    ssid = request.SSID if request.SSID_V else None
    if smmu.policy.viommu_page_requests and master is not None:
        perm = request.Read * READ | request.Write * WRITE | request.Exec * EXECUTE | request.Priv * PRIVILEGED
        with suppress(KernelError):  # nobody listens: it has been answered
            report_fault(
                master.physical, PageFault(request.Address, perm, request.PRGIndex, ssid, last=bool(request.Last))
            )
    elif request.Last:
        answer = commands.page_response(request.SID, ssid, request.PRGIndex, PageResponseCode.DENY)
        smmu.queue.leave(lambda: answer)


def _acknowledge(smmu: Smmu) -> None:
    """A command that hardware refuses is replaced; other errors are taken note of. By one at a time."""
    smmu.queue.recover()
    smmu.queue.turns.leave(lambda: _acknowledge_others(smmu))


def _acknowledge_others(smmu: Smmu) -> None:
    others = smmu.registers.active_errors().replace(CMDQ_ERR=0)
    if int(others):
        smmu.registers.acknowledge(others)


def _tell_guests(smmu: Smmu, block: HostCmdqv) -> None:
    """Errors of guests' queues are theirs to acknowledge; a guest that does not listen is not told."""
    for number, errors in block.hear():
        guest = smmu.guests.get(number)
        if guest is not None:
            with suppress(KernelError):
                guest.tell(errors)
