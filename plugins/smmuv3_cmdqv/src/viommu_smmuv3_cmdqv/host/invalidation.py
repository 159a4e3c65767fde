"""A guest's commands, rewritten to what they mean on the host's SMMU, and executed (Linux: cache_invalidate)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import IoError
from viommu_smmuv3_cmdqv.host import commands
from viommu_smmuv3_cmdqv.host.command_queue import BATCH
from viommu_smmuv3_cmdqv.spec.commands import ATC_INV, CFGI_CD, TLBI_NH_ALL, CommandOpcode
from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.ops import DeviceTlbRequest, UserArray
    from viommu_smmuv3_cmdqv.host.smmu import Smmu
    from viommu_smmuv3_cmdqv.host.vsmmu import VirtualSmmu
    from viommu_smmuv3_cmdqv.spec.commands import Command

DATA_TYPE = 1
"""IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3"""
ENTRY = 16
BY_VMID = frozenset(
    {
        CommandOpcode.TLBI_NH_ALL,
        CommandOpcode.TLBI_NH_ASID,
        CommandOpcode.TLBI_NH_VA,
        CommandOpcode.TLBI_NH_VAA,
    }
)
BY_STREAM = frozenset({CommandOpcode.ATC_INV, CommandOpcode.CFGI_CD, CommandOpcode.CFGI_CD_ALL})
VMID = TLBI_NH_ALL.VMID
SID = CFGI_CD.SID
assert SID.mask == ATC_INV.SID.mask  # noqa: S101 - all commands of a stream have it in one place


def invalidate(guest: VirtualSmmu, requests: UserArray) -> None:
    """Execute commands in order. ``requests.done`` is how many were rewritten.

    Commands go to hardware in batches: those before a wrong one that fill no batch have not been executed.
    Raises Invalid, BadAddress, TooBig, IoError (a command that a guest may not give, a StreamID that it has not).
    """
    wanted = requests.whole(DATA_TYPE, ENTRY)
    batch: list[bytes] = []
    for raw in wanted:
        batch.append(rewritten(guest, raw))
        requests.done += 1
        if len(batch) == BATCH or requests.done == len(wanted):
            guest.smmu.queue.submit_raw(batch)
            batch = []


def rewritten(guest: VirtualSmmu, raw: bytes) -> bytes:
    """Put the host's VMID or StreamID in the place of the guest's. Raises IoError."""
    opcode, command = raw[0], int.from_bytes(raw, "little")
    if opcode == CommandOpcode.TLBI_NSNH_ALL:
        command = int(TLBI_NH_ALL(Opcode=CommandOpcode.TLBI_NH_ALL, VMID=guest.vmid))
    elif opcode in BY_VMID:
        command = command & ~VMID.mask | VMID.put(guest.vmid)
    elif opcode in BY_STREAM:
        command = command & ~SID.mask | SID.put(_stream(guest, SID.take(command)))
    else:
        raise IoError("invalidation", "opcode", opcode, "of TLBI_NSNH_ALL, TLBI_NH_*, ATC_INV, CFGI_CD, CFGI_CD_ALL")
    return command.to_bytes(ENTRY, "little")


def _stream(guest: VirtualSmmu, virtual: int) -> int:
    found = guest.stream_of(virtual)
    if found is None:
        raise IoError(guest.viommu.title, "StreamID", virtual, "that of a vDEVICE")
    return found


def invalidate_devices(smmu: Smmu, requests: Sequence[DeviceTlbRequest]) -> int:
    """Have devices forget translations, one after the other; how many did, up to the first that does not answer."""
    for done, request in enumerate(requests):
        silent = smmu.queue.errors.get(CommandError.CERROR_ATC_INV_SYNC, 0)
        smmu.queue.submit([_of_device(request)])
        if smmu.queue.errors.get(CommandError.CERROR_ATC_INV_SYNC, 0) > silent:
            return done
    return len(requests)


def _of_device(request: DeviceTlbRequest) -> Command:
    """Without a PASID every PASID's go: hardware has no message for less."""
    pasid = None if request.every_pasid else request.pasid
    return commands.forget_in_device(request.device.requester, pasid, request.start, request.last)
