"""The host driver beside a real kernel's: what Linux 7.2.12 wrote into tables and into the invalidation queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.plugins.vtd.host import Host
from tests.plugins.vtd.program import FIXED, PAGE, Program
from viommu.captures.capture import load
from viommu.faults import Access
from viommu.hardware import Silence
from viommu_vtd.hardware import VtdHardware, legacy, scalable
from viommu_vtd.hardware.search import Search
from viommu_vtd.host import entries
from viommu_vtd.host.abilities import Abilities
from viommu_vtd.host.entries import SecondStage
from viommu_vtd.spec.commands import InvalidationWait
from viommu_vtd.spec.pasid import PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.queue_registers import IQA, IQT
from viommu_vtd.spec.registers import CAP, ECAP, RTADDR
from viommu_vtd.spec.root_context import ContextEntry, ScalableContextEntry

if TYPE_CHECKING:
    from viommu.captures.capture import Capture
    from viommu.machine import Machine

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
LEGACY, SECOND, FIRST = "vtd-legacy-aw48", "vtd-scalable-ss", "vtd-scalable-fs"
NAMES = (LEGACY, SECOND, FIRST)
LARGE = 1 << 21
DEVICE = 0x0300
"""The device with ATS whose pages Linux unmapped."""


def abilities(capture: Capture) -> Abilities:
    return Abilities(CAP.decode(capture.registers["CAP"]), ECAP.decode(capture.registers["ECAP"]))


def found(capture: Capture) -> Search:
    memory = capture.machine().memory
    return Search(VtdHardware.of(memory, capture.registers).unit, memory, Silence())


def requesters(capture: Capture) -> set[int]:
    return {row.asked.requester for row in capture.translations()}


def pasid_entry(search: Search, context: ScalableContextEntry) -> PasidTableEntry:
    """The entry of requests without PASID."""
    directory = PasidDirectoryEntry.decode(search.memory.load(context.PASIDDIRPTR) or 0)
    return PasidTableEntry.decode(search.memory.read(directory.SMPTBLPTR, PasidTableEntry.size) or b"")


def host_context(program: Program, theirs: ScalableContextEntry) -> ScalableContextEntry:
    """What our driver writes for a device that has what theirs had, its directory's place aside."""
    device = program.host.device(len(program.host.unit.devices) + 8, ats=bool(theirs.DTE))
    raw = program.host.machine.memory.read(device.context_entry(), ScalableContextEntry.size)
    return ScalableContextEntry.decode(raw or b"").replace(PASIDDIRPTR=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_is_given_the_queue_and_the_table_mode_that_linux_gives_it(name: str) -> None:
    capture = load(CAPTURES / name)
    host = Host.make(abilities(capture).cap, abilities(capture).ecap)
    ours, theirs = host.unit.registers.read(IQA), IQA.decode(capture.registers["IQA"])
    assert (ours.QS, ours.DW) == (theirs.QS, theirs.DW)
    assert host.unit.registers.read(RTADDR).TTM == RTADDR.decode(capture.registers["RTADDR"]).TTM


@pytest.mark.parametrize("name", [SECOND, FIRST])
def test_pasid_entries_are_those_that_linux_writes(name: str) -> None:
    capture = load(CAPTURES / name)
    able, search, seen = abilities(capture), found(capture), 0
    program = Program.on(Host.make(able.cap, able.ecap))
    for requester in requesters(capture):
        context = scalable.context_entry(search, requester)
        if not isinstance(context, ScalableContextEntry):
            continue
        assert host_context(program, context) == context.replace(PASIDDIRPTR=0)
        theirs = pasid_entry(search, context)
        if theirs.PGTT == 1:
            levels = 5 if theirs.FSPM else 4
            ours = entries.first_stage(able, theirs.DID, theirs.FSPTPTR, levels=levels, snoop=bool(theirs.PGSNP))
        elif theirs.PGTT == 2:
            ours = entries.second_stage(able, theirs.DID, SecondStage(theirs.SSPTPTR, able.second_stage_width))
        else:
            continue
        assert ours == theirs
        seen += 1
    assert seen


def test_legacy_context_entries_are_those_that_linux_writes() -> None:
    capture = load(CAPTURES / LEGACY)
    able, search, seen = abilities(capture), found(capture), 0
    for requester in requesters(capture):
        theirs = legacy.context_entry(search, requester)
        if isinstance(theirs, ContextEntry) and theirs.TT != 2:
            stage = SecondStage(theirs.SSPTPTR, able.second_stage_width)
            assert entries.legacy_context(theirs.DID, stage, ats=theirs.TT == 1) == theirs
            seen += 1
    assert seen


@pytest.mark.parametrize("name", NAMES)
def test_unmapping_a_page_gives_the_descriptors_that_linux_gives(name: str) -> None:
    capture = load(CAPTURES / name)
    able = abilities(capture)
    rows = [row.raw for row in capture.commands()]
    kinds = [raw[0] for raw in rows]
    start = next(at for at in range(len(rows)) if kinds[at : at + 3] in ([0xF2, 3, 0x25], [0x36, 3, 0x25]))
    iotlb, device_tlb, wait = rows[start : start + 3]
    iova = int.from_bytes(iotlb[8:16], "little") & -PAGE
    program = Program.on(Host.make(able.cap, able.ecap))
    device = program.bind(program.host.device(DEVICE, ats=True))
    ioas = program.ioas()
    for _ in range(int.from_bytes(iotlb[2:4], "little") - 2):  # take the DIDs before theirs
        program.host.unit.ids.take("unit")
    program.map(ioas, iova, program.buffer())
    program.map(ioas, iova ^ PAGE, program.buffer())  # a neighbour, so that its table stays
    device.attach(ioas)
    before = program.host.unit.registers.read(IQT).QT
    program.unmap(ioas, iova, PAGE)
    size = len(iotlb)
    written = program.host.machine.memory.read(program.host.unit.queue.base + before, 3 * size)
    assert written is not None
    assert written[:size] == iotlb
    assert written[size : 2 * size] == device_tlb
    ours = InvalidationWait.decode(written[2 * size : 2 * size + 16])
    assert ours.replace(STADDR=0) == InvalidationWait.decode(wait[:16]).replace(STADDR=0)


SOFTWARE = 1 << 9 | 1 << 10
"""Bits that are software's: where walks are not coherent, Linux notes in one that it has flushed a table."""
FLAGS = 0xFFF0_0000_0000_0FFF & ~SOFTWARE


def entries_of(machine: Machine, requester: int, iova: int) -> set[tuple[str, int, int]]:
    """The page-table entries on the way to an address: (table or leaf, level, flags)."""
    steps = machine.explain(requester, iova, Access.READ).walk
    met = [step.entry for step in steps if step.entry is not None and step.entry.raw is not None]
    return {(one.verdict, one.level, (one.raw or 0) & FLAGS) for one in met if one.verdict in {"table", "leaf"}}


@pytest.mark.parametrize("name", NAMES)
def test_page_table_entries_have_the_flags_that_linux_gives_them(name: str) -> None:
    capture = load(CAPTURES / name)
    able, theirs, recorded = abilities(capture), set[tuple[str, int, int]](), capture.machine()
    for row in list(capture.translations())[::40]:
        if row.asked.pasid is None:
            theirs |= entries_of(recorded, row.asked.requester, row.asked.iova)
    program = Program.on(Host.make(able.cap, able.ecap))
    device, ioas = program.bind(program.host.device(DEVICE, ats=True)), program.ioas()
    device.attach(ioas)
    program.map(ioas, 1 << 30, program.buffer())
    program.map(ioas, (1 << 30) + PAGE, program.buffer(), FIXED)
    program.map(ioas, (1 << 30) + LARGE, program.buffer(LARGE))
    ours = set[tuple[str, int, int]]()
    for offset in (0, PAGE, LARGE):
        ours |= entries_of(program.host.machine, DEVICE, (1 << 30) + offset)
    assert {level for verdict, level, _ in ours if verdict == "leaf"} == {0, 1}
    assert ours <= theirs
