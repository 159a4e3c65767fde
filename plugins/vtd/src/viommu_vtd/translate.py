"""From a descriptor to what the engine translates with: formats, roots, tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.formats import X86, Context, VtdSecondStage
from viommu_vtd.spec.pasid import FirstStagePaging, PasidTranslationType
from viommu_vtd.spec.root_context import TranslationType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu_vtd.hardware.capabilities import RemappingUnit
    from viommu_vtd.spec.pasid import PasidTableEntry
    from viommu_vtd.spec.root_context import ContextEntry

INTERRUPT_RANGE = (0xFEE0_0000, 0xFEEF_FFFF)
"""Where writes are interrupts: no translation may end there."""

SILENCED = 1
"""Bit of ``driver_bits``: FPD was set on the way, so that faults of the page tables go unrecorded."""
PROTECTED = 2
"""Bit of ``driver_bits``: what is refused before any table lies in protected memory (or in the interrupt range)."""
TRANSLATED = 4
"""Bit of ``driver_bits``: these are requests whose address ATS gave."""
PASID_SHIFT = 8
"""Where ``driver_bits`` hold the PASID whose table entry it was, RID_PASID too."""


def in_interrupt_range(address: int) -> bool:
    """Whether an address lies where writes are interrupts."""
    return INTERRUPT_RANGE[0] <= address <= INTERRUPT_RANGE[1]


@frozen
class Request:
    """What requests that share a PASID table entry have in common.

    ``privileged`` None: as each request says, which those that came with the PASID can. ``silenced``: FPD was met
    on the way to the entry.
    """

    pasid: int
    privileged: bool | None
    silenced: bool

    @property
    def came_with_pasid(self) -> bool:
        """Whether the PASID is the request's own, not RID_PASID."""
        return self.privileged is None

    @property
    def bits(self) -> int:
        """What goes into ``driver_bits``."""
        return self.pasid << PASID_SHIFT | (SILENCED if self.silenced else 0)


@frozen
class Invalid:
    """A present entry, free of reserved bits, that asks for what this hardware lacks."""

    why: str


def context_of(entry: ContextEntry, unit: RemappingUnit, *, silenced: bool) -> Context | Invalid:
    """What a legacy context entry asks for."""
    if (wrong := _legacy_type_wrong(entry, unit)) is not None:
        return Invalid(wrong)
    width = entry.AW
    if not unit.supports_width(width):
        return Invalid(f"AW {width} is not in CAP.SAGAW {unit.cap.SAGAW:#x}")
    if entry.TT == TranslationType.PASS_THROUGH:
        if width != unit.widest:
            return Invalid(f"AW {width} of a pass-through entry is not the widest in CAP.SAGAW")
        return passing(unit, entry.DID, SILENCED if silenced else 0)
    return Context(
        stage2=_second_stage(entry.SSPTPTR, width, unit, legacy_order=True),
        stage2_tag=entry.DID,
        untranslated_input=[INTERRUPT_RANGE],
        blocked_output=INTERRUPT_RANGE,
        driver_bits=SILENCED if silenced else 0,
    )


def _legacy_type_wrong(entry: ContextEntry, unit: RemappingUnit) -> str | None:
    match entry.TT:
        case TranslationType.UNTRANSLATED:
            return None
        case TranslationType.ALL:
            return None if unit.ecap.DT else "TT 1 without ECAP.DT"
        case TranslationType.PASS_THROUGH:
            return None if unit.ecap.PT else "TT 2 without ECAP.PT"
    return f"TT {entry.TT} is reserved"


