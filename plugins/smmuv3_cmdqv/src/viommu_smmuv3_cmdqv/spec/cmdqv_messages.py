"""What the Tegra241 CMDQV driver's messages tell of its registers, put side by side."""

from __future__ import annotations

from viommu.layout import Bits, Descriptor


class CmdqvErrorMaps(Descriptor, width=192):
    """Which VINTFs and which VCMDQs have an error: a bit for each, by number."""

    VINTF_ERR_MAP = Bits(63, 0)
    CMDQ_ERR_MAP0 = Bits(95, 64)
    CMDQ_ERR_MAP1 = Bits(127, 96)
    CMDQ_ERR_MAP2 = Bits(159, 128)
    CMDQ_ERR_MAP3 = Bits(191, 160)


class VcmdqState(Descriptor, width=96):
    """A VCMDQ that could not be switched: GERRORN, GERROR and CONS of it."""

    GERRORN = Bits(31, 0)
    GERROR = Bits(63, 32)
    RD = Bits(83, 64)
    ERR = Bits(94, 88)
