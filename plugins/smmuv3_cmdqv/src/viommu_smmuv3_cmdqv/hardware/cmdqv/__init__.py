"""The Tegra241 CMDQV beside an SMMU: command queues (VCMDQs) in interfaces (VINTFs), some of them guests'.

There is no public manual: what is not in Linux's driver or QEMU's model is inferred, and `docs/drivers/smmuv3_cmdqv.md`
says which.
"""

from __future__ import annotations

from viommu_smmuv3_cmdqv.hardware.cmdqv.block import Cmdqv

__all__ = ["Cmdqv"]