def pasid_context_of(entry: PasidTableEntry, request: Request, unit: RemappingUnit) -> Context | Invalid:
    """What a PASID table entry asks for. Fields of a stage that PGTT leaves out are not looked at."""
    first = second = None
    match entry.PGTT:
        case PasidTranslationType.FIRST_STAGE if unit.ecap.FSTS:
            first = _first_stage(entry, unit)
        case PasidTranslationType.SECOND_STAGE if unit.ecap.SSTS:
            second = _pasid_second_stage(entry, unit)
        case PasidTranslationType.NESTED if unit.ecap.NEST:
            first, second = _first_stage(entry, unit), _pasid_second_stage(entry, unit)
        case PasidTranslationType.PASS_THROUGH if unit.ecap.PT:
            # Only a request with PASID can be a DMA to the interrupt range; without one it is an interrupt (3.14).
            return passing(unit, entry.DID, request.bits, blocked=INTERRUPT_RANGE if request.came_with_pasid else None)
        case _:
            return Invalid(f"PGTT {entry.PGTT} is not one that ECAP has")
    if isinstance(first, Invalid):
        return first
    if isinstance(second, Invalid):
        return second
    return Context(
        stage1=first,
        stage2=second,
        stage1_tag=request.pasid if first else 0,
        stage2_tag=entry.DID,
        untranslated_input=[] if request.came_with_pasid else [INTERRUPT_RANGE],
        blocked_output=INTERRUPT_RANGE,
        privileged=request.privileged,
        privileged_refused=first is not None and not entry.SRE,
        driver_bits=request.bits,
    )


def _first_stage(entry: PasidTableEntry, unit: RemappingUnit) -> X86 | Invalid:
    """Accessed and dirty flags are stored by snooped, atomic updates: there are none without PWSNP."""
    match entry.FSPM:
        case FirstStagePaging.LEVELS_4:
            levels = 4
        case FirstStagePaging.LEVELS_5 if unit.cap.FL5LP:
            levels = 5
        case _:
            return Invalid(f"FSPM {entry.FSPM} is not one that CAP has")
    return X86(
        table=entry.FSPTPTR,
        levels=levels,
        output_bits=unit.host_address_width,
        write_protect=bool(entry.WPE),
        extended_accessed=bool(entry.EAFE),
        updates_allowed=bool(entry.PWSNP),
        page_1g=bool(unit.cap.FL1GP),
    )


def _pasid_second_stage(entry: PasidTableEntry, unit: RemappingUnit) -> VtdSecondStage | Invalid:
    if not unit.supports_width(entry.AW):
        return Invalid(f"AW {entry.AW} is not in CAP.SAGAW {unit.cap.SAGAW:#x}")
    return _second_stage(
        entry.SSPTPTR,
        entry.AW,
        unit,
        accessed_dirty=bool(entry.SSADE),
        updates_allowed=bool(entry.PWSNP),
    )


def _second_stage(
    table: int,
    address_width: int,
    unit: RemappingUnit,
    *,
    accessed_dirty: bool = False,
    updates_allowed: bool = True,
    legacy_order: bool = False,
) -> VtdSecondStage:
    return VtdSecondStage(
        table=table,
        levels=address_width + 2,
        input_bits=unit.guest_address_width,
        output_bits=unit.host_address_width,
        page_2m=bool(unit.cap.SSLPS & 1),
        page_1g=bool(unit.cap.SSLPS & 2),
        accessed_dirty=accessed_dirty,
        updates_allowed=updates_allowed,
        snoop_reserved=not unit.ecap.SC,
        # TM (bit 62) was taken back in revision 3.2; the recordings show it reserved although ECAP.DT is 1.
        transient_reserved=True,
        legacy_order=legacy_order,
    )


def passing(
    unit: RemappingUnit,
    domain: int = 0,
    driver_bits: int = 0,
    *,
    input_bits: int | None = None,
    blocked: tuple[int, int] | None = None,
) -> Context:
    """Let addresses through as they are: below 2^``input_bits`` (HAW), outside ``blocked``, not to protected memory."""
    bits = unit.host_address_width if input_bits is None else input_bits
    if not unit.protected:
        return Context(stage2_tag=domain, input_bits=bits, blocked_output=blocked, driver_bits=driver_bits)
    closed = unit.protected if blocked is None else (*unit.protected, blocked)
    return Context(
        stage2_tag=domain,
        input_bits=bits,
        rights=0,
        untranslated_input=_gaps(closed, (1 << bits) - 1),
        driver_bits=driver_bits | PROTECTED,
    )


def _gaps(closed: Iterable[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """What lies between ranges, up to ``last``."""
    found = []
    start = 0
    for first, end in sorted(closed):
        if start < min(first, last + 1):
            found.append((start, min(first - 1, last)))
        start = max(start, end + 1)
    return [*found, (start, last)] if start <= last else found
