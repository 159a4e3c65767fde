"""What is decided here about guests' IOMMUs because no source says it. Whoever knows better changes it here alone."""

from __future__ import annotations

VF_MMIO = 0x1000_0000
"""Offset of VF MMIO from the IOMMU's registers: there is no bus to lay BARs out on."""
VF_CONTROL_MMIO = 0x2000_0000
"""Offset of VF control MMIO."""

NO_DEVICE = 0
"""The host's DeviceID that a guest's stands for while it stands for none: drivers write it with Valid set."""

HALTS_ON_UNMAPPED_DEVICE = True
"""A command that names a DeviceID which is not mapped halts the guest's command buffer, besides being told."""

TELLS_ALL_LOST_EVENTS = True
"""An event that a guest's memory takes not is told to the host (GUEST_EVENT_FAULT), and the guest's log halts."""

FAULTS_OF_PARKED_GUESTS_GO_TO_THE_HOST = True
"""While a guest has switched its event log off, its devices' events come to the host's log."""

REQUESTS_OF_PARKED_GUESTS_GO_TO_THE_HOST = True
"""While a guest has no PPR log, its devices' page requests come to the host's log, as without a hardware guest."""

SOURCE_DEVICE_MAP, SOURCE_DOMAIN_MAP = 0, 1
"""VIOMMU_HW_ERROR.Source: which structure could not be used."""
