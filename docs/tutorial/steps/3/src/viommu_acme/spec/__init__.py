"""Bit layouts as the specification prints them, and nothing else: to be held beside it, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_acme.spec.commands import (
    COMMANDS,
    MEANINGS,
    Command,
    ForgetAll,
    ForgetDevice,
    ForgetDomain,
    ForgetPages,
    Op,
)
from viommu_acme.spec.page_tables import PTE
from viommu_acme.spec.registers import CTRL, DTBASE, INDEX, OFFSETS, REGISTERS, RING, STATUS
from viommu_acme.spec.structures import DTE, Event, EventCode, Mode

if TYPE_CHECKING:
    from viommu.layout import Descriptor

__all__ = [
    "COMMANDS",
    "CTRL",
    "DTBASE",
    "DTE",
    "INDEX",
    "LAYOUTS",
    "MEANINGS",
    "OFFSETS",
    "PTE",
    "REGISTERS",
    "RING",
    "STATUS",
    "STRUCTURES",
    "Command",
    "Event",
    "EventCode",
    "ForgetAll",
    "ForgetDevice",
    "ForgetDomain",
    "ForgetPages",
    "Mode",
    "Op",
]

STRUCTURES: tuple[type[Descriptor], ...] = (DTE, Event, PTE, *COMMANDS.values())

LAYOUTS: dict[str, type[Descriptor]] = {
    **{name: register.layout for name, register in REGISTERS.items()},
    **{layout.__name__: layout for layout in STRUCTURES},
}
"""By the specification's names, as `viommu_layouts` gives them."""
