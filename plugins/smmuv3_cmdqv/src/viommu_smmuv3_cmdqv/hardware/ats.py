"""What a device with a TLB of its own may ask for, and how its requests end (IHI 0070, 3.9.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Refusal
from viommu.platform import Completion
from viommu_smmuv3_cmdqv import translate
from viommu_smmuv3_cmdqv.hardware.faults import event_of
from viommu_smmuv3_cmdqv.hardware.refusals import abort, refuse
from viommu_smmuv3_cmdqv.spec.events import EventId
from viommu_smmuv3_cmdqv.spec.stream_table import AtsMode, StreamConfig

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault
    from viommu.formats import Context
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.hardware.configuration import Configuration
    from viommu_smmuv3_cmdqv.spec.stream_table import STE

NO_RIGHTS_EVENTS = (EventId.F_TRANSLATION, EventId.F_ACCESS, EventId.F_PERMISSION)
"""What a translation request is told as a translation without rights."""
DISABLED = "CR0.SMMUEN"


def ats_mode(ste: STE, features: Features) -> AtsMode:
    """STE.EATS as it counts: without ATS, and on streams that do not translate, there is none."""
    if not features.idr0.ATS or ste.Config <= StreamConfig.BYPASS or ste.EATS == AtsMode.DPT:
        return AtsMode.DISABLED
    return AtsMode(ste.EATS)


def admit_request(configuration: Configuration, stream: int, log: ConfigurationLog) -> Refusal | None:
    """Whether a stream may ask for translations. Split-stage answers (EATS 2) are not modelled: refused."""
    if not configuration.features.cr0.SMMUEN:
        return abort(DISABLED, "a disabled SMMU answers no translation request")
    ste = configuration.stream(stream, log)
    if isinstance(ste, Refusal):
        return ste
    mode = ats_mode(ste, configuration.features)
    if mode is AtsMode.FULL:
        return None
    return refuse(EventId.F_BAD_ATS_TREQ, f"Config {int(ste.Config)} with EATS {int(ste.EATS)}")


def admit_translated(configuration: Configuration, stream: int, log: ConfigurationLog) -> Context | Refusal | None:
    """Whether an address that ATS gave may pass; with EATS 2 it is an IPA, which stage 2 translates."""
    features = configuration.features
    if not features.cr0.SMMUEN:
        return configuration.disabled(log) if features.gbpa.ABORT else None
    if not features.cr0.ATSCHK:
        return None
    ste = configuration.stream(stream, log)
    if isinstance(ste, Refusal):
        return ste
    if ste.Config < StreamConfig.BYPASS:
        return abort("STE.Config", f"Config {int(ste.Config)} ends every transaction")
    mode = ats_mode(ste, features)
    if mode is AtsMode.FULL:
        return None
    if mode is AtsMode.SPLIT_STAGE:
        return translate.without_stage1(ste, translate.stage2_of(ste, features), features)
    return refuse(EventId.F_TRANSL_FORBIDDEN, f"Config {int(ste.Config)} with EATS {int(ste.EATS)}, and CR0.ATSCHK 1")


def completion_of(fault: Fault) -> Completion:
    """How the device is told that its translation request was refused."""
    refusal = fault.refusal
    if refusal is None:
        event = event_of(fault.kind, fault.stage)
        return Completion.NO_ACCESS if event in NO_RIGHTS_EVENTS else Completion.COMPLETER_ABORT
    if refusal.reason in (DISABLED, EventId.F_BAD_ATS_TREQ.name):
        return Completion.UNSUPPORTED_REQUEST
    return Completion.COMPLETER_ABORT


def is_recorded(fault: Fault, features: Features) -> bool:
    """Whether a refused translation request leaves a record: configuration does where software asked for it."""
    refusal = fault.refusal
    if refusal is None or refusal.silent or refusal.walk is not None:
        return False
    if refusal.code == EventId.F_BAD_ATS_TREQ:
        return True
    return bool(features.idr0.ATSRECERR and features.cr2.REC_CFG_ATS)
