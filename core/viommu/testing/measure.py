"""How much a machine keeps: what must be as before once all is given back."""

from __future__ import annotations

import types
from collections import deque
from typing import TYPE_CHECKING

from attrs import frozen

from viommu.memory import PhysicalMemory
from viommu.numbers import LowestFree
from viommu.objects.physical import PhysicalDevice, PhysicalIommu
from viommu.objects.viommu import Viommu
from viommu.table_frames import TableFrames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from viommu.testing.worlds import Host

PASSED_BY = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    PhysicalMemory,
    TableFrames,
    PhysicalIommu,
    PhysicalDevice,
    Viommu,
    str,
    bytes,
    int,
    float,
)
"""What is not the driver's to keep, or has no parts."""


@frozen
class Kept:
    """Bytes of table ``frames`` in use, ``numbers`` that are taken, entries of containers (``parts``), ``objects``."""

    frames: int
    numbers: int
    parts: int
    objects: int

    @classmethod
    def of(cls, world: Host) -> Kept:
        """Measure what a host driver keeps of its instance now."""
        iommu = world.machine.host()
        numbers, parts = _measured(iommu.data)
        return cls(iommu.port.frames.used, numbers, parts, len(list(world.iommu.file.context.table)))

    def grown(self, before: Kept) -> list[str]:
        """Say in words what there is more of than before."""
        pairs = (
            ("bytes of table frames", self.frames, before.frames),
            ("ids", self.numbers, before.numbers),
            ("entries of containers", self.parts, before.parts),
            ("objects", self.objects, before.objects),
        )
        return [f"{now - then} {what} more" for what, now, then in pairs if now > then]


def _measured(root: object) -> tuple[int, int]:
    """Walk what is reachable from a driver's data: (numbers taken, entries of containers)."""
    seen: set[int] = set()
    waiting: deque[object] = deque([root])
    numbers = parts = 0
    while waiting:
        found = waiting.pop()
        if isinstance(found, PASSED_BY) or id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, LowestFree):
            numbers += found.in_use
            continue
        if isinstance(found, deque) and found.maxlen is not None:
            continue  # a log of the newest, which ends by itself
        if isinstance(found, dict | list | set | deque):
            parts += len(found)
        waiting.extend(_parts(found))
    return numbers, parts


def _parts(found: object) -> Iterable[object]:
    if isinstance(found, dict):
        return [*found.keys(), *found.values()]
    if isinstance(found, list | set | tuple | frozenset | deque):
        return list(found)
    return _attributes(found)


def _attributes(found: object) -> Iterator[object]:
    yield from getattr(found, "__dict__", {}).values()
    for kind in type(found).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(found, name):
                yield getattr(found, name)
