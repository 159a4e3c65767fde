"""Entries and tables of the host driver: bits as the fact sheet prints them, and the order in which they are stored."""

from __future__ import annotations

import pytest

from plugins.vtd.tests.hosted import Bump, Hosted
from viommu.hardware import Silence
from viommu.memory import PhysicalMemory
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host import entries
from viommu_vtd.host.abilities import Abilities
from viommu_vtd.host.entries import GuestStage, SecondStage, StageOneFlags
from viommu_vtd.host.frames import install, remove
from viommu_vtd.host.tables import PasidTables, RootTable
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.registers import CAP

ABLE = Abilities(FULL_CAP, FULL_ECAP)
LEGACY = Abilities(FULL_CAP, FULL_ECAP.replace(SMTS=0))
SECOND = SecondStage(0xABC_D000, 2, dirty=True)
SPR = StageOneFlags.SRE | StageOneFlags.WPE | StageOneFlags.EAFE


def words(entry: object) -> list[int]:
    raw = int(entry)  # type: ignore[call-overload]
    return [raw >> 64 * index & (1 << 64) - 1 for index in range(3)]


def test_a_first_stage_entry_has_its_fields_where_the_sheet_has_them() -> None:
    entry = entries.first_stage(ABLE, 0x1234, 0x7000, levels=5, snoop=True)
    assert words(entry) == [1 | 3 << 2 | 1 << 6, 0x1234 | 1 << 23 | 1 << 24, 1 << 2 | 0x7000]


def test_a_second_stage_entry_has_its_fields_where_the_sheet_has_them() -> None:
    entry = entries.second_stage(ABLE, 0x1234, SECOND)
    assert words(entry) == [1 | 2 << 2 | 2 << 6 | 1 << 9 | 0xABC_D000, 0x1234 | 1 << 23, 0]


def test_a_nested_entry_has_its_fields_where_the_sheet_has_them() -> None:
    entry = entries.nested(ABLE, 0x1234, GuestStage(0x9000, five_levels=True, flags=SPR), SECOND, snoop=True)
    assert words(entry) == [
        1 | 2 << 2 | 3 << 6 | 1 << 9 | 0xABC_D000,
        0x1234 | 1 << 23 | 1 << 24,
        1 | 1 << 2 | 1 << 4 | 1 << 7 | 0x9000,
    ]


def test_write_protection_of_supervisors_counts_with_supervisors_alone() -> None:
    guest = GuestStage(0x9000, five_levels=False, flags=StageOneFlags.WPE)
    assert words(entries.nested(ABLE, 2, guest, SECOND, snoop=False))[2] == 0x9000


def test_walks_of_a_unit_without_coherent_walks_are_not_snooped() -> None:
    able = Abilities(FULL_CAP, FULL_ECAP.replace(SMPWCS=0))
    assert words(entries.second_stage(able, 2, SECOND))[1] == 2


def test_context_entries_have_their_fields_where_the_sheet_has_them() -> None:
    memory = PhysicalMemory()
    memory.place(0x1_0000_0000, bytearray(1 << 20))
    tables = PasidTables(memory, Bump(memory), 1 << 20)
    scalable = entries.scalable_context(tables, ats=True, pasids=True, page_requests=True)
    assert words(scalable)[:2] == [1 | 1 << 2 | 1 << 3 | 1 << 4 | 7 << 9 | tables.directory, 0]
    assert words(entries.legacy_context(0x1234, SECOND, ats=True))[:2] == [1 | 1 << 2 | 0xABC_D000, 2 | 0x1234 << 8]


@pytest.mark.parametrize(("pasids", "pages", "size"), [(0, 1, 2), (1 << 15, 1, 2), (1 << 16, 2, 3), (1 << 20, 32, 7)])
def test_a_pasid_directory_is_as_large_as_its_pasids_need(pasids: int, pages: int, size: int) -> None:
    memory = PhysicalMemory()
    memory.place(0x1_0000_0000, bytearray(1 << 20))
    tables = PasidTables(memory, Bump(memory), pasids)
    assert (tables.pages, tables.directory_size) == (pages, size)
    assert 1 << size + 13 >= pasids


