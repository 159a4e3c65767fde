"""What software may store in each register (AMD 48882, 3.4).

What software programs of the capability block in PCI configuration space is mirrored here whether or not
EFR.MsiCapMmio says so: there is no configuration space.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu.registers import Register
from viommu_amd_viommu.spec import interrupt_registers as msi
from viommu_amd_viommu.spec import other_registers as other
from viommu_amd_viommu.spec import registers as spec
from viommu_amd_viommu.spec.places import PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_ONLY = 0
STATUS_CLEARS = int(
    spec.Status(
        EventOverflow=1,
        EventLogInt=1,
        ComWaitInt=1,
        PPROverflow=1,
        PPRInt=1,
        GALogOverflow=1,
        GALogInt=1,
        PPROverflowB=1,
        EventOverflowB=1,
        PPROverflowEarlyB=1,
        PPROverflowEarly=1,
    )
)
_MSI_SETS = int(msi.MsiCapabilityHeader(MsiEn=1, MsiMultMessEn=7))
_HEV_CLEARS = int(other.HardwareEventStatus(HEV=1, HEO=1))


_PROTECTED = {
    "EFR": (READ_ONLY, 0),
    "HWEVTHI": (READ_ONLY, 0),
    "HWEVTLO": (READ_ONLY, 0),
    "HWEVTSTATUS": (READ_ONLY, _HEV_CLEARS),
    "DSFX": (READ_ONLY, 0),
    "DSSX": (READ_ONLY, 0),
    "MSIVECTOR0": (READ_ONLY, 0),
    "MSIVECTOR1": (READ_ONLY, 0),
    "MSICAP": (_MSI_SETS, 0),
    "MSIMAP": (READ_ONLY, 0),
    "VIOMMUSTATUS": (READ_ONLY, 0),
    "EFR2": (READ_ONLY, 0),
    "STATUS": (READ_ONLY, STATUS_CLEARS),
    "VSCHDR": (READ_ONLY, 0),
    "VFBARLO": (READ_ONLY, 0),
    "VFBARHI": (READ_ONLY, 0),
    "VFCTLBARLO": (READ_ONLY, 0),
    "VFCTLBARHI": (READ_ONLY, 0),
    "COUNTERCFG": (READ_ONLY, 0),
}
"""What software may set, and what a 1 clears, where that is not all that the layout names."""

REGISTERS: Mapping[str, Register] = MappingProxyType(
    {name: Register(place.offset, place.layout, *_PROTECTED.get(name, (None, 0))) for name, place in PLACES.items()}
)
"""Every register of the map, but for counter banks: there are no counters."""
