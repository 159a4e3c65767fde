"""What every explanation needs words for."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu.layout import Descriptor


def device(device_id: int) -> str:
    """Write a DeviceID as PCI tools do."""
    return f"device {device_id >> 8:02x}:{device_id >> 3 & 0x1F:02x}.{device_id & 7}"


def rights(*, read: int, write: int) -> str:
    """Say what is granted."""
    return {(0, 0): "no access", (1, 0): "reads", (0, 1): "writes", (1, 1): "reads and writes"}[int(read), int(write)]


def span(start: int, last: int) -> str:
    """Write a range of addresses; all of them by that name."""
    return "all addresses" if (start, last) == (0, (1 << 64) - 1) else f"{start:#x} to {last:#x}"


def reserved(descriptor: Descriptor, mask: int | None = None) -> tuple[str, ...]:
    """Complain of reserved bits that are set. ``mask`` None: those of the layout."""
    found = int(descriptor) & (descriptor.reserved_mask if mask is None else mask)
    return (f"reserved bits are set: {found:#x}",) if found else ()


def set_fields(descriptor: Descriptor) -> str:
    """Name the fields that are not zero, with their values where they are no single bits."""
    told = []
    for name, spec in descriptor.fields.items():
        value = spec.take(int(descriptor))
        if value:
            told.append(name if spec.bits == 1 else f"{name} {_value(value)}")
    return ", ".join(told)


def _value(value: int) -> str:
    return value.name if isinstance(value, IntEnum) else f"{value:#x}"
