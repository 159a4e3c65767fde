"""The kinds of bytes that can be explained, and who explains each."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from viommu_vtd.explain import registers, structures
from viommu_vtd.explain.commands import decode_command
from viommu_vtd.explain.faults import decode_event, decode_page_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.hookspecs import Decoded

    Entry: TypeAlias = tuple[tuple[int, ...], Callable[[bytes], Decoded]]

FORMS = {"fs": "X86", "ss": "VtdSecondStage"}
LEVELS = 5

_PTES: Mapping[str, tuple[str, int]] = {
    f"pte-{stage}-l{level + 1}": (form, level) for stage, form in FORMS.items() for level in range(LEVELS)
}
"""Levels are the specification's: 1 holds the smallest pages."""

_DECODERS: Mapping[str, Entry] = MappingProxyType(
    {
        "command": ((16, 32), decode_command),
        "event": ((16,), decode_event),
        "page-request": ((32,), decode_page_request),
        "root-entry": ((16,), structures.decode_root),
        "scalable-root-entry": ((16,), structures.decode_scalable_root),
        "context-entry": ((16,), structures.decode_context),
        "scalable-context-entry": ((32,), structures.decode_scalable_context),
        "pasid-directory-entry": ((8,), structures.decode_pasid_directory),
        "pasid-entry": ((64,), structures.decode_pasid),
        "irte": ((16,), structures.decode_irte),
    }
    | {kind: ((8,), partial(structures.decode_pte, kind, form, level)) for kind, (form, level) in _PTES.items()}
    | {
        name.lower(): ((layout.size,), partial(registers.decode_register, name))
        for name, layout in registers.LAYOUTS.items()
    }
)

KINDS: Mapping[str, tuple[int, ...]] = MappingProxyType({kind: sizes for kind, (sizes, _) in _DECODERS.items()})
"""Kind -> its sizes in bytes."""


def decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes of a kind and size that `KINDS` has."""
    return _DECODERS[kind][1](raw)
