"""Commands that have no neutral action, or are refused (RISC-V IOMMU 1.0, "Command-Queue")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, frozen
from viommu.addresses import Pasid, RequesterId
from viommu.platform import DeviceInvalidation, PageResponse, ResponseCode

from viommu_riscv.spec.command_meanings import STORED_BYTES
from viommu_riscv.spec.commands import (
    Ats,
    AtsFunction,
    Command,
    InvalidationPayload,
    Iofence,
    IofenceFunction,
    Opcode,
    PrgResponse,
    ResponsePayload,
)
from viommu_riscv.spec.registers import Cqcsr, Fctl

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile

    from viommu_riscv.hardware.settings import Settings

ILLEGAL, TIMED_OUT, MEMORY_FAULT = Cqcsr.cmd_ill.mask, Cqcsr.cmd_to.mask, Cqcsr.cqmf.mask
ADDRESS_LAST = (1 << 64) - 1
PAGE_LG2 = 12
RESPONSES = {
    PrgResponse.SUCCESS: ResponseCode.SUCCESS,
    PrgResponse.INVALID: ResponseCode.INVALID,
}
"""What is neither is a failure."""


@frozen
class Halt:
    """The queue stops at this command, with an error bit of cqcsr."""

    error: int


@define(eq=False, repr=False)
class Commands:
    """Executes them. ``unanswered``: a device did not answer an invalidation, which the next fence will tell."""

    file: RegisterFile
    memory: PhysicalMemory
    platform: Platform
    settings: Settings
    unanswered: bool = False

    def execute(self, raw: bytes) -> Halt | None:
        """Do one command, given as little-endian words. None: it is done."""
        opcode = Command.decode(raw).opcode
        if opcode == Opcode.IOFENCE:
            return self._fence(Iofence.decode(raw))
        if opcode == Opcode.ATS and self.settings.able.ATS:
            return self._message(Ats.decode(raw))
        return Halt(ILLEGAL)

    def _fence(self, command: Iofence) -> Halt | None:
        wired = self.file.decoded("FCTL", Fctl).WSI
        if command.reserved_set or command.func3 != IofenceFunction.C or (command.WSI and not wired):
            return Halt(ILLEGAL)
        if self.unanswered:
            self.unanswered = False
            return Halt(TIMED_OUT)
        if command.AV and not self._stored(command):
            return Halt(MEMORY_FAULT)
        if command.WSI:
            self.file.change("CQCSR", sets=Cqcsr.fence_w_ip.mask)
        return None

    def _stored(self, command: Iofence) -> bool:
        order = "big" if self.settings.big_endian else "little"
        data = command.DATA.to_bytes(STORED_BYTES, order)  # type: ignore[arg-type]
        return not command.ADDR >> self.settings.address_bits and self.memory.write(command.ADDR, data)

    def _message(self, command: Ats) -> Halt | None:
        if command.reserved_set or command.func3 not in set(AtsFunction):
            return Halt(ILLEGAL)
        device = RequesterId(command.RID | (command.DSEG << 16 if command.DSV else 0))
        process = Pasid(command.PID) if command.PV else None
        if command.func3 == AtsFunction.PRGR:
            payload = ResponsePayload.decode(command.PAYLOAD)
            code = RESPONSES.get(payload.code, ResponseCode.FAILURE)  # type: ignore[call-overload]
            self.platform.respond(PageResponse(device, process, payload.group, code))
        elif not self.platform.invalidate_device(_invalidation(device, process, command.PAYLOAD)):
            self.unanswered = True
        return None


def _invalidation(device: RequesterId, process: Pasid | None, raw: int) -> DeviceInvalidation:
    """Read an Invalidate Request: with S, the lowest clear address bit tells the size."""
    payload = InvalidationPayload.decode(raw)
    size_lg2 = PAGE_LG2
    if payload.S:
        above = payload.address >> PAGE_LG2
        size_lg2 = min(64, PAGE_LG2 + (~above & above + 1).bit_length())
    inside = (1 << size_lg2) - 1
    return DeviceInvalidation(
        device,
        process,
        payload.address & ~inside & ADDRESS_LAST,
        (payload.address | inside) & ADDRESS_LAST,
        every_pasid=bool(payload.G) and process is not None,
    )