def test_tables_lie_where_the_sheets_examples_say() -> None:
    memory = PhysicalMemory()
    memory.place(0x1_0000_0000, bytearray(1 << 20))
    frames = Bump(memory)
    legacy, scalable = RootTable(memory, frames, scalable=False), RootTable(memory, frames, scalable=True)
    at = legacy.context(0x3A10)
    assert memory.load(legacy.address + 0x3A0) == at - 0x100 | 1
    upper = scalable.context(0x3A90)
    assert memory.load(scalable.address + 0x3A8) == upper - 0x200 | 1
    pasids = PasidTables(memory, frames, 1 << 20)
    entry = pasids.entry(0x12345)
    assert memory.load(pasids.directory + 0x2468) == entry - 0x140 | 1
    for tables in (legacy, scalable, pasids):
        tables.free()
    assert not frames.taken


def test_an_entry_becomes_present_with_its_last_store_and_absent_with_the_first() -> None:
    memory = PhysicalMemory()
    memory.place(0x1_0000_0000, bytearray(4096))
    stores: list[int] = []
    memory.watcher = lambda pa, _, __: stores.append(pa - 0x1_0000_0000)
    full = PasidTableEntry.decode((1 << 512) - 1)
    install(memory, 0x1_0000_0000, full)
    assert stores == [56, 48, 40, 32, 24, 16, 8, 0]
    stores.clear()
    remove(memory, 0x1_0000_0000, 64)
    assert stores == [0, 8, 16, 24, 32, 40, 48, 56]


@pytest.mark.parametrize(("nd", "end"), [(0, 16), (6, 1 << 16)])
def test_ids_of_domains_begin_at_2_and_end_where_the_unit_has_no_more(nd: int, end: int) -> None:
    assert Abilities(CAP(ND=nd), FULL_ECAP).domain_ids == range(2, end)


@pytest.mark.parametrize(
    ("sagaw", "mgaw", "width", "bits"),
    [(0b1110, 57, 3, 57), (0b1110, 48, 2, 48), (0b0110, 57, 2, 48), (0b0010, 39, 1, 39), (0b0110, 46, 2, 46)],
)
def test_second_stage_is_as_wide_as_the_unit_has_it(sagaw: int, mgaw: int, width: int, bits: int) -> None:
    able = Abilities(CAP(SAGAW=sagaw, MGAW=mgaw - 1), FULL_ECAP)
    assert (able.second_stage_width, able.second_stage_bits) == (width, bits)


def test_the_hardware_finds_what_the_host_has_written() -> None:
    hosted = Hosted.make()
    tables = PasidTables(hosted.machine.memory, hosted.frames, 1 << 20)
    unit = hosted.unit
    install(
        unit.memory,
        unit.root.context(0x0108),
        entries.scalable_context(tables, ats=False, pasids=True, page_requests=False),
    )
    for pasid in (0, 5, 0xFFFFF):
        install(unit.memory, tables.entry(pasid), entries.second_stage(unit.able, 7 + pasid % 9, SECOND))
    found = [hosted.machine.hardware.configure(0x0108, pasid, Silence()) for pasid in (None, 5, 0xFFFFF)]
    assert [context.stage2_tag for context in found] == [7, 12, 7 + 0xFFFFF % 9]  # type: ignore[union-attr]
    assert [context.stage2.table for context in found] == [SECOND.table] * 3  # type: ignore[union-attr]


@pytest.mark.parametrize(("sslps", "sizes"), [(0, 1 << 12), (1, 1 << 12 | 1 << 21), (3, 1 << 12 | 1 << 21 | 1 << 30)])
def test_second_stage_has_the_large_pages_that_the_unit_says(sslps: int, sizes: int) -> None:
    assert Abilities(FULL_CAP.replace(SSLPS=sslps), FULL_ECAP).second_stage_pages == sizes


@pytest.mark.parametrize(
    ("bits", "sagaw", "aw"),
    [
        (57, 0b1110, 3),
        (49, 0b1110, 3),
        (48, 0b1110, 2),
        (57, 0b0110, 2),
        (40, 0b1110, 2),
        (39, 0b1110, 1),
        (30, 0b1110, 0),
    ],
)
def test_second_stage_is_the_widest_that_addresses_fill(bits: int, sagaw: int, aw: int) -> None:
    assert Abilities(FULL_CAP.replace(MGAW=bits - 1, SAGAW=sagaw), FULL_ECAP).second_stage_width == aw


def test_interrupts_are_messages_to_the_processors_region() -> None:
    hosted = Hosted.make()
    hosted.machine.translate(0x0108, 0x1000)
    assert [(one.source, one.address) for one in hosted.heard] == [("fault", 0xFEE0_0000)]
