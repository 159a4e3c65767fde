"""What every part of one live SMMU shares: memory, registers, and what surrounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_smmuv3_cmdqv.features import Features, read_features
from viommu_smmuv3_cmdqv.hardware.configuration import Configuration

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile


@define(eq=False)
class Silicon:
    """One SMMU's state. ``features`` and ``configuration`` are of the registers as they were at the last `refresh`."""

    memory: PhysicalMemory
    platform: Platform
    registers: RegisterFile
    features: Features = field(init=False)
    configuration: Configuration = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Take over what software wrote. No cache forgets anything."""
        self.features = read_features(self.registers)
        self.configuration = Configuration(self.memory, self.features)
