"""Commands that the host puts into the command queue, and the ranges that they can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_riscv.spec.commands import (
    Ats,
    AtsFunction,
    InvalidationPayload,
    Iodir,
    IodirFunction,
    Iofence,
    Iotinval,
    IotinvalFunction,
    Opcode,
    PrgResponse,
    ResponsePayload,
)

if TYPE_CHECKING:
    from viommu_riscv.spec.registers import Capabilities

PAGE_LG2 = 12
EVERYTHING_LG2 = 52
MOST_SINGLE = 64
"""Pages that are named one by one, where hardware takes no ranges; more of them are told as everything."""


@frozen
class Pages:
    """2^``lg2`` pages from ``address`` (bytes) on, the smallest block around a range."""

    address: int
    lg2: int

    @classmethod
    def around(cls, start: int, last: int) -> Pages:
        """Cover a closed range of bytes."""
        first, end = start >> PAGE_LG2, last >> PAGE_LG2
        lg2 = (first ^ end).bit_length()
        return cls(first >> lg2 << lg2 + PAGE_LG2, lg2)

    @property
    def sized(self) -> int:
        """The address with the size in it: ones below the lowest zero bit."""
        return self.address | ((1 << self.lg2 - 1) - 1 << PAGE_LG2 if self.lg2 else 0)


EVERYTHING = Pages(0, EVERYTHING_LG2)


def first_stage(able: Capabilities, space: int, pages: Pages, *, tables: bool) -> list[Iotinval]:
    """Drop pages of a host's address space. ``tables``: what led to them has gone too."""
    whole = Iotinval(opcode=Opcode.IOTINVAL, func3=IotinvalFunction.VMA, PSCV=1, PSCID=space)
    return _ranged(able, whole, pages, tables=tables)


def guest_space(able: Capabilities, guest: int, pages: Pages, *, tables: bool) -> list[Iotinval]:
    """Drop pages of a second stage, and with them everything that went through it."""
    whole = Iotinval(opcode=Opcode.IOTINVAL, func3=IotinvalFunction.GVMA, GV=1, GSCID=guest)
    return _ranged(able, whole, pages, tables=tables)


def guest_first_stages(guest: int) -> Iotinval:
    """Drop what guests' own tables gave."""
    return Iotinval(opcode=Opcode.IOTINVAL, func3=IotinvalFunction.VMA, GV=1, GSCID=guest)


def device_context(device: int) -> Iodir:
    """Drop a device's context, and those of its processes."""
    return Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_DDT, DV=1, DID=device)


def process_context(device: int, process: int) -> Iodir:
    """Drop the context of one process."""
    return Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_PDT, DV=1, DID=device, PID=process)


def device_tlb(device: int, process: int | None, pages: Pages) -> Ats:
    """Have a device drop pages."""
    payload = InvalidationPayload(S=int(pages.lg2 > 0), address=pages.sized)
    return _to_device(device, process, AtsFunction.INVAL, int(payload))


def device_tlb_of_processes(device: int) -> Ats:
    """Have a device drop everything that it asked for with a PASID, whichever."""
    payload = InvalidationPayload(G=1, S=1, address=EVERYTHING.sized)
    return _to_device(device, 0, AtsFunction.INVAL, int(payload))


def page_response(device: int, process: int | None, group: int, code: PrgResponse) -> Ats:
    """Answer a group of page requests."""
    return _to_device(device, process, AtsFunction.PRGR, int(ResponsePayload(group=group, code=code)))


def fence(address: int, data: int) -> Iofence:
    """Store a number once all before is done."""
    return Iofence(opcode=Opcode.IOFENCE, AV=1, PR=1, PW=1, ADDR=address, DATA=data)


def _to_device(device: int, process: int | None, function: AtsFunction, payload: int) -> Ats:
    return Ats(
        opcode=Opcode.ATS,
        func3=function,
        PID=process or 0,
        PV=process is not None,
        DSV=int(device > 0xFFFF),
        RID=device & 0xFFFF,
        DSEG=device >> 16,
        PAYLOAD=payload,
    )


def _ranged(able: Capabilities, whole: Iotinval, pages: Pages, *, tables: bool) -> list[Iotinval]:
    """Name pages as narrowly as hardware can: tables above leaves go with everything, if not with NL."""
    if pages.lg2 >= EVERYTHING_LG2 or (tables and not able.NL):
        return [whole]
    if able.S or not pages.lg2:
        return [whole.replace(AV=1, NL=int(tables), S=int(pages.lg2 > 0), ADDR=pages.sized)]
    if 1 << pages.lg2 > MOST_SINGLE:
        return [whole]
    addresses = range(pages.address, pages.address + (1 << pages.lg2 + PAGE_LG2), 1 << PAGE_LG2)
    return [whole.replace(AV=1, NL=int(tables), ADDR=address) for address in addresses]
