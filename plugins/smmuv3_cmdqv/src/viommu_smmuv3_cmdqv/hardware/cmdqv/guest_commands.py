"""What a guest's queue may say: four commands, whose VMID and StreamID are the interface's to say."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from viommu.commands import Meanings
from viommu_smmuv3_cmdqv.hardware.command_rules import legal
from viommu_smmuv3_cmdqv.hardware.operations import OPERATIONS
from viommu_smmuv3_cmdqv.spec import command_meanings
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import VcmdqError
from viommu_smmuv3_cmdqv.spec.command_meanings import CommandAbilities
from viommu_smmuv3_cmdqv.spec.commands import ATC_INV, COMMANDS, SYNC, CommandOpcode, CompletionSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.commands import Operand
    from viommu.layout import FieldSpec
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit

IN_THE_ENGINE = (CommandOpcode.TLBI_NH_ASID, CommandOpcode.TLBI_NH_VA)
ALLOWED = (*IN_THE_ENGINE, CommandOpcode.ATC_INV, CommandOpcode.SYNC)
KNOWN = {int(opcode): opcode for opcode in COMMANDS}


@frozen
class OwnedAbilities(CommandAbilities):
    """Abilities of a queue whose commands have one VMID, whatever they say."""

    owner: int = 0

    def vmid(self, of: FieldSpec) -> Operand:  # noqa: ARG002
        """The interface's."""
        return self.owner if self.stage2 else 0


@lru_cache(maxsize=256)
def guest_meanings(able: CommandAbilities, vmid: int) -> Meanings:
    """Describe the commands of a guest's queue that are about caches."""
    values = asdict(able) | {"wildcard_lg2": 0, "owner": vmid}
    every = command_meanings.meanings(OwnedAbilities(**values))
    return Meanings(every.size, every.opcode, {code: every.of[code] for code in IN_THE_ENGINE if code in every.of})


def execute(
    raw: bytes, unit: CommandUnit, features: Features, stream_of: Callable[[int], int | None]
) -> VcmdqError | None:
    """Execute a command of a guest's that the engine left. ``stream_of``: the SMMU's StreamID of a guest's."""
    opcode = KNOWN.get(raw[0])
    if opcode is None:
        return VcmdqError.CERROR_ILL_OPCODE
    if opcode not in ALLOWED:
        return VcmdqError.CERROR_ILL_ACCESS
    command = COMMANDS[opcode].decode(raw)
    if opcode in IN_THE_ENGINE or not legal(opcode, command, features):
        return VcmdqError.CERROR_ILL_OPCODE
    if isinstance(command, ATC_INV):
        stream = stream_of(command.SID)
        if stream is None:
            return VcmdqError.CERROR_ILL_ACCESS
        command = command.replace(SID=stream)
    elif isinstance(command, SYNC) and command.CS == CompletionSignal.IRQ:
        # A guest must not choose an address of the host's for hardware to store to.
        return VcmdqError.CERROR_ILL_ACCESS
    operation = OPERATIONS[opcode]
    error = operation.act(unit, *operation.arguments(command))
    return None if error is None else VcmdqError(error)
