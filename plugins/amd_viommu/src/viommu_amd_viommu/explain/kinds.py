"""Which kinds of bytes there are, and who explains each."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_amd_viommu.explain import commands, entries, events, registers, structures
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.spec.commands import AnyCommand
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import AnyEvent
from viommu_amd_viommu.spec.gcr3 import GCR3Entry
from viommu_amd_viommu.spec.page_requests import GALogEntry, PPRLogEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.hookspecs import Decoded

PTE_BYTES = 8

_EXPLAINED: Mapping[str, tuple[int, Callable[[str, bytes], Decoded]]] = {
    "command": (AnyCommand.size, commands.explain),
    "event": (AnyEvent.size, events.explain),
    "page-request": (PPRLogEntry.size, structures.page_request),
    "guest-apic-log-entry": (GALogEntry.size, structures.guest_apic_entry),
    "dte": (DTE.size, structures.device_entry),
    "gcr3-entry": (GCR3Entry.size, structures.gcr3_entry),
    "pte-v1": (PTE_BYTES, entries.host_entry),
    **{f"pte-v2-level-{level}": (PTE_BYTES, entries.guest_entry) for level in range(1, entries.GUEST_LEVELS + 1)},
    **{kind: (REGISTERS[name].size, registers.explain) for kind, name in registers.NAMES.items()},
}

KINDS: Mapping[str, tuple[int, ...]] = MappingProxyType({kind: (size,) for kind, (size, _) in _EXPLAINED.items()})
"""Kinds, and the sizes in bytes that each may have."""


def decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes of one of `KINDS`."""
    return _EXPLAINED[kind][1](kind, raw)
