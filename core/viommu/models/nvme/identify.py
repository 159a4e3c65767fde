"""What the controller says of itself and of its namespace."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu.models.nvme.namespace import Namespace

BYTES = 4096
VENDOR, DEVICE = 0x1B36, 0x0010
VERSION = 0x00010400
MAX_TRANSFER_LG2 = 5
"""Pages that one command moves at most, as a power of two."""
BLOCK_LG2 = 9
EUI64 = 0x0200_0056_494F_4D55
NAMESPACES, CONTROLLER, ACTIVE, DESCRIPTORS = 0, 1, 2, 3
EUI64_DESCRIPTOR = 1


def identify(cns: int, nsid: int, namespace: Namespace) -> bytes | None:
    """Give the structure of this number; None where there is none."""
    if cns == CONTROLLER:
        return _controller()
    if cns == ACTIVE:
        return _padded(struct.pack("<I", 1) if nsid < 1 else b"")
    if cns == NAMESPACES and nsid in {1, 0xFFFFFFFF}:
        return _namespace(namespace)
    if cns == DESCRIPTORS and nsid == 1:
        return _padded(struct.pack(">BBHQ", EUI64_DESCRIPTOR, 8, 0, EUI64))
    return None


def _padded(raw: bytes | bytearray) -> bytes:
    return bytes(raw).ljust(BYTES, b"\0")


def _controller() -> bytes:
    raw = bytearray(BYTES)
    struct.pack_into(
        "<HH20s40s8s", raw, 0, VENDOR, VENDOR, b"viommu".ljust(20), b"viommu NVMe".ljust(40), b"1".ljust(8)
    )
    raw[77] = MAX_TRANSFER_LG2
    struct.pack_into("<I", raw, 80, VERSION)
    raw[258], raw[259] = 3, 3  # aborts and asynchronous events at a time, less one
    raw[512], raw[513] = 0x66, 0x44  # sizes of commands and completions
    struct.pack_into("<I", raw, 516, 1)
    struct.pack_into("<H", raw, 520, 1 << 3)  # write zeroes
    struct.pack_into("<256s", raw, 768, b"nqn.2026-01.org.viommu:nvme")
    return bytes(raw)


def _namespace(namespace: Namespace) -> bytes:
    raw = bytearray(BYTES)
    struct.pack_into("<QQQ", raw, 0, namespace.blocks, namespace.blocks, namespace.blocks)
    struct.pack_into(">Q", raw, 120, EUI64)
    struct.pack_into("<I", raw, 128, BLOCK_LG2 << 16)
    return bytes(raw)
