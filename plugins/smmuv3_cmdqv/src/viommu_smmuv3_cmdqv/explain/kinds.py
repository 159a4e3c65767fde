"""The kinds of bytes that can be explained, and who explains each."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.explain import structures
from viommu_smmuv3_cmdqv.explain.cmdqv import decode_cmdqv_register, decode_error_maps, decode_vcmdq_state
from viommu_smmuv3_cmdqv.explain.commands import decode_command
from viommu_smmuv3_cmdqv.explain.events import decode_event
from viommu_smmuv3_cmdqv.explain.registers import decode_register
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import CMDQV_REGISTERS
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.hookspecs import Decoded

_PTES = {f"pte-s{stage}-l{level}": (stage, level) for stage in (1, 2) for level in range(4)}
"""Levels are Arm's: 3 holds pages."""

_DECODERS: Mapping[str, tuple[int, Callable[[bytes], Decoded]]] = MappingProxyType(
    {
        "command": (16, decode_command),
        "event": (32, decode_event),
        "page-request": (16, structures.decode_page_request),
        "ste": (64, structures.decode_ste),
        "cd": (64, structures.decode_cd),
        "l1std": (8, structures.decode_l1std),
        "l1cd": (8, structures.decode_l1cd),
        "cmdqv-error-maps": (24, decode_error_maps),
        "vcmdq-state": (12, decode_vcmdq_state),
    }
    | {kind: (8, partial(structures.decode_pte, kind, *place)) for kind, place in _PTES.items()}
    | {name.lower(): (layout.size, partial(decode_register, name)) for name, (_, layout) in REGISTERS.items()}
    | {layout.__name__.lower(): (layout.size, partial(decode_cmdqv_register, layout)) for layout in CMDQV_REGISTERS}
)

KINDS: Mapping[str, tuple[int, ...]] = MappingProxyType({kind: (size,) for kind, (size, _) in _DECODERS.items()})
"""Kind -> its size in bytes."""


def decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes of a kind and size that `KINDS` has."""
    return _DECODERS[kind][1](raw)
