"""What an event says of the device's entry; it travels with the cached configuration, as in hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.layout import Bit, Bits, Descriptor
from viommu_amd_viommu.translate import guest_pasid

if TYPE_CHECKING:
    from viommu_amd_viommu.spec.device_table import DTE


class Attribution(Descriptor, width=32):
    """The driver's own bits of a Context (`viommu.formats.Context.driver_bits`). Guest: guest tables were used."""

    DomainID = Bits(15, 0)
    Guest = Bit(16)
    SA = Bit(17)
    SE = Bit(18)


NOBODY = Attribution()


def attribution(entry: DTE, pasid: int | None) -> Attribution:
    """What faults under this entry will be told with."""
    return Attribution(DomainID=entry.DomainID, Guest=guest_pasid(entry, pasid) is not None, SA=entry.SA, SE=entry.SE)
