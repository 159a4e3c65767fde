"""NST: a guest's tables on its host's, held against the kit's own walker and a dict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import frozen
from hypothesis import strategies as st

from viommu.faults import Access
from viommu.testing.rule import Inapplicable, Need, expect, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import BASE, GUEST_PAGES, IOVA, guest, tag

if TYPE_CHECKING:
    from viommu.testing.subject import Subject

PLACES = 24
"""Pages of IOVAs that a plan uses, in two tables' reach."""
FAR = 512 - PLACES // 2
"""The first of them, so that they lie on both sides of a table's end."""


@frozen
class Mapping:
    """A guest maps one page: at which place, and whether DMA may write."""

    place: int
    write: bool

    @property
    def iova(self) -> int:
        """Where."""
        return IOVA + (FAR + self.place) * PAGE


MAPPING = st.builds(Mapping, st.integers(0, PLACES - 1), st.booleans())


def _maps(subject: Subject) -> st.SearchStrategy[list[Mapping]]:  # noqa: ARG001
    return st.lists(MAPPING, max_size=12, unique_by=lambda one: one.place)


@rule(
    "NST-001",
    "DMA of a guest's device goes where the guest's table leads, through what the host maps; nowhere else.",
    source="viommu_alloc_nested, viommu_alloc_nested_on, viommu_attach; nested translation",
    needs=(Need.NESTING,),
    plan=_maps,
    examples=50,
)
def guests_tables_lead(subject: Subject, plan: list[Mapping]) -> None:
    """Map pages, and read every place."""
    with guest(subject) as one:
        space = one.attached()
        pages = {mapping.place: one.page() for mapping in plan}
        for mapping in plan:
            space.tables.map(mapping.iova, pages[mapping.place], write=mapping.write)
        for place in range(PLACES):
            iova = Mapping(place, write=True).iova
            found, leaf = space.reaches(iova), space.tables.walk(iova)
            wanted = None if leaf is None else leaf.address
            assert wanted == pages.get(place), "the kit's walker and its dict differ"  # noqa: S101 - a bug of the kit
            expect(
                found == wanted,
                f"IOVA {iova:#x} leads to {_at(found)}, where the guest's table says {_at(wanted)}",
                walk=partial(space.explained, iova),
            )


@rule(
    "NST-002",
    "What a guest maps read-only is not written by DMA.",
    source="nested translation: rights are those of both stages",
    needs=(Need.NESTING,),
    plan=_maps,
    examples=15,
)
def guests_rights_count(subject: Subject, plan: list[Mapping]) -> None:
    """Write to every page."""
    with guest(subject) as one:
        space = one.attached()
        for mapping in plan:
            page = one.page()
            space.tables.map(mapping.iova, page, write=mapping.write)
            leaf = space.tables.walk(mapping.iova)
            before = one.read(page, 16)
            refused = one.device.dma_write(mapping.iova + 8, b"written!", space.space.pasid) is not None
            expect(
                leaf is None or refused != leaf.writable,
                f"a write to {mapping.iova:#x} {'is refused' if refused else 'goes through'}, "
                f"which is mapped {'writable' if mapping.write else 'read-only'}",
                walk=partial(space.explained, mapping.iova),
            )
            expect((one.read(page, 16) == before) == refused, "a refused write changed memory, or another one did not")


@rule(
    "NST-003",
    "A device that is detached, and one that nothing was attached to, reaches nothing.",
    source="viommu_detach, viommu_probe_device, Owes",
    needs=(Need.NESTING,),
)
def detached_reaches_nothing(subject: Subject) -> None:
    """Read before, while, and after."""
    with guest(subject) as one:
        space = one.space()
        space.tables.map(IOVA, one.page())
        expect(space.reaches(IOVA) is None, "DMA goes through before anything is attached")
        space.attach()
        expect(space.reaches(IOVA) is not None, "DMA is refused", walk=lambda: space.explained(IOVA))
        one.device.detach()
        expect(
            not space.translates(IOVA, Access.READ), "DMA goes through after detach", walk=lambda: space.explained(IOVA)
        )


