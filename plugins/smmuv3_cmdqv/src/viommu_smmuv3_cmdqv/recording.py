"""What a Context carries for the report of its faults (IHI 0070, 5.5): as cached, not as memory says by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Stage
from viommu.layout import Bit, Descriptor, Field
from viommu_smmuv3_cmdqv.spec.stream_table import InstructionOverride, PrivilegeOverride, StreamConfig

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
    from viommu_smmuv3_cmdqv.spec.stream_table import STE


class Recording(Descriptor, width=32):
    """The driver's own bits of a Context (`viommu.formats.Context`); those of a disabled SMMU are 0.

    R and S of each stage; NESTED: the tables of stage 1 lie behind stage 2; the overrides in force; MEV: events that
    say the same may be merged.
    """

    S1R = Bit(0)
    S1S = Bit(1)
    S2R = Bit(2)
    S2S = Bit(3)
    NESTED = Bit(4)
    PRIVCFG = Field(6, 5, of=PrivilegeOverride)
    INSTCFG = Field(8, 7, of=InstructionOverride)
    MEV = Bit(9)

    def stalls(self, stage: Stage) -> bool:
        """Whether a translation fault of ``stage`` holds the transaction."""
        return bool(self.S2S if stage is Stage.STAGE2 else self.S1S)

    def silent(self, stage: Stage) -> bool:
        """Whether a translation fault of ``stage`` leaves no record; one that stalls always leaves one."""
        return not (self.stalls(stage) or (self.S2R if stage is Stage.STAGE2 else self.S1R))


def recording_of(ste: STE, cd: CD | None, features: Features) -> Recording:
    """What ``ste`` and ``cd`` ask for. ``cd`` None: no CD is used, and no bit silences stage 1."""
    overrides = features.idr1.ATTR_PERMS_OVR
    return Recording(
        S1R=1 if cd is None else cd.R,
        S1S=0 if cd is None else cd.S,
        S2R=ste.S2R,
        S2S=ste.S2S,
        NESTED=ste.Config == StreamConfig.NESTED,
        PRIVCFG=ste.PRIVCFG if overrides else 0,
        INSTCFG=ste.INSTCFG if overrides else 0,
        MEV=ste.MEV,
    )
