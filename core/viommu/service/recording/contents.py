"""What files held that devices were given when a recording began: it can be repeated where they are not, or changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.service.config import MachineConfig

PIECE = 1 << 20
"""Bytes of a file that one line holds."""
MOST_KEPT = 64 << 20
"""Bytes of a file, zeros left out, that are kept; of one that holds more, only the digest."""


def contents_of(config: MachineConfig) -> Iterator[dict[str, Any]]:
    """Give the lines that tell what a machine's files hold. Raises OSError."""
    named = (Path(value) for plug in config.devices for value in plug.options.values())
    for path in sorted({path for path in named if is_file(path)}):
        yield _head(path)
        kept = 0
        for at, data in _pieces(path):
            kept += len(data)
            if kept > MOST_KEPT:
                yield {"content": str(path), "cut": True}
                break
            yield {"content": str(path), "at": at, "data": data.hex()}


def is_there(path: Path) -> bool:
    """Say whether there is something at a path; an option's value need not be a path at all."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Say whether a regular file is at a path."""
    return is_there(path) and path.is_file()


def digest_of(path: Path) -> str:
    """Give the SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _head(path: Path) -> dict[str, Any]:
    return {"content": str(path), "size": path.stat().st_size, "sha256": digest_of(path)}


def _pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    """Give what is not zero, and where."""
    with path.open("rb") as file:
        at = 0
        while data := file.read(PIECE):
            if data.strip(b"\0"):
                yield at, data
            at += len(data)
