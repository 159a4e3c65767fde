"""What capabilities let the driver do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_riscv.spec.directories import PdtpMode, StageMode

if TYPE_CHECKING:
    from viommu_riscv.spec.registers import Capabilities

LEVELS = {StageMode.Sv39: 3, StageMode.Sv48: 4, StageMode.Sv57: 5}
PROCESS_BITS = {PdtpMode.PD8: 8, PdtpMode.PD17: 17, PdtpMode.PD20: 20}


@frozen
class Abilities:
    """One IOMMU's."""

    capabilities: Capabilities

    @property
    def first_stage(self) -> StageMode:
        """The mode of new first-stage tables, Bare where there is none: four levels, where hardware has them."""
        able = self.capabilities
        return _chosen({StageMode.Sv48: able.Sv48, StageMode.Sv39: able.Sv39, StageMode.Sv57: able.Sv57})

    @property
    def second_stage(self) -> StageMode:
        """The mode of new second-stage tables, Bare where there is none."""
        able = self.capabilities
        return _chosen({StageMode.Sv48: able.Sv48x4, StageMode.Sv39: able.Sv39x4, StageMode.Sv57: able.Sv57x4})

    @property
    def nested(self) -> bool:
        """Whether a first stage can stand on a second one."""
        return bool(self.first_stage and self.second_stage)

    @property
    def dirty(self) -> bool:
        """Whether hardware notes writes in second-stage tables."""
        return bool(self.capabilities.AMO_HWAD and self.second_stage)

    @property
    def process_mode(self) -> PdtpMode:
        """The mode of new process directories, Bare where there are none: the widest."""
        able = self.capabilities
        widest = ((PdtpMode.PD20, able.PD20), (PdtpMode.PD17, able.PD17), (PdtpMode.PD8, able.PD8))
        return next((mode for mode, has in widest if has), PdtpMode.Bare)

    @property
    def processes(self) -> int:
        """How many process ids there are."""
        return 1 << PROCESS_BITS[self.process_mode] if self.process_mode else 0


def _chosen(modes: dict[StageMode, int]) -> StageMode:
    return next((mode for mode, has in modes.items() if has), StageMode.Bare)
