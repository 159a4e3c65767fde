"""NST-008: what tells a guest that its commands are done is stored where the guest may write, and nowhere else."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.testing.rule import Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import BASE, GUEST_BYTES, IOVA, guest

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, GuestSpace

    Way = Callable[[int], object]

VALUE, READ_ONLY = 0x1234_5678, BASE + GUEST_BYTES


@rule(
    "NST-008",
    "A completion store of a guest's command comes to the guest's memory, and never to memory that the IOAS maps "
    "read-only.",
    source="IOMMU_IOAS_MAP_READABLE without WRITEABLE; viommu_invalidate, viommu_hw_queue_init",
    needs=(Need.NESTING, Need.FENCES),
)
def stores_need_rights(subject: Subject) -> str:
    """Ask for a store by a call and by a queue: to a page of the guest's, then to one that it may only read."""
    with guest(subject) as one:
        space, memory = one.attached(), one.host.machine.buffer(PAGE)
        space.tables.map(IOVA, one.page())
        try:
            one.ioas.map(memory, READ_ONLY, write=False)
        except KernelError as error:
            note = f"nesting parents take nothing read-only: {error}"
        else:
            note = ""
        for name, store in _ways(one, space).items():
            at = one.take()
            store(at)
            found = int.from_bytes(one.read(at, 4), "little")
            expect(found == VALUE, f"by {name}, {found:#x} is stored, where the guest asked for {VALUE:#x}")
            with suppress(KernelError):  # refused, or lost: both are answers
                store(READ_ONLY)
            expect(not memory.any(), f"by {name}, a guest's store comes to memory that the IOAS maps read-only")
            expect(space.reaches(IOVA) is not None, f"after a store by {name} that is not to be, DMA is refused")
        return note


def _ways(one: Guest, space: GuestSpace) -> dict[str, Way]:
    """Give what can be asked for a store to an address, by name."""
    found: dict[str, Way] = {}
    fences = one.subject.kit.fences
    assert fences is not None  # noqa: S101 - a rule that needs FENCES has it
    if fences.request(BASE, VALUE) is not None:
        found["a call"] = lambda at: _call(one, space, at)
    if one.subject.nesting.queues is not None and fences.command(BASE, VALUE) is not None:
        found["a queue"] = _Queued(one)
    return found


def _call(one: Guest, space: GuestSpace, address: int) -> None:
    request = one.subject.kit.fences.request(address, VALUE) if one.subject.kit.fences is not None else None
    assert request is not None, "GuestKit.fences gives a request for some addresses alone"  # noqa: S101
    target = space.hwpt if one.viommu is None else one.viommu
    target.invalidate([request], data_type=space.space.request_type)


class _Queued:
    """Stores that a queue is asked for, one after the other."""

    def __init__(self, one: Guest) -> None:
        self._queue, self._fences, self._tail = one.queue(), one.subject.kit.fences, 0

    def __call__(self, address: int) -> None:
        command = self._fences.command(address, VALUE) if self._fences is not None else None
        assert command is not None, "GuestKit.fences gives a command for some addresses alone"  # noqa: S101
        self._queue.write(self._tail, command)
        self._tail += 1
        self._queue.ring(self._tail)
