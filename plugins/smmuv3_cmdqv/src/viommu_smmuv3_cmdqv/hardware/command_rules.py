"""Which commands of a Non-secure queue are illegal: CERROR_ILL (IHI 0070, 4.1.3 and each command's own section)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec import command_meanings
from viommu_smmuv3_cmdqv.spec.command_meanings import CommandAbilities
from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode, CompletionSignal, PageResponseCode
from viommu_smmuv3_cmdqv.spec.registers import StallModel
from viommu_smmuv3_cmdqv.translate import WORLD_TAGS
from viommu_smmuv3_cmdqv.worlds import StreamWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.commands import Meanings
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.commands import Command

LARGEST_WILDCARD = 4
"""CR0.VMW: log2 of the VMIDs in a group; larger values are reserved and act as 0."""
EL2_TAGS = (WORLD_TAGS[StreamWorld.NS_EL2], WORLD_TAGS[StreamWorld.NS_EL2_E2H])


def abilities(features: Features) -> CommandAbilities:
    """What the commands that are about caches depend on."""
    idr0, wildcard = features.idr0, features.cr0.VMW
    return CommandAbilities(
        stage1=bool(idr0.S1P),
        stage2=bool(idr0.S2P),
        el2=bool(idr0.HYP and idr0.S1P),
        wide_vmids=bool(idr0.VMID16),
        wide_asids=bool(idr0.ASID16),
        ranges=bool(features.idr3.RIL),
        wildcard_lg2=wildcard if wildcard <= LARGEST_WILDCARD else 0,
        el2_tags=EL2_TAGS,
    )


meanings: Callable[[CommandAbilities], Meanings] = lru_cache(maxsize=64)(command_meanings.meanings)
"""What commands mean; the same description for the same abilities."""


def _stalls(features: Features) -> bool:
    return features.idr0.STALL_MODEL != StallModel.NO_STALL


NEEDS: Mapping[CommandOpcode, Callable[[Features], bool]] = {
    CommandOpcode.ATC_INV: lambda features: bool(features.idr0.ATS),
    CommandOpcode.PRI_RESP: lambda features: bool(features.idr0.PRI),
    CommandOpcode.RESUME: _stalls,
    CommandOpcode.STALL_TERM: _stalls,
}
"""What the SMMU must have for a command to be one. SYNC needs nothing; what is described says so itself."""

LARGEST: Mapping[CommandOpcode, tuple[str, int]] = {
    CommandOpcode.PRI_RESP: ("Resp", PageResponseCode.SUCCESS),
    CommandOpcode.SYNC: ("CS", CompletionSignal.SEV),
}
"""The field whose larger values are reserved, and illegal."""


def legal(opcode: CommandOpcode, command: Command, features: Features) -> bool:
    """Whether a command that is executed here may be."""
    if command.SSec or not NEEDS.get(opcode, _always)(features):
        return False
    name, largest = LARGEST.get(opcode, ("SSec", 0))
    return bool(getattr(command, name) <= largest)


def _always(_: Features) -> bool:
    return True
