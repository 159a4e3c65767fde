"""What each invalidation descriptor does, as accesses through the IOTLB show it."""

from __future__ import annotations

import pytest

from plugins.vtd.tests.attached import IOVA, PASID, RID, cc, iotlb, legacy, p_iotlb, pasid_cache, reaches, scalable
from plugins.vtd.tests.guest import USED, A, D
from plugins.vtd.tests.programming import DONE, Software
from viommu.commands import CommandTable
from viommu.faults import Access
from viommu.platform import PageResponse, ResponseCode
from viommu.translation import Translation
from viommu_vtd.hardware.live.command_rules import JUDGES
from viommu_vtd.hardware.live.commands import HANDLERS
from viommu_vtd.spec.command_meanings import CommandAbilities, CommandTables, meanings
from viommu_vtd.spec.commands import (
    COMMANDS,
    WIDE,
    DeviceTlbInvalidate,
    InterruptEntryCacheInvalidate,
    Invalidation,
    InvalidationType,
    InvalidationWait,
    PageGroupResponse,
    PasidDeviceTlbInvalidate,
)
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry

ABLE = CommandAbilities(wide=True, scalable=True, psi=True, mamv=18, pds=True)


def test_every_descriptor_is_described_or_has_a_handler_that_names_fields_it_has() -> None:
    described = meanings(ABLE, CommandTables(CommandTable(), CommandTable())).of
    assert set(HANDLERS) | set(described) == set(COMMANDS) == set(WIDE) == set(InvalidationType)
    assert set(HANDLERS) & set(described) == {InvalidationType.CONTEXT_CACHE, InvalidationType.WAIT}
    assert set(JUDGES) <= set(COMMANDS)
    for kind, (fields, _) in HANDLERS.items():
        assert set(fields) <= COMMANDS[InvalidationType(kind)].fields.keys()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (iotlb(G=1), True),
        (iotlb(G=2, DID=5), True),
        (iotlb(G=2, DID=6), False),
        (iotlb(G=3, DID=5, ADDR=IOVA), True),
        (iotlb(G=3, DID=5, ADDR=IOVA, IH=1, DW=1, DR=1), True),
        (iotlb(G=3, DID=5, ADDR=IOVA + 0x1000), False),
        (iotlb(G=3, DID=5, ADDR=IOVA + 0x3000, AM=2), True),
        (iotlb(G=3, DID=6, ADDR=IOVA, AM=18), False),
        (cc(G=1), False),
        (InterruptEntryCacheInvalidate(Type=4), False),
        (InterruptEntryCacheInvalidate(Type=4, G=1, IIDX=3, IM=15), False),
    ],
)
def test_a_legacy_translation_ends_with_what_covers_it(command: Invalidation, gone: bool, wide: bool) -> None:
    software, leaf = legacy()
    software.command(QIE=0)
    software.enable_queue(wide=wide)
    software.guest.put(leaf, 0)

    software.submit(command)

    assert reaches(software) is not gone
    assert software.read("IQH") == software.read("IQT") == software.width
    assert software.fsts.IQE == 0


@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (cc(G=1), True),
        (cc(G=2, DID=5), True),
        (cc(G=2, DID=6), False),
        (cc(G=3, DID=5, SID=RID), True),
        (cc(G=3, DID=9, SID=RID), True),
        (cc(G=3, DID=5, SID=RID + 1), False),
        (cc(G=3, DID=5, SID=RID + 1, FM=3), True),
        (iotlb(G=1), False),
    ],
)
def test_a_context_entry_ends_with_what_covers_it(command: Invalidation, gone: bool) -> None:
    software, _ = legacy()
    software.guest.legacy(RID, ContextEntry())

    software.submit(command)

    assert reaches(software) is not gone


