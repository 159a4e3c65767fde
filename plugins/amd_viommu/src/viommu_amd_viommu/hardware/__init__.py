"""The silicon of one IOMMU: its registers and queues, and how it finds its way through the tables in memory.

Where sources differ, or the specification leaves a choice, this model decides so:

- Queues and logs run from when their enable and IommuEn come to be set both. An overflow, a log whose memory refuses
  an entry, an illegal command, and a command buffer or completion store that memory refuses, clear the Run bit; the
  enable has to be cleared and set again. The head stays at the command that halted the buffer.
- Without a time-out (InvTimeOut 0) the buffer waits at the invalidation of a device that does not answer, and looks
  again whenever software writes the tail or Control. With one, it logs IOTLB_INV_TIMEOUT and goes on.
- Lengths below 8 are taken for 8; head and tail beyond the queue wrap.
- An interrupt is sent when a Status bit and its enable come to be set both, and not again before one was cleared.
- A swapped log halts when the other one is full as well.
- INVALIDATE_IOMMU_PAGES with GN=0 drops every guest-tagged translation of its domain: they hold no guest-physical
  address. With PDE, cached GCR3 entries go too, and the device table entries that are cached together with them.
- Device table entries stay cached over changes of the device-table base. IommuEn, GTEn, GAUpdateDis, GDUpdateDis and
  the exclusion range count at once.
- Bits of Control whose feature EFR or EFR2 lacks read as zero.
- Page requests that may not be made are answered as invalid. Those that are lost to an overflow are not answered.
- Interrupts pass or are refused as the entry says; they are not remapped.
"""

from __future__ import annotations

from viommu_amd_viommu.hardware.model import AmdIommu

__all__ = ["AmdIommu"]
