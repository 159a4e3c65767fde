"""What software programs: registers, queues, fault records, page requests, interrupts.

Where the specification leaves a choice, or no source says it, this model decides so (vtd.md tells more):

- A command register that changes several commands at once does them in the order that suits them best.
- A device TLB that does not answer is noticed at the next wait descriptor, which is aborted, or at the queue's end.
- A page request that finds its queue full is answered with success, so that the device asks again.
"""

from __future__ import annotations

from viommu_vtd.hardware.live.unit import LiveUnit

__all__ = ["LiveUnit"]
