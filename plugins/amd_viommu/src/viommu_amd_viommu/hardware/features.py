"""The features of an IOMMU of which nobody has said what it is: all that is modelled."""

from __future__ import annotations

from viommu.hookspecs import Registers
from viommu_amd_viommu.spec.registers import EFR, EFR2, HostLevels

MODELLED = EFR(
    PreF=1, PPR=1, XT=1, NX=1, GT=1, IA=1, GA=1, HE=1, HATS=HostLevels.LEVELS_6, GATS=1, GLX=2, DualPPRLog=2,
    DualEventLog=2, PASmax=15, US=1, DevTblSeg=3, PPROverflowEarly=1, PPRAutoRsp=1, MsiCapMmio=1, GIO=1, HA=1, EPH=1,
    HD=1, V2HDDis=1, V2HADis=1, vIOMMU=1,
)  # fmt: skip
MODELLED2 = EFR2(GCR3TRPMode=1)


def of(registers: Registers) -> Registers:
    """Give the registers that a machine was given; if it was given none, those of an IOMMU fresh from reset."""
    return registers if registers.values else Registers({"EFR": int(MODELLED), "EFR2": int(MODELLED2)})
