"""The kinds of bytes that can be explained, and who explains each."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from viommu.formats import entry_layout
from viommu.hookspecs import Decoded

from viommu_riscv.explain.commands import decode_command
from viommu_riscv.explain.records import decode_fault, decode_page_request
from viommu_riscv.explain.words import reserved, title
from viommu_riscv.spec import msi, registers
from viommu_riscv.spec.directories import DeviceContext, DirectoryEntry, ExtendedDeviceContext, ProcessContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.layout import Descriptor

    Entry: TypeAlias = tuple[tuple[int, ...], Callable[[bytes], Decoded]]

LEVELS = 5


def _structure(kind: str, layout: type[Descriptor], raw: bytes) -> Decoded:
    found = layout.decode(raw)
    return Decoded(kind, layout.__name__, found, title(layout), reserved(found))


def _device_context(raw: bytes) -> Decoded:
    layout = DeviceContext if len(raw) == DeviceContext.size else ExtendedDeviceContext
    return _structure("device-context", layout, raw)


def _msi_pte(raw: bytes) -> Decoded:
    is_file = msi.BasicMsiPte.decode(raw).M == msi.MsiMode.MRIF
    return _structure("msi-pte", msi.MrifMsiPte if is_file else msi.BasicMsiPte, raw)


def _pte(kind: str, level: int, raw: bytes) -> Decoded:
    layout = entry_layout("Riscv", "fault", level, int.from_bytes(raw, "little"))
    assert layout is not None  # noqa: S101 - the engine has the format
    return _structure(kind, layout, raw)


_STRUCTURES: dict[str, Entry] = {
    "command": ((16,), decode_command),
    "event": ((32,), decode_fault),
    "page-request": ((16,), decode_page_request),
    "directory-entry": ((8,), partial(_structure, "directory-entry", DirectoryEntry)),
    "device-context": ((32, 64), _device_context),
    "process-context": ((16,), partial(_structure, "process-context", ProcessContext)),
    "msi-pte": ((16,), _msi_pte),
}
_TABLES: dict[str, Entry] = {f"pte-l{level}": ((8,), partial(_pte, f"pte-l{level}", level)) for level in range(LEVELS)}
_REGISTERS: dict[str, Entry] = {
    name.lower(): ((layout.size,), partial(_structure, name.lower(), layout))
    for name, (_, layout) in registers.LAYOUTS.items()
}
_DECODERS: Mapping[str, Entry] = MappingProxyType(_STRUCTURES | _TABLES | _REGISTERS)

KINDS: Mapping[str, tuple[int, ...]] = MappingProxyType({kind: sizes for kind, (sizes, _) in _DECODERS.items()})
"""Kind -> its sizes in bytes. Levels of page tables count as in the specification: 0 holds the smallest pages."""


def decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes of a kind and size that `KINDS` has."""
    return _DECODERS[kind][1](raw)
