"""What each invalidation descriptor does, as accesses through the IOTLB show it; and which ones are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.vtd.tests.guest import USED, A, D, R, W
from plugins.vtd.tests.programming import DONE, Software
from viommu.faults import Access
from viommu.platform import PageResponse, ResponseCode
from viommu.translation import Translation
from viommu_vtd.hardware.live.command_rules import JUDGES
from viommu_vtd.hardware.live.commands import HANDLERS
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.spec.commands import (
    COMMANDS,
    WIDE,
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InterruptEntryCacheInvalidate,
    Invalidation,
    InvalidationType,
    InvalidationWait,
    IotlbInvalidate,
    PageGroupResponse,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.queue_registers import QueueError
from viommu_vtd.spec.root_context import ContextEntry

if TYPE_CHECKING:
    from viommu_vtd.spec.registers import CAP, ECAP

RID = 0x0108
IOVA = 0x40_0000
PASID = 7


def legacy(cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP) -> tuple[Software, int]:
    """A device in domain 5, one page mapped at IOVA and cached; gives the leaf's address."""
    software = Software.make(cap, ecap)
    guest = software.guest
    table = guest.page()
    guest.legacy(RID, ContextEntry(P=1, AW=2, DID=5, SSPTPTR=table))
    leaf = guest.map(table, 4, IOVA, guest.page() | R | W)
    software.enable()
    software.enable_queue()
    assert reaches(software)
    return software, leaf


def scalable(pgtt: int, *, cap: CAP = FULL_CAP, ecap: ECAP = FULL_ECAP) -> tuple[Software, int, int]:
    """The same for a PASID, in second stage (2), first stage (1) or nested (3); gives leaf and PASID table entry."""
    software = Software.make(cap, ecap)
    guest = software.guest
    second, first = guest.page(), guest.page()
    entry = PasidTableEntry(P=1, PGTT=pgtt, AW=2, DID=5, PWSNP=1)
    if pgtt == 2:
        entry = entry.replace(SSPTPTR=second)
        leaf = guest.map(second, 4, IOVA, guest.page() | R | W)
    else:
        entry = entry.replace(FSPTPTR=first, SSPTPTR=second if pgtt == 3 else 0)
        leaf = guest.map(first, 4, IOVA, guest.page() | USED | A | D, link=USED)
    if pgtt == 3:  # guest-physical addresses are physical ones
        guest.map(second, 4, leaf & -(1 << 30), leaf & -(1 << 30) | 1 << 7 | R | W, leaf_level=2)
    at = guest.pasid(RID, PASID, entry, DTE=1, PRE=1)
    software.enable()
    software.enable_queue()
    assert reaches(software, PASID)
    return software, leaf, at


def reaches(software: Software, pasid: int | None = None, iova: int = IOVA) -> bool:
    return isinstance(software.machine.translate(RID, iova, Access.READ, pasid), Translation)


def cc(**fields: int) -> ContextCacheInvalidate:
    return ContextCacheInvalidate(Type=1, **fields)


def iotlb(**fields: int) -> IotlbInvalidate:
    return IotlbInvalidate(Type=2, **fields)


def p_iotlb(**fields: int) -> PasidIotlbInvalidate:
    return PasidIotlbInvalidate(Type=6, **fields)


def pasid_cache(**fields: int) -> PasidCacheInvalidate:
    return PasidCacheInvalidate(Type=7, **fields)


def test_every_descriptor_has_a_handler_that_names_fields_it_has() -> None:
    assert set(HANDLERS) == set(COMMANDS) == set(WIDE) == set(InvalidationType)
    assert set(JUDGES) <= set(COMMANDS)
    for kind, (fields, _) in HANDLERS.items():
        assert set(fields) <= COMMANDS[kind].fields.keys()


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


def reserved_bits(kind: InvalidationType, width: int) -> list[int]:
    """A few reserved bits of each word: the lowest and the highest of it."""
    mask = (COMMANDS if width == 128 else WIDE)[kind].reserved_mask & ~0xE00
    words = [(mask >> 64 * word & (1 << 64) - 1) << 64 * word for word in range(width // 64)]
    return [bit for word in words if word for bit in ((word & -word).bit_length() - 1, word.bit_length() - 1)]


VALID = {
    InvalidationType.CONTEXT_CACHE: cc(G=1),
    InvalidationType.IOTLB: iotlb(G=1),
    InvalidationType.PASID_IOTLB: p_iotlb(G=2),
}


@pytest.mark.parametrize("kind", list(InvalidationType))
def test_a_reserved_bit_of_a_descriptor_is_refused(kind: InvalidationType) -> None:
    for bit in reserved_bits(kind, 256):
        software, _, _ = scalable(1)
        command = int(VALID.get(kind, Invalidation(Type=kind)))

        software.submit(command.to_bytes(32, "little"))
        assert software.fsts.IQE == 0
        software.submit((command | 1 << bit).to_bytes(32, "little"))

        assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.RESERVED), bit
        assert software.read("IQH") == 32


@pytest.mark.parametrize(
    "command",
    [
        cc(G=0),
        iotlb(G=0),
        iotlb(G=3, AM=19),
        p_iotlb(G=0),
        p_iotlb(G=1),
        pasid_cache(G=2),
        InterruptEntryCacheInvalidate(Type=4, G=1, IM=16),
    ],
)
def test_a_value_that_does_not_exist_is_refused_as_reserved(command: Invalidation) -> None:
    software, _, _ = scalable(1)

    software.submit(command)

    assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.RESERVED)


@pytest.mark.parametrize(
    ("lacks", "command"),
    [("PSI", iotlb(G=3)), ("PDS", InvalidationWait(Type=5, PD=1))],
)
def test_a_field_needs_its_capability(lacks: str, command: Invalidation) -> None:
    cap = FULL_CAP.replace(PSI=lacks != "PSI")
    software, _, _ = scalable(1, cap=cap, ecap=FULL_ECAP.replace(PDS=lacks != "PDS"))

    software.submit(command)

    assert software.queue_error.IQEI == QueueError.RESERVED


@pytest.mark.parametrize(
    ("lacks", "kind"),
    [("DT", 3), ("DT", 8), ("IR", 4), ("PRS", 9)],
)
def test_a_type_needs_its_capability(lacks: str, kind: int) -> None:
    software = Software.make(ecap=FULL_ECAP.replace(**{lacks: 0}))
    software.guest.mode = 1
    software.set_root()
    software.enable_queue()

    software.submit(Invalidation(Type=kind))

    assert software.queue_error.IQEI == QueueError.TYPE


@pytest.mark.parametrize("kind", [0, 10, 15, 1 | 1 << 9, 5 | 7 << 9])
@pytest.mark.parametrize("mode", [0, 1])
def test_a_type_that_nobody_knows_is_refused(kind: int, mode: int) -> None:
    software = Software.make()
    software.guest.mode = mode
    software.set_root()
    software.enable_queue()

    software.submit(kind.to_bytes(16, "little"))

    assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.TYPE)


@pytest.mark.parametrize("kind", list(InvalidationType))
@pytest.mark.parametrize(("mode", "last"), [(0, 5), (1, 9), (3, 9)])
def test_legacy_mode_has_the_first_five_types(kind: InvalidationType, mode: int, last: int) -> None:
    software = Software.make()
    software.guest.mode = mode
    software.set_root()
    software.enable_queue()

    software.submit(VALID.get(kind, Invalidation(Type=kind)))

    assert (0 if kind <= last else QueueError.TYPE) == software.queue_error.IQEI