@pytest.mark.parametrize(
    ("pgtt", "command", "gone"),
    [
        (2, iotlb(G=3, DID=5, ADDR=IOVA), True),
        (2, iotlb(G=2, DID=5), True),
        (2, p_iotlb(G=2, DID=5, PASID=PASID), False),
        (2, p_iotlb(G=3, DID=5, PASID=PASID, ADDR=IOVA), False),
        (1, iotlb(G=3, DID=5, ADDR=IOVA), False),
        (1, iotlb(G=2, DID=5), True),
        (1, iotlb(G=1), True),
        (1, p_iotlb(G=2, DID=5, PASID=PASID, ADDR=0x9000), True),
        (1, p_iotlb(G=2, DID=5, PASID=PASID + 1), False),
        (1, p_iotlb(G=2, DID=6, PASID=PASID), False),
        (1, p_iotlb(G=3, DID=5, PASID=PASID, ADDR=IOVA, IH=1), True),
        (1, p_iotlb(G=3, DID=5, PASID=PASID, ADDR=IOVA + 0x1000), False),
        (1, p_iotlb(G=3, DID=5, PASID=PASID, ADDR=IOVA + 0x1000, AM=40), True),  # MAMV bounds type 2 alone
        (3, iotlb(G=3, DID=5, ADDR=0x7000_0000), True),  # whatever its address
        (3, iotlb(G=3, DID=6, ADDR=IOVA), False),
        (3, iotlb(G=2, DID=5), True),
        (3, p_iotlb(G=3, DID=5, PASID=PASID, ADDR=IOVA), True),
        (3, p_iotlb(G=2, DID=5, PASID=PASID), True),
        (3, pasid_cache(G=3), False),
    ],
)
def test_a_translation_of_a_pasid_ends_with_what_covers_it(pgtt: int, command: Invalidation, gone: bool) -> None:
    software, leaf, _ = scalable(pgtt)
    software.guest.put(leaf, 0)

    software.submit(command)

    assert reaches(software, PASID) is not gone
    assert software.fsts.IQE == 0


@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (pasid_cache(G=0, DID=5), True),
        (pasid_cache(G=0, DID=6), False),
        (pasid_cache(G=1, DID=5, PASID=PASID), True),
        (pasid_cache(G=1, DID=5, PASID=PASID + 1), False),
        (pasid_cache(G=1, DID=6, PASID=PASID), False),
        (pasid_cache(G=3), True),
        (cc(G=1), True),
        (cc(G=2, DID=77), True),  # context entries of scalable mode have no DID
        (cc(G=3, SID=RID), True),
        (cc(G=3, SID=RID + 1), False),
        (iotlb(G=1), False),
    ],
)
def test_a_pasid_table_entry_ends_with_what_covers_it(command: Invalidation, gone: bool) -> None:
    software, _, entry = scalable(2)
    software.guest.put(entry, 0)

    software.submit(command)

    assert reaches(software, PASID) is not gone


def test_a_pasid_table_entry_that_serves_requests_without_pasid_is_found_by_its_pasid() -> None:
    software, _, entry = scalable(2)
    context = software.guest.pasid(
        RID, 9, PasidTableEntry.decode(software.guest.memory.read(entry, 64) or b""), RID_PASID=9
    )
    software.submit(cc(G=1))
    assert reaches(software)
    software.guest.put(context, 0)

    software.submit(pasid_cache(G=1, DID=5, PASID=PASID))
    assert reaches(software)
    software.submit(pasid_cache(G=1, DID=5, PASID=9))

    assert not reaches(software)


def test_an_insufficient_invalidation_leaves_the_old_translation() -> None:
    """New PASID table entry, PASID cache invalidated, IOTLB not: the old pages still answer."""
    software, _, entry = scalable(1)
    software.guest.put(entry + 16, software.guest.page())  # FSPTPTR: an empty table

    software.submit(pasid_cache(G=1, DID=5, PASID=PASID))
    assert reaches(software, PASID)
    software.submit(p_iotlb(G=2, DID=5, PASID=PASID))

    assert not reaches(software, PASID)


