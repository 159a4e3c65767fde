"""ATS: who may ask for translations, and send what was given (RISC-V IOMMU 1.0, "PCIe ATS translation request")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from viommu.faults import Refusal
from viommu.platform import Completion, RequestKind

from viommu_riscv.hardware.contexts import Configuration, silenced
from viommu_riscv.hardware.directories import refuse
from viommu_riscv.hardware.settings import PROCESS_BITS
from viommu_riscv.spec.records import Cause

if TYPE_CHECKING:
    from viommu.formats import Context

    from viommu_riscv.spec.directories import DeviceContext

ABORTED = frozenset(
    {
        Cause.INSTRUCTION_ACCESS,
        Cause.READ_ACCESS,
        Cause.WRITE_ACCESS,
        Cause.MSI_ACCESS,
        Cause.MSI_MISCONFIGURED,
        Cause.PDT_ACCESS,
        Cause.PDT_MISCONFIGURED,
    }
)
"""Causes that end a translation request as a completer abort, and are recorded."""

UNSUPPORTED = frozenset(
    {
        Cause.ALL_DISALLOWED,
        Cause.DDT_ACCESS,
        Cause.DDT_NOT_VALID,
        Cause.DDT_MISCONFIGURED,
        Cause.TYPE_DISALLOWED,
    }
)
"""Causes that end it as an unsupported request, and are recorded. Any other ends it without rights, untold."""


@frozen
class TranslatedRefusal(Refusal):
    """The refusal of a request whose address ATS gave."""


def completion(cause: Cause) -> Completion:
    """Say how a translation request that met a cause ends."""
    if cause in ABORTED:
        return Completion.COMPLETER_ABORT
    return Completion.UNSUPPORTED_REQUEST if cause in UNSUPPORTED else Completion.NO_ACCESS


def admit(
    configuration: Configuration, device: int, process: int | None, kind: RequestKind
) -> Context | Refusal | None:
    """Answer `viommu.hookspecs.LiveHardware.admit`."""
    context = _device(configuration, device, process)
    translated = kind is RequestKind.TRANSLATED
    if isinstance(context, Refusal):
        return _translated(context) if translated else context
    if not translated or not context.T2GPA:
        return None
    return configuration.guest_addresses(context)


def _device(configuration: Configuration, device: int, process: int | None) -> DeviceContext | Refusal:
    found = configuration.before_device()
    if isinstance(found, Refusal):
        return found
    if found is not None:
        return refuse(Cause.TYPE_DISALLOWED, "ddtp.iommu_mode is Bare")
    context = configuration.search.device_context(device)
    if isinstance(context, Refusal):
        return context
    why = _disallowed(context, process)
    if why is None:
        return context
    wrong = refuse(Cause.TYPE_DISALLOWED, why)
    return silenced(wrong) if context.DTF else wrong


def _disallowed(context: DeviceContext, process: int | None) -> str | None:
    if not context.EN_ATS:
        return "EN_ATS is 0"
    if process is None:
        return None
    if not context.PDTV:
        return "a request with process_id, and PDTV is 0"
    bits = PROCESS_BITS.get(context.fsc_MODE)  # type: ignore[call-overload]
    return f"process_id {process:#x} is wider than the directory" if bits and process >> bits else None


def _translated(refusal: Refusal) -> TranslatedRefusal:
    return TranslatedRefusal(
        refusal.reason,
        refusal.code,
        address=refusal.address,
        walk=refusal.walk,
        suppressed=refusal.suppressed,
        detail=refusal.detail,
    )
