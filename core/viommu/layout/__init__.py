"""Bit layouts, stated once, as a specification prints them: name, high bit, low bit, value set, shift."""

from __future__ import annotations

from viommu.layout.descriptor import Descriptor
from viommu.layout.fields import Bit, Bits, Field, FieldSpec, Ignored, Split, range_text

__all__ = ["Bit", "Bits", "Descriptor", "Field", "FieldSpec", "Ignored", "Split", "range_text"]
