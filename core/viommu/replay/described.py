"""Compares what a recording says of some bytes with what a driver makes of them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from attrs import frozen

from viommu.decoding.naming import field_of, goes_by, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.captures.rows import DescribedRow
    from viommu.drivers import BoundDriver
    from viommu.hookspecs import Decoded
    from viommu.layout import FieldSpec


RESERVED_BIT = "reserved_bit"
"""No field, but a remark of the recorder: the number of a bit that is reserved, and set."""


@frozen
class Misread:
    """Bytes of which a driver says something else than the recording; ``ours`` None: of that size it has none."""

    section: str
    row: DescribedRow
    ours: Decoded | None
    differs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        row, ours = self.row, self.ours
        recorded = {"name": row.name or None, "raw": row.raw.hex(), "fields": dict(row.fields) or None}
        shown: dict[str, Any] = {
            "section": self.section,
            "row": row.number,
            "differs": list(self.differs),
            "recorded": {name: value for name, value in recorded.items() if value is not None},
        }
        if ours is None:
            return shown | {"ours": None}
        return shown | {
            "ours": {"name": ours.name, "raw": ours.descriptor.encode().hex(), "descriptor": repr(ours.descriptor)}
        }


def read_as(driver: BoundDriver, kind: str, row: DescribedRow) -> tuple[Decoded | None, tuple[str, ...]]:
    """Have a driver explain recorded bytes: (what it says, what differs). Raises DriverBug."""
    if len(row.raw) not in driver.kinds()[kind]:
        return None, ("size",)
    decoded = driver.decode(kind, row.raw)
    return decoded, tuple(_differences(row, decoded))


def _differences(row: DescribedRow, decoded: Decoded) -> Iterator[str]:
    if decoded.descriptor.encode() != row.raw:
        yield "bytes"
    if row.name and not goes_by(decoded, row.name):
        yield "name"
    for name, value in row.fields.items():
        if not _same_field(row, decoded, name, value):
            yield f"field {name}"


def _same_field(row: DescribedRow, decoded: Decoded, name: str, value: int | str) -> bool:
    """Compare one field. One that these bytes do not have was recorded as 0; a name may also be that of the whole.

    A recorder may also remark which reserved bit is set.
    """
    spec = field_of(decoded, name)
    if spec is None and name == RESERVED_BIT and isinstance(value, int):
        return 0 <= value < decoded.descriptor.width and bool(int(decoded.descriptor.reserved_set) >> value & 1)
    if isinstance(value, str):
        ours = None if spec is None else spec.take(int(decoded.descriptor))
        return goes_by(decoded, value) or (isinstance(ours, IntEnum) and plain(ours.name) == plain(value))
    if spec is None:
        return value == 0
    return not (value ^ spec.take(int(decoded.descriptor))) & _counted(row, spec)


def _counted(row: DescribedRow, spec: FieldSpec) -> int:
    """Bits of a field's value that the row's mask counts; all above the field, which must be 0."""
    whole = (1 << 8 * len(row.raw)) - 1
    mask = whole if row.mask is None else int.from_bytes(row.mask, "little")
    return int(spec.take(mask)) | ~((1 << spec.maximum.bit_length()) - 1)
