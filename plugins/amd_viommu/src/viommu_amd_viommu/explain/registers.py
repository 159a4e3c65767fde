"""Registers in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_amd_viommu.explain.wording import reserved, set_fields
from viommu_amd_viommu.hardware.logs import LEAST_LENGTH
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.hardware.settings import MOST_SEGMENT_BITS
from viommu_amd_viommu.spec.registers import EFR, BufferBase, Control, DualLog, HostLevels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.layout import Descriptor

NAMES = {name.lower(): name for name in REGISTERS}
"""Kinds, and the registers that they are of."""


def explain(kind: str, raw: bytes) -> Decoded:
    """Explain a register's value; the kind is its name in lower case."""
    name = NAMES[kind]
    value = REGISTERS[name].layout.decode(raw)
    what = (type(value).__doc__ or name).split("\n")[0].rstrip(".")
    meaning = f"{what}; set: {set_fields(value)}." if set_fields(value) else f"{what}; nothing is set."
    return Decoded(kind, name, value, meaning, (*reserved(value), *_complaints(value)))


def _complaints(value: Descriptor) -> Iterator[str]:
    if isinstance(value, Control):
        if value.DevTblSegEn > MOST_SEGMENT_BITS:
            yield f"DevTblSegEn {value.DevTblSegEn} is reserved; at most {MOST_SEGMENT_BITS} is defined"
        for name in ("DualPPRLogEn", "DualEventLogEn"):
            if not isinstance(getattr(value, name), DualLog):
                yield f"{name} {getattr(value, name)} is reserved"
    if isinstance(value, EFR) and value.HATS == HostLevels.NONE:
        yield "HATS 3 is reserved: host translation is not to be used"
    if isinstance(value, BufferBase) and value.Length < LEAST_LENGTH:
        yield f"Length {value.Length} is reserved; the least is {LEAST_LENGTH} (256 entries)"
