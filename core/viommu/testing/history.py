"""Histories of two address spaces and a device: what a machine does, beside plain dicts that say what it has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from viommu.testing.rule import expect
from viommu.testing.tables import PAGE
from viommu.testing.worlds import TAG_BYTES, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas
    from viommu.testing.worlds import Host

LARGE_PAGES = 512
SPAN = 2 * LARGE_PAGES
"""Pages of IOVAs (`viommu.testing.room.NEEDED` bytes); memory has a large page more."""
MEMORY_PAGES = SPAN + LARGE_PAGES
LOOKED_AT = tuple(sorted({*range(10), *range(LARGE_PAGES - 3, LARGE_PAGES + 4), SPAN - 1}))
"""Pages that are read after each step."""


@frozen
class Map:
    """Map ``count`` pages of memory from ``offset`` on, unless something is mapped there."""

    space: int
    place: int
    count: int
    offset: int
    write: bool


@frozen
class Unmap:
    """Unmap the area that a page belongs to, if any."""

    space: int
    place: int


@frozen
class Govern:
    """Let a space govern a PASID (0: requests without), or nothing (None)."""

    pasid: int
    space: int | None


Step: TypeAlias = Map | Unmap | Govern


@define(eq=False)
class History:
    """Two spaces, each an IOAS with a page table. ``areas``: by space and first page: (pages, offset, writable)."""

    world: Host
    device: Device
    spaces: list[Ioas]
    tables: list[Hwpt]
    memory: NDArray[np.uint8]
    areas: list[dict[int, tuple[int, int, bool]]] = field(factory=lambda: [{}, {}])
    governed: dict[int, int] = field(factory=dict)
    """Spaces by PASID."""
    told: list[str] = field(factory=list)

    @classmethod
    def of(cls, world: Host, *, pasid: bool) -> History:
        """Begin with nothing mapped, and nothing attached."""
        device, spaces = world.device(), [world.iommu.ioas_alloc() for _ in range(2)]
        memory = world.machine.buffer(MEMORY_PAGES * PAGE)
        for page in range(MEMORY_PAGES):
            memory[page * PAGE : page * PAGE + TAG_BYTES] = list(tag(page + 1))
        return cls(world, device, spaces, [ioas.hwpt_alloc(device, pasid=pasid) for ioas in spaces], memory)

    def run(self, steps: Sequence[Step]) -> None:
        """Take steps, and look after each."""
        for step in steps:
            self.told.append(repr(step))
            if isinstance(step, Map):
                self.map(step)
            elif isinstance(step, Unmap):
                self.unmap(step)
            else:
                self.govern(step)
            self.look(repr(step))

    def map(self, step: Map) -> None:
        """Map, where there is room."""
        end = step.place + step.count
        taken = [
            first
            for first, (count, _, _) in self.areas[step.space].items()
            if first < end and first + count > step.place
        ]
        if taken or end > SPAN:
            return
        part = self.memory[step.offset * PAGE : (step.offset + step.count) * PAGE]
        self.spaces[step.space].map(part, self.world.base + step.place * PAGE, write=step.write)
        self.areas[step.space][step.place] = (step.count, step.offset, step.write)

    def unmap(self, step: Unmap) -> None:
        """Unmap a whole area."""
        for first, (count, _, _) in tuple(self.areas[step.space].items()):
            if first <= step.place < first + count:
                done = self.spaces[step.space].unmap(self.world.base + first * PAGE, count * PAGE)
                expect(done == count * PAGE, f"an unmap of {count} pages says {done:#x} bytes")
                del self.areas[step.space][first]

    def govern(self, step: Govern) -> None:
        """Attach, replace or detach."""
        if step.space is None:
            self.device.detach(pasid=step.pasid)
            self.governed.pop(step.pasid, None)
            return
        act = self.device.replace if step.pasid in self.governed else self.device.attach
        act(self.tables[step.space], pasid=step.pasid)
        self.governed[step.pasid] = step.space

    def look(self, when: str) -> None:
        """Read and write pages by DMA, and hold what comes of it against the dicts."""
        for pasid in {0, *self.governed}:
            for place in LOOKED_AT:
                wanted = self._wanted(pasid, place)
                self._look_at(when, pasid, place, wanted)

    def _wanted(self, pasid: int, place: int) -> tuple[int, bool] | None:
        """(page of memory, whether it may be written)."""
        space = self.governed.get(pasid)
        for first, (count, offset, write) in ({} if space is None else self.areas[space]).items():
            if first <= place < first + count:
                return offset + place - first, write
        return None

    def _look_at(self, when: str, pasid: int, place: int, wanted: tuple[int, bool] | None) -> None:
        iova, sent = self.world.base + place * PAGE, pasid or None
        found = self.device.dma_read(iova, TAG_BYTES, sent)
        page = int.from_bytes(found, "little") - 1 if isinstance(found, bytes) else None
        expect(
            page == (None if wanted is None else wanted[0]),
            f"{when}: a read of IOVA {iova:#x}{'' if sent is None else f' of PASID {sent}'} "
            f"{'is refused' if page is None else f'comes to page {page}'}, where "
            f"{'nothing' if wanted is None else f'page {wanted[0]}'} is mapped",
            history=lambda: "\n".join(self.told),
            walk=lambda: str(self.world.machine.explain(self.device.endpoint.requester, iova, pasid=sent)),
        )
        written = self.device.dma_write(iova + TAG_BYTES, b"w", sent) is None
        expect(
            written == (wanted is not None and wanted[1]),
            f"{when}: a write to IOVA {iova:#x} {'goes through' if written else 'is refused'}, where it is mapped "
            f"{'not at all' if wanted is None else 'writable' if wanted[1] else 'read-only'}",
            history=lambda: "\n".join(self.told),
        )
