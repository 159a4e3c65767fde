"""Phrases that explanations share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu.layout import Descriptor


def reserved(descriptor: Descriptor) -> tuple[str, ...]:
    """Complain of reserved bits that are set."""
    found = descriptor.reserved_set
    return (f"reserved bits {found:#x} are set",) if found else ()


def title(layout: type) -> str:
    """Give the first sentence of what a layout says of itself."""
    return (layout.__doc__ or layout.__name__).partition("\n")[0]
