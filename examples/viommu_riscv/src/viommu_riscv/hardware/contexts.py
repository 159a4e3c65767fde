"""From contexts in memory to what the engine translates with: formats, roots, tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from viommu.faults import Access, Refusal
from viommu.formats import Context, FlatForm, FlatTable, Riscv

from viommu_riscv.hardware.directories import Search, refuse
from viommu_riscv.hardware.settings import LEVELS, PROCESS_BITS
from viommu_riscv.spec.command_meanings import HOST
from viommu_riscv.spec.directories import ExtendedDeviceContext, MsiptpMode, PdtpMode, ProcessContext
from viommu_riscv.spec.msi import BasicMsiPte, MrifMsiPte, MsiMode
from viommu_riscv.spec.records import Cause
from viommu_riscv.spec.registers import IommuMode

if TYPE_CHECKING:
    from viommu_riscv.hardware.settings import Settings
    from viommu_riscv.spec.directories import DeviceContext

SILENCED, TRANSLATED = 1, 2
"""Bits of ``driver_bits``: tc.DTF is set; these are requests whose address ATS gave."""

MRIF = 1 << 3
"""Bit of ``attrs2`` above PBMT: the page is a memory-resident interrupt file."""

UNTRANSLATED = Context()
GUEST_ADDRESS_BITS = 56
"""First-stage entries of a guest hold addresses of so many bits."""
WORD_LAST = (1 << 64) - 1
PAGE_NUMBERS = (1 << 52) - 1


@frozen
class Process:
    """The first stage of one address space: of a process context, or of the device context itself.

    ``supervisor``: privileged requests are allowed (ENS).
    """

    mode: int
    table: int
    space: int
    supervisor: bool = True
    user_pages: bool = False


NO_FIRST_STAGE = Process(0, 0, 0)


@frozen
class Configuration:
    """Finds what governs requests of one device and process."""

    search: Search

    @property
    def settings(self) -> Settings:
        """The registers."""
        return self.search.settings

    def context(self, device: int, process: int | None) -> Context | Refusal:
        """Find it for untranslated requests."""
        found = self.before_device()
        if found is not None:
            return found
        context = self.search.device_context(device)
        return context if isinstance(context, Refusal) else _heard(context, self.of_device(context, process))

    def before_device(self) -> Context | Refusal | None:
        """Say what ddtp.iommu_mode alone decides."""
        mode = self.settings.ddtp.iommu_mode
        if mode == IommuMode.Off:
            return refuse(Cause.ALL_DISALLOWED, "ddtp.iommu_mode is Off")
        return UNTRANSLATED if mode == IommuMode.Bare else None

    def of_device(self, context: DeviceContext, process: int | None) -> Context | Refusal:
        """Find it in a device's context."""
        if process is not None and not context.PDTV:
            return refuse(Cause.TYPE_DISALLOWED, "a request with process_id, and PDTV is 0")
        second = self._second_stage(context)
        first = self._first_stage(context, process, None if second is None else Context(stage2=second))
        if isinstance(first, Refusal):
            return first
        return self._made(context, first, second, privileged=None if process is not None else False)

    def guest_addresses(self, context: DeviceContext) -> Context:
        """Give what governs requests whose addresses are a guest's physical ones (T2GPA)."""
        return self._made(context, NO_FIRST_STAGE, self._second_stage(context), privileged=False, bits=TRANSLATED)

    def _first_stage(self, context: DeviceContext, process: int | None, second: Context | None) -> Process | Refusal:
        if not context.PDTV:
            return Process(context.fsc_MODE, context.fsc_PPN, context.PSCID)
        number = 0 if process is None and context.DPE else process
        if number is None:
            return NO_FIRST_STAGE
        bits = PROCESS_BITS.get(context.fsc_MODE)  # type: ignore[call-overload]
        if process is not None and bits is not None and number >> bits:
            return refuse(Cause.TYPE_DISALLOWED, f"process_id {number:#x} is wider than the directory")
        if context.fsc_MODE == PdtpMode.Bare:
            return NO_FIRST_STAGE
        found = self.search.process_context(context, number, second)
        return found if isinstance(found, Refusal) else _of_process(found)

    def _made(
        self, context: DeviceContext, first: Process, second: Riscv | None, *, privileged: bool | None, bits: int = 0
    ) -> Context:
        return Context(
            stage1=self._first_format(context, first, nested=second is not None),
            stage2=second,
            stage1_tag=first.space,
            stage2_tag=HOST if second is None else context.GSCID,
            privileged=privileged,
            privileged_refused=not first.supervisor,
            flat=None if second is None else self._messages(context),
            driver_bits=bits | (SILENCED if context.DTF else 0),
        )

    def _first_format(self, context: DeviceContext, first: Process, *, nested: bool) -> Riscv | None:
        if not first.mode:
            return None
        able = self.settings.able
        return Riscv(
            table=first.table,
            levels=LEVELS[first.mode],  # type: ignore[index]
            hardware_update=bool(context.SADE),
            svpbmt=bool(able.Svpbmt),
            svrsw60t59b=bool(able.Svrsw60t59b),
            supervisor_user_access=first.user_pages,
            output_bits=GUEST_ADDRESS_BITS if nested else self.settings.address_bits,
            big_endian=bool(context.SBE),
        )

    def _second_stage(self, context: DeviceContext) -> Riscv | None:
        if not context.iohgatp_MODE:
            return None
        able = self.settings.able
        return Riscv(
            table=context.iohgatp_PPN,
            levels=LEVELS[context.iohgatp_MODE],  # type: ignore[index]
            guest_stage=True,
            hardware_update=bool(context.GADE),
            svpbmt=bool(able.Svpbmt),
            svrsw60t59b=bool(able.Svrsw60t59b),
            output_bits=self.settings.address_bits,
            big_endian=self.settings.big_endian,
        )

    def _messages(self, context: DeviceContext) -> FlatTable | None:
        """Give the table of a guest's interrupt files, which takes their pages over from the second stage."""
        if not isinstance(context, ExtendedDeviceContext) or context.msiptp_MODE != MsiptpMode.Flat:
            return None
        mask = context.msi_addr_mask
        return FlatTable(
            table=context.msiptp_PPN,
            compared=PAGE_NUMBERS & ~mask,
            pattern=context.msi_addr_pattern & ~mask,
            indexed=mask,
            words=2,
            present_mask=BasicMsiPte.V.mask,
            present_value=BasicMsiPte.V.mask,
            forms=(BASIC, RESIDENT) if self.settings.able.MSI_MRIF else (BASIC,),
            output_bits=self.settings.address_bits,
            big_endian=self.settings.big_endian,
        )


