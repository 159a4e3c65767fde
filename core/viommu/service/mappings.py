"""Registers that programs have mapped: shared memory, and who still maps it."""

from __future__ import annotations

import os
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.service.course import Course

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from viommu.objects.context import Context
    from viommu.objects.mmap import Region, RegisterMapping


@define(eq=False)
class _Mapped:
    """``memory`` is what programs map, of which ``inode`` tells; ``room``: it is ours, and each access of it traps."""

    mapping: RegisterMapping
    memory: int
    inode: int
    room: bool
    makers: set[object] = field(factory=set)
    """Who was answered, and may still be about to map it."""

    @classmethod
    def of(cls, mapping: RegisterMapping) -> _Mapped:
        """Find memory for a mapping, or room where registers are none. Raises OSError."""
        page = mapping.shared()
        memory: int | None = getattr(mapping.region.registers, "fd", None) if page is None else page.fd
        found = room_of(mapping.region.length) if memory is None else memory
        return cls(mapping, found, os.fstat(found).st_ino, memory is None)

    def close(self) -> None:
        """Nobody maps it any more."""
        if self.room:
            os.close(self.memory)
        self.mapping.close()


class Mappings:
    """All of them. No call tells of munmap, fork or exit: the kernel's lists of mappings are looked at instead.

    ``course`` is told of each that ends.
    """

    def __init__(self, course: Course | None = None) -> None:
        """Begin with none."""
        self._course = course or Course()
        self._mapped: dict[Region, _Mapped] = {}
        self._lock = RLock()

    def add(self, mapping: RegisterMapping, maker: object) -> tuple[int, bool]:
        """Take one: a descriptor of memory to map, the caller's to close, and whether it is only room for registers.

        ``maker`` is about to map it, until it calls again (`called`). Raises OSError, and then there is no mapping.
        """
        region = mapping.region
        with self._lock:
            known = self._mapped.get(region)
            try:
                mapped = known or _Mapped.of(mapping)
            except OSError:
                mapping.close()
                raise
            try:
                memory = os.dup(mapped.memory)
            except OSError:
                (mapping if known else mapped).close()
                raise
            if known is not None:
                mapping.close()
            mapped.makers.add(maker)
            self._mapped[region] = mapped
        return memory, mapped.room

    def find(self, context: Context, position: int) -> tuple[RegisterMapping | None, int]:
        """Give the mapping of what lies at a position of an open file, and the offset within it."""
        region = context.offsets.find(position)
        mapped = None if region is None else self._mapped.get(region)
        return (None, 0) if region is None or mapped is None else (mapped.mapping, position - region.offset)

    def called(self, caller: object) -> None:
        """Take note that somebody calls: what it was about to map is mapped, or never will be."""
        for mapped in tuple(self._mapped.values()) if self._mapped else ():
            mapped.makers.discard(caller)

    def reap(self, pids: Callable[[], Iterable[int]]) -> None:
        """Close the mappings that no process has any more.

        ``pids`` is asked for processes only where there is a mapping: mostly there is none.
        """
        with self._lock:
            if not self._mapped:
                return
            inodes = {inode for pid in pids() for inode in _mapped_inodes(pid)}
            for region, mapped in tuple(self._mapped.items()):
                if not mapped.makers and mapped.inode not in inodes:
                    self.end(region)

    def end(self, region: Region) -> None:
        """Close the mapping of a region, if there is one."""
        with self._lock:
            mapped = self._mapped.pop(region, None)
            if mapped is not None:
                with self._course.unmapping(mapped.mapping):
                    mapped.close()


def room_of(length: int) -> int:
    """Give a descriptor of memory for a program to map where each access is to trap. Raises OSError."""
    memory = os.memfd_create("registers", os.MFD_CLOEXEC)
    try:
        os.ftruncate(memory, length)
    except BaseException:
        os.close(memory)
        raise
    return memory


def _mapped_inodes(pid: int) -> set[int]:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123
            return {int(line.split(maxsplit=5)[4]) for line in maps}
    except OSError:
        return set()
