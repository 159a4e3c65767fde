"""Vectorised decode: raw entries into one NumPy column for each field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from viommu.layout.fields import FieldSpec


def decode(
    owner: str, fields: Mapping[str, FieldSpec], size: int, raw: NDArray[np.uint8]
) -> dict[str, NDArray[np.uint64]]:
    """Do what `Descriptor.columns` promises, for a layout of ``size`` bytes."""
    if raw.dtype != np.uint8 or raw.ndim != 2 or raw.shape[1] != size:
        raise ValueError(f"{owner}.columns: the array is {raw.dtype} {raw.shape}, not uint8 (n, {size})")
    words = _words(raw)
    return {name: _column(spec, words) for name, spec in fields.items()}


def _words(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """See the entries as rows of 64-bit words, the last one padded with zeros."""
    padding = -raw.shape[1] % 8
    if padding:
        raw = np.pad(raw, ((0, 0), (0, padding)))
    return np.ascontiguousarray(raw).view("<u8").astype(np.uint64, copy=False)


def _column(spec: FieldSpec, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    column = np.zeros(len(words), np.uint64)
    for low, mask, position in spec.slices:
        column |= (_from(words, low, mask.bit_length()) & np.uint64(mask)) << np.uint64(position)
    return column


def _from(words: NDArray[np.uint64], low: int, bits: int) -> NDArray[np.uint64]:
    """At least ``bits`` bits from bit ``low`` on; they may straddle two words."""
    word, offset = divmod(low, 64)
    found: NDArray[np.uint64] = words[:, word] >> np.uint64(offset)
    if offset + bits > 64:
        found |= words[:, word + 1] << np.uint64(64 - offset)
    return found
