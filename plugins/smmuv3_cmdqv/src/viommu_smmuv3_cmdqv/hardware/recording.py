"""How the faults of one stream are told: CD.R, CD.S, STE.S2R, STE.S2S (IHI 0070, 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import Stage
from viommu_smmuv3_cmdqv.spec.stream_table import StreamConfig

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
    from viommu_smmuv3_cmdqv.spec.stream_table import STE


@frozen
class Policy:
    """How the translation faults of one stage are told. A stalled transaction is recorded always."""

    record: bool = True
    stall: bool = False

    @property
    def silent(self) -> bool:
        """Whether a fault leaves no trace but the abort."""
        return not (self.record or self.stall)


@frozen
class Recording:
    """The policies of both stages. No bit governs stage 1 where it is bypassed: it records.

    ``nested``: the tables of stage 1 lie behind stage 2.
    """

    stage1: Policy = Policy()
    stage2: Policy = Policy()
    nested: bool = False

    def of(self, stage: Stage) -> Policy:
        """The policy of the stage that met a fault."""
        return self.stage2 if stage is Stage.STAGE2 else self.stage1


def recording_of(ste: STE, cd: CD | None) -> Recording:
    """The policies that ``ste`` and ``cd`` ask for. ``cd`` None: no CD was used, or none was found."""
    stage1 = Policy() if cd is None else Policy(bool(cd.R), bool(cd.S))
    return Recording(stage1, Policy(bool(ste.S2R), bool(ste.S2S)), nested=ste.Config == StreamConfig.NESTED)
