"""Which contexts are misconfigured (RISC-V IOMMU 1.0, the configuration checks of device and process contexts)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_riscv.spec.directories import ExtendedDeviceContext, MsiptpMode, StageMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu_riscv.hardware.settings import Settings
    from viommu_riscv.spec.directories import DeviceContext, ProcessContext

QOS = ExtendedDeviceContext.RCID.mask | ExtendedDeviceContext.MCID.mask
ROOT_ALIGNMENT = 1 << 14


def device_wrong(context: DeviceContext, settings: Settings) -> str | None:
    """Say what is wrong with a valid device context, if anything is."""
    return next(_device(context, settings), None)


def process_wrong(context: ProcessContext, settings: Settings) -> str | None:
    """Say what is wrong with a valid process context, if anything is."""
    if context.reserved_set:
        return f"reserved bits {context.reserved_set:#x} are set"
    if not settings.has_first_stage(context.fsc_MODE):
        return f"fsc.MODE {context.fsc_MODE:d} is not one that capabilities has"
    return None


def _device(context: DeviceContext, settings: Settings) -> Iterator[str]:
    able, raw = settings.able, int(context)
    if context.reserved_set or (not able.QOSID and raw & QOS):
        yield f"reserved bits {context.reserved_set | raw & (0 if able.QOSID else QOS):#x} are set"
    if not able.ATS and (context.EN_ATS or context.EN_PRI or context.PRPR):
        yield "EN_ATS, EN_PRI or PRPR without capabilities.ATS"
    if not context.EN_ATS and (context.T2GPA or context.EN_PRI):
        yield "T2GPA or EN_PRI without EN_ATS"
    if context.PRPR and not context.EN_PRI:
        yield "PRPR without EN_PRI"
    if context.T2GPA and not (able.T2GPA and context.iohgatp_MODE):
        yield "T2GPA without capabilities.T2GPA or a second stage"
    if context.DPE and not context.PDTV:
        yield "DPE without PDTV"
    if (context.SADE or context.GADE) and not able.AMO_HWAD:
        yield "SADE or GADE without capabilities.AMO_HWAD"
    if context.SBE != settings.control.BE and not able.END:
        yield "SBE is not fctl.BE, and capabilities.END is 0"
    if context.SXL:
        yield "SXL is 1, and fctl.GXL cannot be"
    yield from _modes(context, settings)


def _modes(context: DeviceContext, settings: Settings) -> Iterator[str]:
    has = settings.has_process_directory if context.PDTV else settings.has_first_stage
    if not has(context.fsc_MODE):
        yield f"fsc.MODE {context.fsc_MODE} is not one that capabilities has"
    if not settings.has_second_stage(context.iohgatp_MODE):
        yield f"iohgatp.MODE {context.iohgatp_MODE:d} is not one that capabilities has"
    if context.iohgatp_MODE != StageMode.Bare and context.iohgatp_PPN % ROOT_ALIGNMENT:
        yield f"the second stage's root {context.iohgatp_PPN:#x} is not a multiple of {ROOT_ALIGNMENT:#x}"
    if isinstance(context, ExtendedDeviceContext):
        yield from _messages(context, settings)


def _messages(context: ExtendedDeviceContext, settings: Settings) -> Iterator[str]:
    if context.msiptp_MODE not in set(MsiptpMode):
        yield f"msiptp.MODE {context.msiptp_MODE:d} is reserved"
    if context.msiptp_MODE and not context.iohgatp_MODE:
        yield "MSI pages without a second stage"
    beyond = (context.msi_addr_mask | context.msi_addr_pattern) >> settings.guest_address_bits - 12
    if beyond:
        yield f"bits of MSI pages beyond the {settings.guest_address_bits} of a guest's address are set"
