"""Where a stage-2 walk starts, and which input sizes go with it (Arm ARM, VTCR_EL2.SL0; IHI 0070, STE.S2SL0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec.sizes import Granule

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.stream_table import STE

GRANULE_LG2: dict[int, int] = {Granule.KB_4: 12, Granule.KB_16: 14, Granule.KB_64: 16}
LARGEST_CONCATENATION_LG2 = 4
"""At most 16 tables stand side by side at the start level."""


def large_52(ste: STE, features: Features) -> bool:
    """Whether 4K and 16K tables hold 52-bit addresses (S2DS)."""
    return bool(ste.S2DS and features.idr5.DS)


def start_level(ste: STE, features: Features) -> int | None:
    """Arm's number of the start level that S2SL0 names (-1 to 3); None where it names none.

    A start level that only a larger physical address space would need is none: level 0 of 4K tables below
    44 bits, level 1 of 16K tables below 42.
    """
    code, oas = ste.S2SL0, features.oas
    if ste.S2TG == Granule.KB_4:
        return _start_level_4k(ste, features)
    if code == 3:
        return 0 if ste.S2TG == Granule.KB_16 and large_52(ste, features) else None
    if ste.S2TG == Granule.KB_16 and code == 2 and oas < 42:
        return None
    return 3 - code


def _start_level_4k(ste: STE, features: Features) -> int | None:
    code = ste.S2SL0
    if ste.S2SL0_2 and large_52(ste, features):
        return -1 if code == 0 else None
    if code == 3:
        return 3 if features.idr3.STT else None
    if code == 2 and features.oas < 44:
        return None
    return 2 - code


def fits(granule_lg2: int, level: int, input_bits: int) -> bool:
    """Whether a walk of ``input_bits`` can start at ``level``, with up to 16 concatenated tables."""
    index_lg2 = granule_lg2 - 3
    smallest = (3 - level) * index_lg2 + granule_lg2 + 1
    return smallest <= input_bits < smallest + index_lg2 + LARGEST_CONCATENATION_LG2
