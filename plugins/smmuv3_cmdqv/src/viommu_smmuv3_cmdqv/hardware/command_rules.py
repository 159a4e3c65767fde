"""Which commands of a Non-secure queue are illegal: CERROR_ILL (IHI 0070, 4.1.3 and each command's own section)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode, CompletionSignal, PageResponseCode
from viommu_smmuv3_cmdqv.spec.registers import StallModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from viommu_smmuv3_cmdqv.features import Features

Columns: TypeAlias = "dict[str, NDArray[np.uint64]]"
"""Commands of one opcode: a column for each field of their layout."""


def _stage1(features: Features) -> bool:
    return bool(features.idr0.S1P)


def _stage2(features: Features) -> bool:
    return bool(features.idr0.S2P)


def _el2(features: Features) -> bool:
    return bool(features.idr0.HYP and features.idr0.S1P)


def _stalls(features: Features) -> bool:
    return features.idr0.STALL_MODEL != StallModel.NO_STALL


def _never(_: Features) -> bool:
    return False


NEEDS: Mapping[CommandOpcode, Callable[[Features], bool]] = {
    CommandOpcode.CFGI_CD: _stage1,
    CommandOpcode.CFGI_CD_ALL: _stage1,
    CommandOpcode.CFGI_VMS_PIDM: lambda features: bool(features.idr3.MPAM),
    CommandOpcode.TLBI_NH_ALL: _stage1,
    CommandOpcode.TLBI_NH_ASID: _stage1,
    CommandOpcode.TLBI_NH_VA: _stage1,
    CommandOpcode.TLBI_NH_VAA: _stage1,
    CommandOpcode.TLBI_EL3_ALL: _never,
    CommandOpcode.TLBI_EL3_VA: _never,
    CommandOpcode.TLBI_EL2_ALL: _el2,
    CommandOpcode.TLBI_EL2_ASID: _el2,
    CommandOpcode.TLBI_EL2_VA: _el2,
    CommandOpcode.TLBI_EL2_VAA: _el2,
    CommandOpcode.TLBI_S12_VMALL: _stage2,
    CommandOpcode.TLBI_S2_IPA: _stage2,
    CommandOpcode.ATC_INV: lambda features: bool(features.idr0.ATS),
    CommandOpcode.PRI_RESP: lambda features: bool(features.idr0.PRI),
    CommandOpcode.RESUME: _stalls,
    CommandOpcode.STALL_TERM: _stalls,
}
"""What the SMMU must have for a command to be one; the others need nothing."""

LARGEST: Mapping[CommandOpcode, tuple[str, int]] = {
    CommandOpcode.PRI_RESP: ("Resp", PageResponseCode.SUCCESS),
    CommandOpcode.SYNC: ("CS", CompletionSignal.SEV),
}
"""The field whose larger values are reserved, and illegal."""


def legal(opcode: CommandOpcode, columns: Columns, features: Features) -> NDArray[np.bool_]:
    """Which of some commands of one opcode may be executed."""
    allowed: NDArray[np.bool_] = columns["SSec"] == 0
    needed = NEEDS.get(opcode)
    if needed is not None and not needed(features):
        allowed[:] = False
    if opcode in LARGEST:
        name, largest = LARGEST[opcode]
        allowed &= columns[name] <= np.uint64(largest)
    return allowed
