"""Registers that programs have mapped: shared memory, and who still maps it."""

from __future__ import annotations

import os
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from viommu.objects.mmap import Region, RegisterMapping


@define(eq=False)
class _Mapped:
    mapping: RegisterMapping
    inode: int
    maker: object
    """Who was answered last, and may still be about to map it; None: whoever has it has it now."""


class Mappings:
    """All of them. No call tells of munmap, fork or exit: the kernel's lists of mappings are looked at instead."""

    def __init__(self) -> None:
        """Begin with none."""
        self._mapped: dict[Region, _Mapped] = {}
        self._lock = RLock()

    def add(self, mapping: RegisterMapping, maker: object) -> int | None:
        """Take one: a descriptor of its memory, the caller's to close; None where registers are no memory.

        ``maker`` is about to map it, until it calls again (`reap`).
        """
        memory: int | None = getattr(mapping.region.registers, "fd", None)
        if memory is None:
            mapping.close()
            return None
        status = os.fstat(memory)
        with self._lock:
            known = self._mapped.get(mapping.region)
            if known is None:
                self._mapped[mapping.region] = _Mapped(mapping, status.st_ino, maker)
            else:
                known.maker = maker
                mapping.close()
        return os.dup(memory)

    def reap(self, pids: Callable[[], Iterable[int]], caller: object = None) -> None:
        """Close the mappings that no process has any more. ``caller`` calls again, or is gone.

        ``pids`` is asked for processes only where there is a mapping: mostly there is none.
        """
        with self._lock:
            if not self._mapped:
                return
            inodes = {inode for pid in pids() for inode in _mapped_inodes(pid)}
            for region, mapped in tuple(self._mapped.items()):
                if mapped.maker is caller:
                    mapped.maker = None
                if mapped.maker is None and mapped.inode not in inodes:
                    del self._mapped[region]
                    mapped.mapping.close()


def _mapped_inodes(pid: int) -> set[int]:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123
            return {int(line.split(maxsplit=5)[4]) for line in maps}
    except OSError:
        return set()
