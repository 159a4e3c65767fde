"""The silicon of one remapping unit: how it finds its way through the tables in memory (`live`: the rest).

Where sources differ, or the specification leaves a choice, this model decides so:

- A RID_PASID beyond the PASID directory is reason 48, which Linux lists for just that; others give 43.
- Second stage denies reading a first-stage table with 75 or 76 even where it grants nothing there (79 elsewhere).
- A request in abort-DMA mode is recorded, with reason 33.
- An unreadable top-level table makes a legacy context entry invalid (3), as the recordings show.
- A record holds the whole page address (FI), as the recordings show, and a PASID only once its table was found.
- TM of a second-stage leaf is reserved, as it is since revision 3.2 and in the recordings.
"""

from __future__ import annotations

from viommu_vtd.hardware.model import VtdHardware

__all__ = ["VtdHardware"]