@rule(
    "NST-004",
    "What the host unmaps from a guest's memory is out of reach at once, whatever the guest does or leaves undone.",
    source="PagingDomain.unmap: no translation of it stays cached",
    needs=(Need.NESTING,),
    plan=lambda subject: st.lists(st.integers(0, 7), min_size=1, max_size=6),  # noqa: ARG005
    examples=20,
)
def hosts_unmap_reaches_guests(subject: Subject, plan: list[int]) -> None:
    """Map extra memory piece by piece into the guest's, and unmap it while it is cached."""
    with guest(subject) as one:
        space, extra = one.attached(), BASE + (GUEST_PAGES + 512) * PAGE
        for round_, place in enumerate(plan):
            memory, at, iova = one.host.machine.buffer(PAGE), extra + place * PAGE, IOVA + round_ * PAGE
            memory[:8] = list(tag(round_ + 1))
            one.ioas.map(memory, at)
            space.tables.map(IOVA + round_ * PAGE, at)
            found = space.reaches(IOVA + round_ * PAGE)
            expect(found == round_ + 1, f"it reads {_at(found)}", walk=partial(space.explained, iova))
            one.ioas.unmap(at, PAGE)
            found = space.reaches(IOVA + round_ * PAGE)
            expect(
                found is None,
                f"IOVA {iova:#x} still reaches what the host has unmapped at {at:#x}",
                walk=partial(space.explained, iova),
            )


@rule(
    "NST-005",
    "A replaced address space is used by no access any more.",
    source="viommu_attach, Owes",
    needs=(Need.NESTING,),
    plan=lambda subject: st.lists(st.integers(0, 2), min_size=1, max_size=8),  # noqa: ARG005
    examples=20,
)
def replaced_spaces_are_gone(subject: Subject, plan: list[int]) -> None:
    """Attach three spaces by turns; the same IOVA leads elsewhere in each."""
    with guest(subject) as one:
        spaces = [one.space() for _ in range(3)]
        pages = [one.page() for _ in spaces]
        for space, page in zip(spaces, pages, strict=True):
            space.tables.map(IOVA, page)
        for number in plan:
            if not spaces[number].is_attached:
                spaces[number].attach()
            found = spaces[number].reaches(IOVA)
            expect(
                found == pages[number],
                f"space {number + 1} is attached, and DMA reaches {_at(found)}, not {_at(pages[number])}",
                walk=partial(spaces[number].explained, IOVA),
            )


@rule(
    "NST-006",
    "What the host unmaps from a guest's memory is in no TLB of the guest's device either.",
    source="PagingDomain.unmap: no translation of it stays cached; PCIe ATS",
    needs=(Need.NESTING, Need.ATS),
)
def hosts_unmap_reaches_device_tlbs(subject: Subject) -> None:
    """Have the device keep a translation to memory that the host then takes away."""
    with guest(subject) as one:
        space, extra = one.attached(), BASE + (GUEST_PAGES + 512) * PAGE
        memory = one.host.machine.buffer(PAGE)
        one.ioas.map(memory, extra)
        space.tables.map(IOVA, extra)
        kept = one.device.endpoint.translate_by_ats(IOVA, pasid=space.space.pasid)
        if not hasattr(kept, "pa"):
            raise Inapplicable("a guest's device gets no translations by ATS here")
        one.ioas.unmap(extra, PAGE)
        again = one.device.endpoint.translate_by_ats(IOVA, pasid=space.space.pasid)
        expect(not hasattr(again, "pa"), f"the device's own TLB still gives {again!r}")


@rule(
    "NST-007",
    "A guest's address space that is replaced or detached is in no TLB of the device any more.",
    source="viommu_attach, viommu_detach, Owes; PCIe ATS",
    needs=(Need.NESTING, Need.ATS),
)
def ended_spaces_are_in_no_device_tlb(subject: Subject) -> None:
    """Have IOMMU and device keep a translation, then take the space away, in each way."""
    for replace in (True, False):
        with guest(subject) as one:
            space, other = one.attached(), one.space()
            space.tables.map(IOVA, one.page())
            kept = one.device.endpoint.translate_by_ats(IOVA, pasid=space.space.pasid)
            if not hasattr(kept, "pa"):
                raise Inapplicable("a guest's device gets no translations by ATS here")
            if replace:
                other.attach()
            else:
                one.device.detach()
            how = "replaced" if replace else "detached"
            again = one.device.endpoint.translate_by_ats(IOVA, pasid=space.space.pasid)
            expect(not hasattr(again, "pa"), f"once the space is {how}, the device's own TLB still gives {again!r}")
            expect(not space.translates(IOVA), f"once the space is {how}, DMA goes through it")


def _at(address: int | None) -> str:
    return "nothing" if address is None else f"{address:#x}"
