"""Calls of AMD's that mainline has no bytes for: invalidation by a guest's commands, events, hardware vIOMMUs.

Of the numbers of the published series no kernel has decided: that of the vIOMMU is the series'; those of the queues
follow on mainline's last.
"""

from __future__ import annotations

from enum import IntEnum

from viommu.iommufd.experimental import AmdCommand, ExperimentalType, VeventAmd, ViommuAmd

__all__ = ["HARDWARE_VIOMMU", "TYPE", "AmdCommand", "QueueType", "VeventAmd", "ViommuAmd"]

TYPE = ExperimentalType.AMD
"""Stands for AMD in arrays of commands (HWPT_INVALIDATE) and in event queues."""

HARDWARE_VIOMMU = 3
"""Type of a vIOMMU that hardware runs (IOMMU_VIOMMU_TYPE_AMD of the series)."""


class QueueType(IntEnum):
    """Types of its HW_QUEUEs."""

    COMMANDS = 2
    EVENTS = 3
    PAGE_REQUESTS = 4
