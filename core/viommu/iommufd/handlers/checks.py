"""The refusals that many handlers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Overflow, Unsupported
from viommu.objects.intervals import U64_MAX

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct


def refuse_flags(cmd: UapiStruct, known: int = 0) -> None:
    """Refuse flags that are not known. Raises Unsupported."""
    flags: int = cmd.__dict__["flags"]
    if flags & ~int(known):  # the complement of an IntFlag has its own flags alone
        raise Unsupported(cmd.kernel_name, "flags", flags, f"of {known:#x}")


def refuse_reserved(cmd: UapiStruct, field: str = "reserved") -> None:
    """Refuse a reserved field that is not zero. Raises Unsupported."""
    value = cmd.__dict__[field]
    if value if isinstance(value, int) else any(value):
        raise Unsupported(cmd.kernel_name, f"__{field}", value, "0")


def refuse_zero(cmd: UapiStruct, field: str) -> None:
    """Refuse a type that is 0. Raises Unsupported."""
    if not cmd.__dict__[field]:
        raise Unsupported(cmd.kernel_name, field, 0, "not 0")


def refuse_max(cmd: UapiStruct, *fields: str) -> None:
    """Refuse the largest number in any of these fields. Raises Overflow."""
    for field in fields:
        if cmd.__dict__[field] == U64_MAX:
            raise Overflow(cmd.kernel_name, field, U64_MAX, "below 2^64 - 1")
