"""What is decided here about hardware that runs guests' IOMMUs, because no source says it.

Whoever knows better changes it here, and nowhere else.
"""

from __future__ import annotations

from viommu_amd_viommu.spec.commands import Opcode
from viommu_amd_viommu.spec.events import EventCode

# --- places

VF_MMIO = 0x1000_0000
"""Offset of VF MMIO from the IOMMU's registers: there is no bus to lay BARs out on."""
VF_CONTROL_MMIO = 0x2000_0000
"""Offset of VF control MMIO."""
CAPABILITY = 0x3F00
"""Offset at which the vendor-specific capability shows, as there is no PCI configuration space."""
OWN_DEVICE_ID = 0x0002
"""The DeviceID under which the IOMMU itself reads and writes (00:00.2, as every AMD system has it)."""

# --- maps of ids

VALID_BIT = 0
"""Of an entry of either map."""
HOST_DOMAIN_BITS = (31, 16)
"""Where an entry of the DomainID map has the host's."""
NO_DEVICE = 0
"""The host's DeviceID that a guest's stands for while it stands for none: drivers write it with Valid set."""

# --- commands

OPCODES_OF_HOSTS = (Opcode.INSERT_GUEST_EVENT, Opcode.RESET_VMMIO)
"""Illegal in a guest's buffer. An illegal command is told in the guest's own log, and halts its buffer."""
HALTS_ON_UNMAPPED_DEVICE = True
"""A command that names a DeviceID which is not mapped halts the guest's command buffer, besides being told."""
HALTS_ON_UNMAPPED_DOMAIN = False
"""The same of a DomainID; else it is told, and passed over."""
GUEST_TABLES_ALONE = True
"""Commands about a whole DomainID, and INVALIDATE_IOMMU_ALL, spare what went through host tables alone."""

# --- events and page requests

EVENTS_OF_GUESTS = (
    EventCode.ILLEGAL_DEV_TABLE_ENTRY,
    EventCode.IO_PAGE_FAULT,
    EventCode.INVALID_DEVICE_REQUEST,
    EventCode.INVALID_PPR_REQUEST,
)
"""Events of a guest's devices that its log gets. Others name addresses of the host's, and are the host's."""
EVENTS_OF_PARKED_GUESTS_GO_TO_THE_HOST = True
"""While a guest has switched its event log off, its devices' events come to the host's log; else they are lost."""
REQUESTS_OF_PARKED_GUESTS_GO_TO_THE_HOST = True
"""While a guest has no PPR log, its devices' page requests come to the host's log, as without a hardware guest."""
TELLS_ALL_LOST_EVENTS = True
"""An event that a guest's memory takes not is told to the host (GUEST_EVENT_FAULT). The guest's log halts."""

# --- VIOMMU_HW_ERROR.Source: which structure could not be used

SOURCE_DEVICE_MAP, SOURCE_DOMAIN_MAP = 0, 1