BASIC = FlatForm(
    mask=BasicMsiPte.M.mask | BasicMsiPte.C.mask,
    value=int(BasicMsiPte(M=MsiMode.BASIC)),
    reserved=(BasicMsiPte.reserved_mask & WORD_LAST, 0),
    address_mask=BasicMsiPte.PPN.mask,
    address_shift=2,
    rights=int(Access.READ | Access.WRITE),
)
RESIDENT = FlatForm(
    mask=MrifMsiPte.M.mask | MrifMsiPte.C.mask,
    value=int(MrifMsiPte(M=MsiMode.MRIF)),
    reserved=(MrifMsiPte.reserved_mask & WORD_LAST, MrifMsiPte.reserved_mask >> 64),
    address_word=1,
    address_mask=MrifMsiPte.NPPN.mask >> 64,
    address_shift=2,
    rights=int(Access.READ | Access.WRITE),
    attrs=MRIF,
    memory=False,
)


def _of_process(context: ProcessContext) -> Process:
    return Process(
        context.fsc_MODE, context.fsc_PPN, context.PSCID, supervisor=bool(context.ENS), user_pages=bool(context.SUM)
    )


def _heard(context: DeviceContext, found: Context | Refusal) -> Context | Refusal:
    """Silence what tc.DTF silences."""
    return silenced(found) if isinstance(found, Refusal) and context.DTF else found


def silenced(refusal: Refusal) -> Refusal:
    """Give a refusal that is not recorded."""
    return Refusal(
        refusal.reason,
        refusal.code,
        address=refusal.address,
        walk=refusal.walk,
        suppressed=True,
        detail=f"{refusal.detail} (not recorded: tc.DTF is 1)",
    )
