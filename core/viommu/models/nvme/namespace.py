"""The blocks of a namespace."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define

from viommu.errors import BadValue

if TYPE_CHECKING:
    from typing import Self

BLOCK = 512


@define(eq=False)
class Namespace:
    """Blocks of 512 bytes, in memory or in a file."""

    blocks: int
    _store: mmap.mmap

    @classmethod
    def of_memory(cls, size: int) -> Self:
        """Make one of zeros; memory is taken as it is written."""
        return cls(size // BLOCK, mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    @classmethod
    def of_file(cls, path: str) -> Self:
        """Make one of a file's blocks; what is left over at its end is not shown. Raises OSError, BadValue."""
        with Path(path).open("r+b") as file:
            blocks = os.fstat(file.fileno()).st_size // BLOCK
            if not blocks:
                raise BadValue("file of nvme", path, f"at least {BLOCK} bytes long")
            return cls(blocks, mmap.mmap(file.fileno(), blocks * BLOCK))

    def holds(self, block: int, count: int) -> bool:
        """Say whether blocks are there."""
        return block + count <= self.blocks

    def read(self, block: int, count: int) -> bytes:
        """Read blocks."""
        return self._store[block * BLOCK : (block + count) * BLOCK]

    def write(self, block: int, data: bytes) -> None:
        """Write blocks."""
        self._store[block * BLOCK : block * BLOCK + len(data)] = data

    def flush(self) -> None:
        """Let a file have what was written."""
        self._store.flush()
