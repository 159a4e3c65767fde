"""VFIO's structures as its ioctls take them: they begin with their own size, ``argsz``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from viommu.kernel_errors import BadAddress, Invalid

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.iommufd.user_memory import UserProcess

S = TypeVar("S", bound="UapiStruct")


def copied_in(kind: type[S], process: UserProcess, address: int, least: int = 0) -> S:
    """Copy a structure in as far as ``least`` (0: whole), which argsz must reach. Raises BadAddress, Invalid."""
    least = least or kind.total
    raw = process.read(address, least)
    if raw is None:
        raise BadAddress(kind.kernel_name, "argument", address, "a readable structure")
    argsz = int.from_bytes(raw[:4], "little")
    if argsz < least:
        raise Invalid(kind.kernel_name, "argsz", argsz, f"at least {least:#x}")
    return kind.decode(raw.ljust(kind.total, b"\0"))


def put(process: UserProcess, address: int, raw: bytes) -> None:
    """Copy bytes back. Raises BadAddress."""
    if not process.write(address, raw):
        raise BadAddress("VFIO structure", "argument", address, f"{len(raw):#x} writable bytes")
