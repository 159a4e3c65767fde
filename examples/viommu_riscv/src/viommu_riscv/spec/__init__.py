"""Bit layouts, as the specifications print them. `LAYOUTS` has them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_riscv.spec import commands, directories, msi, records, registers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

_REGISTERS: tuple[type[Descriptor], ...] = tuple(dict.fromkeys(layout for _, layout in registers.LAYOUTS.values()))

_STRUCTURES: tuple[type[Descriptor], ...] = (
    directories.DirectoryEntry,
    directories.DeviceContext,
    directories.ExtendedDeviceContext,
    directories.ProcessContext,
    msi.BasicMsiPte,
    msi.MrifMsiPte,
    *commands.GROUPS.values(),
    commands.InvalidationPayload,
    commands.ResponsePayload,
    records.FaultRecord,
    records.PageRequestRecord,
)

LAYOUTS: Mapping[str, type[Descriptor]] = {layout.__name__: layout for layout in (*_REGISTERS, *_STRUCTURES)}
