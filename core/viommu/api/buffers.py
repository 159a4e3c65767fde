"""Memory of this process, as ioctls take it: by address."""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import TYPE_CHECKING, cast

import numpy as np

from viommu.errors import BadValue
from viommu.iommufd.uapi_struct import UapiStruct

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from viommu.backing import BufferLike

    Data: TypeAlias = UapiStruct | BufferLike
    """Driver data: a structure of the uAPI, or bytes."""
    Entries: TypeAlias = Sequence[Data] | NDArray[np.generic]
    """Entries of an array: one after the other, or rows."""


def seen(buffer: BufferLike) -> NDArray[np.uint8]:
    """Look at a buffer as bytes, without a copy. Raises BadValue where it is not contiguous."""
    view = memoryview(cast("Buffer", buffer))  # which a NumPy array is, to Python 3.12 and later
    if not view.c_contiguous:
        raise BadValue("buffer", f"strides {view.strides}", "contiguous")
    return np.frombuffer(view.cast("B") if view.nbytes else b"", np.uint8)


def address_of(data: NDArray[np.uint8]) -> int:
    """Give the address of bytes; whoever uses it keeps them alive."""
    if data.size and data.flags.writeable:
        # Several times as fast as what NumPy offers, which takes any array.
        return addressof(c_char.from_buffer(cast("Buffer", data)))
    return int(data.ctypes.data)


def copied(data: Data | None) -> NDArray[np.uint8]:
    """Copy driver data to where an ioctl may read it and write its answer."""
    if data is None:
        return np.empty(0, np.uint8)
    raw = data.encode() if isinstance(data, UapiStruct) else data
    return seen(raw).copy()


def entries(array: Entries) -> tuple[NDArray[np.uint8], int, int]:
    """Lay out entries of one length after the other: (bytes, length of one, how many). Raises BadValue.

    A NumPy array has an entry in each row; structured, in each element.
    """
    if isinstance(array, np.ndarray):
        count = len(array) if array.ndim else 1
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return raw, (raw.size // count if count else 0), count
    rows = [copied(entry) for entry in array]
    if len({row.size for row in rows}) > 1:
        raise BadValue("entries", sorted({row.size for row in rows}), "of one length")
    return (np.concatenate(rows) if rows else np.empty(0, np.uint8)), (rows[0].size if rows else 0), len(rows)
