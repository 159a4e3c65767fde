"""The installed VT-d driver, driven as a machine drives it."""

from __future__ import annotations

import mmap

import pytest

from plugins.vtd.tests.guest import RAM, RAM_SIZE, USED, A, D, Guest, R, W
from viommu import Iotlb, drivers
from viommu.errors import OutOfRange
from viommu.faults import Access, Fault
from viommu.machine import Machine
from viommu.memory import PhysicalMemory
from viommu.translation import Translation
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry

RID = 0x0108
IOVA = 0x40_0000


@pytest.fixture
def guest() -> Guest:
    memory = PhysicalMemory()
    memory.place(RAM, mmap.mmap(-1, RAM_SIZE))
    return Guest(memory)


def machine_of(guest: Guest, iotlb: Iotlb | None = None) -> Machine:
    return Machine("vtd", guest.memory, guest.registers, iotlb=iotlb)


def legacy(guest: Guest, rights: int = R | W, **fields: int) -> tuple[int, int]:
    """Map one page of RAM at IOVA; gives the page, and where its leaf lies."""
    table, page = guest.page(), guest.page()
    guest.legacy(RID, ContextEntry(P=1, AW=2, DID=5, SSPTPTR=table).replace(**fields))
    return page, guest.map(table, 4, IOVA, page | rights)


def test_the_driver_says_what_it_is_and_what_its_structures_look_like() -> None:
    driver = drivers.bind("vtd")

    assert (driver.info.name, driver.info.requester_bits, driver.info.pasid_bits) == ("vtd", 16, 20)
    assert {"RootEntry", "ContextEntry", "PasidTableEntry", "FRCD"} <= driver.layouts().keys()


def test_a_dma_goes_where_the_tables_say(guest: Guest) -> None:
    page, _ = legacy(guest)
    machine = machine_of(guest)

    assert machine.dma_write(RID, IOVA + 0x10, b"through second stage") is None

    assert guest.memory.read(page + 0x10, 20) == b"through second stage"
    assert machine.dma_read(RID, IOVA + 0x10, 20) == b"through second stage"


def test_a_dma_stops_where_a_page_is_missing(guest: Guest) -> None:
    page, _ = legacy(guest)
    machine = machine_of(guest)

    fault = machine.dma_write(RID, IOVA + 0xFFE, b"over")

    assert isinstance(fault, Fault)
    assert machine.report(fault).reason == "0x5"
    assert guest.memory.read(page + 0xFFE, 2) == b"ov"


def test_each_pasid_has_its_own_address_space(guest: Guest) -> None:
    pages = {}
    for pasid in (1, 2):
        table, pages[pasid] = guest.page(), guest.page()
        guest.map(table, 4, IOVA, pages[pasid] | USED | A | D, link=USED)
        entry = PasidTableEntry(P=1, PGTT=1, DID=6, FSPTPTR=table)
        if pasid == 1:
            address = guest.pasid(RID, 1, entry)
        else:
            guest.put(address + PasidTableEntry.size, entry)
    machine = machine_of(guest)

    many = machine.translate_many(RID, [IOVA, IOVA, IOVA], Access.WRITE, [1, 2, 3])

    assert many.pa.tolist()[:2] == [pages[1], pages[2]]
    assert [(row, machine.report(fault).reason) for row, fault in many.faults()] == [(2, "0x59")]
    for pasid in (1, 2):
        found = machine.translate(RID, IOVA, Access.WRITE, pasid)
        assert isinstance(found, Translation)
        assert found.pa == pages[pasid]


def test_a_fault_is_told_or_not_as_the_configuration_that_is_cached_says(guest: Guest) -> None:
    legacy(guest, R, FPD=1)
    machine = machine_of(guest)
    silent = machine.translate(RID, IOVA, Access.WRITE)
    legacy(guest, R)
    still = machine.translate(RID, IOVA, Access.WRITE)
    machine.translator.invalidate_contexts(RID)
    told = machine.translate(RID, IOVA, Access.WRITE)

    assert isinstance(silent, Fault)
    assert isinstance(still, Fault)
    assert isinstance(told, Fault)
    assert [machine.report(fault).outcome for fault in (silent, still, told)] == ["abort", "abort", "fault"]


def test_a_domain_is_what_an_invalidation_forgets(guest: Guest) -> None:
    _, leaf = legacy(guest)
    machine = machine_of(guest, Iotlb())
    before = machine.translate(RID, IOVA)
    guest.put(leaf, 0)

    machine.translator.invalidate_stage2_tag(6)
    assert machine.translate(RID, IOVA) == before
    machine.translator.invalidate_stage2_tag(5)

    assert isinstance(machine.translate(RID, IOVA), Fault)


def test_an_explained_walk_shows_every_structure(guest: Guest) -> None:
    table = guest.page()
    guest.pasid(RID, 0x45, PasidTableEntry(P=1, PGTT=2, AW=2, DID=5, SSPTPTR=table))
    guest.map(table, 4, IOVA, 0x5000 | R)

    told = machine_of(guest).explain(RID, IOVA, Access.READ, 0x45).to_json()

    read = [step["structure"] for step in told["configuration"] if "structure" in step]
    assert read == ["ScalableRootEntry", "ScalableContextEntry", "PasidDirectoryEntry", "PasidTableEntry"]


@pytest.mark.parametrize(("requester", "pasid"), [(0x1_0000, None), (RID, 1 << 20)])
def test_what_does_not_exist_is_refused_before_hardware_is_asked(
    guest: Guest, requester: int, pasid: int | None
) -> None:
    with pytest.raises(OutOfRange):
        machine_of(guest).translate(requester, 0, Access.READ, pasid)


def sanitized(guest: Guest) -> Machine:
    return Machine("vtd", guest.memory, guest.registers, iotlb=Iotlb(), sanitize=True)


def cures(machine: Machine) -> list[str]:
    assert machine.sanitizer is not None
    return [use.cure for use in machine.sanitizer.reports]


def test_the_sanitizer_names_the_descriptor_that_would_have_been_enough(guest: Guest) -> None:
    guest.cap = guest.cap.replace(PSI=1, MAMV=18)
    _, leaf = legacy(guest)
    machine = sanitized(guest)
    machine.translate(RID, IOVA)
    guest.memory.store(leaf, 0)

    machine.translate(RID, IOVA)

    assert cures(machine) == [f"IOTLB invalidate (type 2): G=3, DID=5, ADDR={IOVA:#x}, AM=0"]


def test_of_a_pasid_it_names_the_pasid_and_of_an_entry_the_cache_that_holds_it(guest: Guest) -> None:
    guest.ecap = guest.ecap.replace(DT=1)
    table, page = guest.page(), guest.page()
    leaf = guest.map(table, 4, IOVA, page | USED | A | D, link=USED)
    entry = guest.pasid(RID, 7, PasidTableEntry(P=1, PGTT=1, DID=6, FSPTPTR=table))
    machine = sanitized(guest)
    machine.translate(RID, IOVA, pasid=7)
    guest.memory.store(leaf, page | USED | A | D | 1 << 63)
    machine.translate(RID, IOVA, pasid=7)
    guest.memory.store(entry, 0)
    machine.translate(RID, IOVA, pasid=7)

    assert cures(machine) == [
        f"PASID-based IOTLB invalidate (type 6): G=3, DID=6, PASID=0x7, ADDR={IOVA:#x}, AM=0",
        (
            "PASID-cache invalidate (type 7): G=1, DID=6, PASID=0x7; where the context entry changed,"
            f" context-cache invalidate (type 1): G=3, SID={RID:#x}"
        ),
    ]
