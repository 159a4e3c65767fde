"""Where a rerun differs from its recording, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from viommu.service.names import field_at, name_of_file, name_of_ioctl, name_of_place, told_result
from viommu.service.nodes import name_of
from viommu.service.recording.events import What
from viommu.service.recording.stores import MOST_KEPT
from viommu.vfio.uapi import IRQS, Irq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.iommufd.user_memory import UserFile
    from viommu.service.recording.events import Event, Outcome
    from viommu.service.recording.stores import Stored

ABOUT_A_PLACE = {What.READ: 3, What.WRITE: 3, What.LOAD: 1, What.STORE: 1}
"""Which of the words of the question is the position in the file."""
SHOWN_BYTES = 16


@frozen
class Difference:
    """The first one. ``record`` counts events from 1; ``at`` is seconds since the recording began."""

    record: int
    at: float
    call: str
    program: str
    field: str
    recorded: str
    now: str
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as the command prints it."""
        return asdict(self)


@frozen
class Found:
    """One thing that differs within an event."""

    field: str
    recorded: str
    now: str


def told_event(event: Event, file: UserFile | None, devices: Sequence[str]) -> str:
    """Say what an event is, in a few words. ``file`` is the one that it is about."""
    first = event.words[0] if event.words else 0
    match event.what:
        case What.OPEN:
            return f"open of {name_of(first)}"
        case What.IOCTL:
            return name_of_ioctl(event.words[1], file)
        case What.WORK:
            return f"work of device {devices[first]}"
        case What.CLOSE:
            return f"last close of {name_of_file(file)}"
        case What.UNMAP:
            return "end of a mapping of registers"
        case What.STORES:
            return "stores to registers that a program has mapped"
    position = ABOUT_A_PLACE.get(event.what)
    place = "" if position is None else name_of_place(file, event.words[position])
    return f"{event.what.value} of {name_of_file(file)}{place}"


def in_results(recorded: Outcome | None, now: Outcome | None, failure: str) -> Found | None:
    """Compare what a call has given."""
    if recorded is None or now is None:
        if recorded is now:
            return None
        return Found("result", _told(recorded, "failed within viommu"), _told(now, failure))
    if recorded.result != now.result:
        return Found("result", told_result(recorded.result), told_result(now.result))
    if recorded.data != now.data:
        return Found("bytes", *_first_bytes(recorded.data, now.data))
    if recorded.words != now.words:
        return Found("rest of the answer", str(recorded.words), str(now.words))
    return None


def in_memory_of_the_caller(
    event: Event, file: UserFile | None, written: Sequence[tuple[int, bytes, bytes]]
) -> Found | None:
    """Compare what was written to the program."""
    for address, recorded, now in written:
        at = _first(recorded, now)
        found = None
        if event.what is What.IOCTL:
            found = field_at(event.words[1], file, address + at - event.words[2])
        if found is None:
            return Found(f"the program's memory at {address + at:#x}", *_first_bytes(recorded, now))
        name, start, end = found
        first, last = max(0, event.words[2] + start - address), event.words[2] + end - address
        return Found(name, _number(recorded[first:last]), _number(now[first:last]))
    return None


def in_stores(recorded: Sequence[Stored], now: Sequence[Stored]) -> Found | None:
    """Compare what the host stored to memory that is mapped for DMA."""
    for before, after in zip(recorded, now, strict=False):
        if before.address != after.address:
            return Found("where the host stores to pinned memory", f"{before.address:#x}", f"{after.address:#x}")
        if before != after:
            return _in_store(before, after)
    if len(recorded) == len(now):
        return None
    extra = recorded[len(now)] if len(recorded) > len(now) else now[len(recorded)]
    told = f"{extra.length} bytes stored"
    both = (told, "nothing") if len(recorded) > len(now) else ("nothing", told)
    return Found(f"pinned memory at {extra.address:#x}", *both)


def _in_store(recorded: Stored, now: Stored) -> Found:
    if max(recorded.length, now.length) > MOST_KEPT:
        told = [f"{store.length} bytes, SHA-256 {store.data.hex()[:SHOWN_BYTES]}..." for store in (recorded, now)]
        return Found(f"pinned memory from {now.address:#x} on", *told)
    at = _first(recorded.data, now.data)
    return Found(f"pinned memory at {now.address + at:#x}", *_first_bytes(recorded.data, now.data))


def in_interrupts(
    recorded: Sequence[tuple[int, int, int]], now: Sequence[tuple[int, int, int]], devices: Sequence[str]
) -> Found | None:
    """Compare interrupts."""
    if list(recorded) == list(now):
        return None
    return Found("interrupts", _told_interrupts(recorded, devices), _told_interrupts(now, devices))


def _told_interrupts(interrupts: Sequence[tuple[int, int, int]], devices: Sequence[str]) -> str:
    told = [
        f"{devices[device] if 0 <= device < len(devices) else device} {_kind(irq)} {vector}"
        for device, irq, vector in interrupts[:SHOWN_BYTES]
    ]
    return ", ".join(told) or "none"


def _kind(irq: int) -> str:
    return Irq(irq).name if 0 <= irq < IRQS else str(irq)


def _told(outcome: Outcome | None, failure: str) -> str:
    return failure if outcome is None else told_result(outcome.result)


def _first(recorded: bytes, now: bytes) -> int:
    """Find the first byte that differs."""
    pairs = zip(recorded, now, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(recorded), len(now)))


def _first_bytes(recorded: bytes, now: bytes) -> tuple[str, str]:
    at = _first(recorded, now)
    return _shown(recorded[at:]), _shown(now[at:])


def _shown(data: bytes) -> str:
    if not data:
        return "nothing"
    return data[:SHOWN_BYTES].hex(" ") + (" ..." if len(data) > SHOWN_BYTES else "")


def _number(data: bytes) -> str:
    return hex(int.from_bytes(data, "little")) if 0 < len(data) <= 8 else _shown(data)
