"""What a store to the Control register means (AMD 48882, 3.4): which bits stick, and what starts and stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_amd_viommu.spec.registers import EFR, EFR2, Control, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.layout import FieldSpec

_FEATURES: tuple[tuple[tuple[FieldSpec, ...], Callable[[EFR, EFR2], int]], ...] = (
    ((Control.PPRLogEn, Control.PPRIntEn, Control.PPREn), lambda efr, _: efr.PPR),
    ((Control.GTEn,), lambda efr, _: efr.GT),
    ((Control.GAEn, Control.GALogEn, Control.GAIntEn), lambda efr, _: efr.GA),
    ((Control.GAMEn,), lambda efr, _: efr.GAM),
    ((Control.SmiFEn, Control.SmiFLogEn), lambda efr, _: efr.SmiF),
    ((Control.DualPPRLogEn,), lambda efr, _: efr.DualPPRLog),
    ((Control.DualEventLogEn,), lambda efr, _: efr.DualEventLog),
    ((Control.DevTblSegEn,), lambda efr, _: efr.DevTblSeg),
    ((Control.PPRAutoRspEn, Control.PPRAutoRspAon), lambda efr, _: efr.PPRAutoRsp),
    ((Control.MARCEn,), lambda efr, _: efr.MARC),
    ((Control.BlkStopMrkEn,), lambda efr, _: efr.BlkStopMrk),
    ((Control.NumIntRemapMode,), lambda _, efr2: efr2.NumIntRemapSup),
    ((Control.EPHEn,), lambda efr, _: efr.EPH),
    ((Control.HADUpdate,), lambda efr, _: efr.HA),
    ((Control.GDUpdateDis,), lambda efr, _: efr.V2HDDis),
    ((Control.GAUpdateDis,), lambda efr, _: efr.V2HADis),
    ((Control.XTEn, Control.IntCapXTEn), lambda efr, _: efr.XT),
    ((Control.GAPPIEn,), lambda efr, _: efr.GAPPI),
    ((Control.TMPMEn,), lambda _, efr2: efr2.TMPM),
    ((Control.GCR3TRPMode,), lambda _, efr2: efr2.GCR3TRPMode),
    ((Control.SNPAVICEn,), lambda _, efr2: efr2.SNPAVIC),
    ((Control.vCmdEn, Control.vIommuEn, Control.GstBufferTRPMode), lambda efr, _: efr.vIOMMU),
)
"""Fields that stick where hardware has their feature."""

RUNS: Mapping[int, int] = {
    Control.CmdBufEn.mask: Status.CmdBufRun.mask,
    Control.EventLogEn.mask: Status.EventLogRun.mask,
    Control.PPRLogEn.mask: Status.PPRRun.mask,
    Control.GALogEn.mask: Status.GALogRun.mask,
}
"""What runs from when its enable and IommuEn come to be set both, until one is cleared or it halts."""

IMMEDIATE = Control.IommuEn.mask | Control.GTEn.mask | Control.GAUpdateDis.mask | Control.GDUpdateDis.mask
"""Switches that every access obeys at once, whatever is cached."""


def sticking(written: int, features: EFR, features2: EFR2) -> int:
    """What the Control register holds after ``written``."""
    for fields, has in _FEATURES:
        if not has(features, features2):
            for spec in fields:
                written &= ~spec.mask
    control = Control.decode(written)
    return int(control.replace(DevTblSegEn=min(control.DevTblSegEn, features.DevTblSeg)))


def started(before: int, after: int) -> int:
    """Status bits of what a change of Control starts."""
    return running(after) & ~running(before)


def stopped(before: int, after: int) -> int:
    """Status bits of what a change of Control stops."""
    return running(before) & ~running(after)


def running(control: int) -> int:
    """Status bits of what Control enables."""
    if not control & Control.IommuEn.mask:
        return 0
    return sum(run for enable, run in RUNS.items() if control & enable)