@pytest.mark.parametrize(
    ("addr", "sized", "held"),
    [
        (IOVA, 0, [1, 2, 3]),
        (IOVA, 1, [2, 3]),  # 8 KiB
        (IOVA | 0x1000, 1, []),  # 16 KiB
        (0x7FFF_FFFF_FFFF_F000, 1, []),
        (0xFFFF_FFFF_FFFF_F000, 1, []),
        (IOVA + 0x2000, 0, [0, 1, 3]),
    ],
)
@pytest.mark.parametrize("form", ["without PASID", "PASID", "global", "another PASID"])
def test_a_device_tlb_invalidation_reaches_the_device(form: str, addr: int, sized: int, held: list[int]) -> None:
    software, leaf, _ = scalable(1)
    page = (software.guest.memory.load(leaf) or 0) & ~0xFFF
    for index in range(4):
        software.guest.put(leaf + 8 * index, page | USED | A | D)
    own = None if form == "without PASID" else PASID
    if own is None:
        software.guest.pasid(RID, 0, PasidTableEntry.decode(_pasid_entry(software)), DTE=1)
        software.submit(cc(G=1))
    device = software.machine.device(RID)
    for index in range(4):
        assert isinstance(device.translate(IOVA + index * 0x1000, Access.READ, own), Translation)

    match form:
        case "without PASID":
            software.submit(DeviceTlbInvalidate(Type=3, SID=RID, S=sized, ADDR=addr, PFSID=0xFFF, MIP=31))
        case "PASID":
            software.submit(PasidDeviceTlbInvalidate(Type=8, SID=RID, PASID=PASID, S=sized, ADDR=addr, MIP=31))
        case "global":
            software.submit(PasidDeviceTlbInvalidate(Type=8, SID=RID, G=1, S=sized, ADDR=addr))
        case _:
            software.submit(PasidDeviceTlbInvalidate(Type=8, SID=RID, PASID=PASID + 1, S=sized, ADDR=addr))
            held = [0, 1, 2, 3]

    assert [index for index in range(4) if device.tlb.find(own, IOVA + index * 0x1000, Access.READ)] == held


def _pasid_entry(software: Software) -> bytes:
    """The PASID table entry that the device has."""
    guest = software.guest
    for at in range(guest.root, guest.next_page, 64):
        raw = guest.memory.read(at, 64) or b""
        if raw[:8] == PasidTableEntry(P=1, PGTT=1, AW=2).encode()[:8]:
            return raw
    raise AssertionError


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (0, ResponseCode.SUCCESS),
        (1, ResponseCode.INVALID),
        (15, ResponseCode.FAILURE),
        (2, ResponseCode.FAILURE),
        (9, ResponseCode.FAILURE),
    ],
)
@pytest.mark.parametrize("pasid", [None, PASID])
def test_a_page_group_response_is_passed_to_the_device(code: int, meaning: ResponseCode, pasid: int | None) -> None:
    software, _, _ = scalable(1)
    device = software.machine.device(RID)
    command = PageGroupResponse(Type=9, PASID_P=pasid is not None, RID=RID, PASID=pasid or 0, PRGI=0x1FF, RESP=code)

    software.submit(command)

    assert list(device.responses) == [PageResponse(RID, pasid, 0x1FF, meaning)]  # type: ignore[arg-type]


def test_a_wait_descriptor_stores_its_data_after_what_came_before() -> None:
    software, leaf = legacy()
    software.guest.put(leaf, 0)
    wait = InvalidationWait(Type=5, SW=1, FN=1, PD=1, STDATA=DONE, STADDR=software.status + 4)

    software.submit(iotlb(G=1), wait)

    assert software.guest.memory.load(software.status) == DONE << 32
    assert not reaches(software)
    assert (software.read("ICS"), software.heard) == (0, [])


def test_a_wait_descriptor_with_nowhere_to_store_completes() -> None:
    software, _ = legacy()

    software.submit(InvalidationWait(Type=5, SW=1, STADDR=0x7000_0000), InvalidationWait(Type=5))

    assert software.read("IQH") == software.read("IQT")
    assert software.fsts.IQE == 0


@pytest.mark.parametrize("earlier", [iotlb(G=1), iotlb(G=2, DID=5)])
def test_nested_translations_that_are_made_again_still_end_with_pages_of_second_stage(earlier: Invalidation) -> None:
    software, leaf, _ = scalable(3)
    software.submit(earlier)
    assert reaches(software, PASID)  # from the context that is still cached
    software.guest.put(leaf, 0)

    software.submit(iotlb(G=3, DID=5, ADDR=0x7000_0000))

    assert not reaches(software, PASID)
