"""What a host driver maps is found by the engine's walker and by the oracle's, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.page_table_kinds import KINDS, Kind, MachineMemory
from tests.oracle.compare import engine_context
from tests.oracle.stage import Kind as Fault
from tests.oracle.walker import walk
from viommu import _engine, table_shapes
from viommu.errors import BadValue
from viommu.failure import fail_nth
from viommu.io_page_table import IoPageTable
from viommu.kernel_errors import NoMemory, OutOfRangeSize
from viommu.memory import PhysicalMemory
from viommu.ops import Prot
from viommu.spec.riscv import RiscvLeaf
from viommu.table_frames import CHUNK, TableFrames

if TYPE_CHECKING:
    from tests.oracle.memory import Memory
    from viommu.io_page_table import TableShape

READ, WRITE = Prot.READ, Prot.WRITE
PROTS = (READ, WRITE, READ | WRITE)
PAGE = 0x1000
TABLE = 512 * PAGE

every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


@define
class Run:
    """One mapping of the model."""

    iova: int
    pa: int
    length: int
    prot: Prot

    @property
    def end(self) -> int:
        return self.iova + self.length


@define
class Domain:
    """A table and, beside it, what it should map."""

    kind: Kind
    memory: PhysicalMemory = field(factory=PhysicalMemory)
    runs: list[Run] = field(factory=list)
    frames: TableFrames = field(init=False)
    table: IoPageTable = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.frames = TableFrames(self.memory)
        self.table = IoPageTable(self.frames, self.kind.shape)

    def map(self, run: Run, largest: int | None = None) -> None:
        self.table.map(run.iova, run.pa, run.length, run.prot, largest)
        self.runs.append(run)

    def unmap(self, run: Run) -> None:
        gone = self.table.unmap(run.iova, run.length)
        assert gone.unmapped == run.length
        gone.free()
        self.runs.remove(run)

    def expected(self, iova: int) -> tuple[int, Prot] | None:
        for run in self.runs:
            if run.iova <= iova < run.end:
                return run.pa + iova - run.iova, run.prot
        return None

    def check(self, iova: int) -> None:
        """Three readers give the same: the writer itself, the engine, and the oracle."""
        expected = self.expected(iova)
        assert self.table.physical(iova) == (None if expected is None else expected[0]), hex(iova)
        access = READ if expected is None or READ in expected[1] or self.kind.implies_read else WRITE
        context = self.kind.context(self.table.root)
        words = cast("Memory", MachineMemory(self.memory))
        for found in (
            _engine.walk(self.memory.engine, engine_context(context), iova, access, stores=False),
            walk(words, context, iova, access),
        ):
            if expected is None:
                assert found.kind == Fault.TRANSLATION, hex(iova)
                continue
            assert (found.kind, found.pa) == (0, expected[0]), hex(iova)
            assert found.rights & 3 == expected[1] | (READ if self.kind.implies_read else 0)


@st.composite
def mappings(draw: st.DrawFn, kind: Kind) -> list[Run]:
    """Runs that do not meet: near the ends of tables, and of any size up to a few large leaves."""
    shape = kind.shape
    granule = 1 << shape.granule_lg2
    input_end = 1 << shape.input_bits
    # So many small leaves make up a large one that a level more would take minutes.
    largest = min(shape.levels - 1, 2 if shape.granule_lg2 == 12 else 1)
    runs: list[Run] = []
    at = 0
    for _ in range(draw(st.integers(1, 6))):
        span = 1 << shape.span_lg2(draw(st.integers(0, largest)))
        start = at + draw(st.sampled_from([0, granule, span - granule, span, 3 * span])) & -granule
        if draw(st.booleans()):
            start = (start + span - 1) & -span
        length = draw(st.sampled_from([granule, 2 * granule, span, span + granule, 2 * span]))
        if start + length > input_end:
            break
        high = draw(st.sampled_from([0, (shape.address_mask | shape.high_mask) & -(1 << 45)]))
        pa = high + draw(st.sampled_from([0, span, granule, 5 * span + granule]))
        pa = pa if (shape.address_mask | shape.high_mask) >= pa + length else 0
        runs.append(Run(start, pa, length, draw(st.sampled_from(PROTS))))
        at = start + length
    return runs


def edges(runs: list[Run], granule: int, end: int) -> list[int]:
    found = {0, end - 1}
    for run in runs:
        middle = run.iova + (run.length // 2 & -granule)
        for at in (run.iova, run.end, middle):
            found |= {at - 1, at, at + 0x123}
    return sorted(iova for iova in found if 0 <= iova < end)


@every_kind
@settings(max_examples=12)
@given(data=st.data())
def test_what_is_mapped_is_found_and_nothing_else(kind: Kind, data: st.DataObject) -> None:
    domain = Domain(kind)
    runs = data.draw(mappings(kind))
    probes = edges(runs, 1 << kind.shape.granule_lg2, 1 << kind.shape.input_bits)
    for run in data.draw(st.permutations(runs)):
        domain.map(run, data.draw(st.sampled_from([None, 1 << kind.shape.granule_lg2, 2 << 20])))
    for iova in probes:
        domain.check(iova)
    for run in data.draw(st.permutations(runs)):
        domain.unmap(run)
        for iova in edges([run], 1 << kind.shape.granule_lg2, 1 << kind.shape.input_bits):
            domain.check(iova)
    assert domain.table.tables == 1


def filled(kind: Kind = KINDS[6]) -> Domain:
    domain = Domain(kind)
    domain.map(Run(0, 0, 2 * TABLE, READ | WRITE))
    domain.map(Run(4 * TABLE, PAGE, TABLE, READ))
    return domain


@every_kind
def test_the_largest_leaf_goes_where_it_should(kind: Kind) -> None:
    domain = Domain(kind)
    size = 1 << kind.shape.page_sizes.bit_length() - 1
    end = min(1 << kind.shape.input_bits, 2 * size)
    domain.map(Run(end - size, size, size, READ | WRITE))
    for iova in edges(domain.runs, 1 << kind.shape.granule_lg2, end):
        domain.check(iova)
    leaf = domain.table.leaf(end - size)
    assert leaf is not None
    assert 1 << leaf.page_lg2 == size


def test_leaves_are_as_large_as_alignment_and_the_caller_allow() -> None:
    table = Domain(KINDS[7]).table
    table.map(0, 1 << 30, 1 << 30, READ)
    table.map(2 << 30, 1 << 30, 1 << 30, READ, 2 << 20)
    table.map(4 << 30, (1 << 30) + PAGE, 1 << 30, READ)
    sizes = [leaf.page_lg2 for leaf in map(table.leaf, (0, 2 << 30, 4 << 30)) if leaf]
    assert sizes == [30, 21, 12]


def test_an_unmap_tells_what_caches_must_forget() -> None:
    domain = filled()
    gone = domain.table.unmap(0, 2 * TABLE)
    assert (gone.iova, gone.last, gone.page_lg2, gone.tables) == (0, 2 * TABLE - 1, 21, 0)
    gone = domain.table.unmap(4 * TABLE, TABLE)
    assert (gone.page_lg2, gone.tables) == (12, 2)
    gone = domain.table.unmap(4 * TABLE, TABLE)
    assert (gone.unmapped, gone.page_lg2, gone.tables) == (0, None, 0)


def test_tables_that_went_stay_as_they_were_until_caches_are_told() -> None:
    domain = filled()
    directory = (domain.memory.load(domain.table.root) or 0) & -PAGE
    small = (domain.memory.load(directory + 4 * 8) or 0) & -PAGE
    before = domain.memory.read(small, PAGE)
    gone = domain.table.unmap(4 * TABLE, TABLE)
    assert domain.memory.read(small, PAGE) == before != bytes(PAGE)
    free = domain.frames.pool.available(12)
    gone.free()
    gone.free()
    assert domain.frames.pool.available(12) == free + gone.tables
    assert domain.memory.read(small, PAGE) == bytes(PAGE)


def test_part_of_a_large_leaf_is_not_unmapped() -> None:
    domain = filled()
    for iova, length in ((0, PAGE), (TABLE - PAGE, TABLE), (PAGE, 2 * TABLE), (TABLE, 2 * TABLE - PAGE)):
        if iova == TABLE:
            domain.table.unmap(iova, length)
            continue
        with pytest.raises(ValueError, match="cuts the leaf at"):
            domain.table.unmap(iova, length)
        domain.check(0)
        domain.check(TABLE)


@pytest.mark.parametrize(
    ("iova", "pa", "length", "told"),
    [
        (PAGE, 0, PAGE, "0x1000 is mapped already"),
        (3 * TABLE, 0, 2 * TABLE, "0x800000 is mapped already"),
        (5 * TABLE - PAGE, 0, 2 * PAGE, "0x9ff000 is mapped already"),
        (3 * TABLE + 1, 0, PAGE, "not made of pages"),
        (3 * TABLE, 0, 0, "not made of pages"),
        (3 * TABLE, 1, PAGE, "not what an entry can hold"),
        ((1 << 39) - PAGE, 0, 2 * PAGE, "beyond the table's 39 bits"),
    ],
)
def test_what_cannot_be_mapped_is_told_and_changes_nothing(iova: int, pa: int, length: int, told: str) -> None:
    domain = filled()
    tables, free = domain.table.tables, domain.frames.pool.available(12)
    with pytest.raises(ValueError, match=told):
        domain.table.map(iova, pa, length, READ)
    assert (domain.table.tables, domain.frames.pool.available(12)) == (tables, free)
    for at in (0, 2 * TABLE, 3 * TABLE, 4 * TABLE, 5 * TABLE):
        domain.check(at)


@pytest.mark.parametrize(("pa", "length"), [(1 << 52, PAGE), ((1 << 52) - PAGE, 2 * PAGE), (1 << 63, PAGE)])
def test_a_physical_address_that_no_entry_holds_is_refused_as_the_kernel_does(pa: int, length: int) -> None:
    domain = filled()
    with pytest.raises(OutOfRangeSize, match="of 52 bits"):
        domain.table.map(3 * TABLE, pa, length, READ)
    domain.check(3 * TABLE)


def test_a_failure_to_get_frames_maps_nothing() -> None:
    domain = filled()
    with fail_nth(1), pytest.raises(NoMemory):
        domain.table.map(3 * TABLE, 0, PAGE, READ)
    domain.check(3 * TABLE)


def test_frames_that_another_thread_takes_meanwhile_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = TableFrames(PhysicalMemory())
    ensure, asked = frames.ensure, []

    def ensured(lg2: int, count: int) -> None:
        ensure(lg2, count)
        asked.append(count)
        if len(asked) < 3:
            while frames.pool.take(lg2):
                pass

    monkeypatch.setattr(frames, "ensure", ensured)
    table = IoPageTable(frames, KINDS[7].shape)
    assert len(asked) == 3
    while frames.pool.take(12):
        pass
    asked.clear()
    table.map(0, 0, PAGE, READ)
    assert len(asked) == 3
    assert table.physical(0x123) == 0x123


def test_a_table_takes_more_frames_than_one_chunk_has() -> None:
    domain = Domain(KINDS[7])
    run = Run(0, PAGE, 2 * CHUNK * 512, READ | WRITE)
    domain.map(run)
    for iova in (0, run.length // 2, run.length - 1):
        domain.check(iova)
    domain.unmap(run)
    assert domain.frames.pool.available(12) * PAGE >= 2 * CHUNK


def test_a_freed_table_gives_every_frame_back_as_zeros() -> None:
    domain = filled()
    before = domain.table.tables
    root, free = domain.table.root, domain.frames.pool.available(12)
    domain.table.unmap(4 * TABLE, TABLE)  # whose tables nobody frees
    domain.table.free()
    domain.table.free()
    assert domain.frames.pool.available(12) == free + before
    assert domain.memory.read(root, PAGE) == bytes(PAGE)
    with pytest.raises(ValueError, match="freed"):
        domain.table.map(0, 0, PAGE, READ)
    assert domain.table.physical(0) is None


def test_a_table_is_not_fooled_by_who_writes_into_it() -> None:
    domain = filled()
    for at in range(0, PAGE, 8):
        domain.memory.store(domain.table.root + at, 0xFFFF_FFFF_FFFF_FFFF)
    gone = domain.table.unmap(0, 8 * TABLE)
    assert gone.unmapped == 3 * TABLE
    assert domain.table.physical(0) is None


def test_what_is_extra_is_in_every_leaf() -> None:
    domain = Domain(KINDS[6])
    domain.table.map(0, 0, TABLE + PAGE, READ, extra=1 << 11)
    leaves = [domain.table.leaf(0), domain.table.leaf(TABLE)]
    assert [leaf and leaf.entry >> 11 & 1 for leaf in leaves] == [1, 1]


@pytest.mark.parametrize("dirty", [False, True])
def test_leaves_of_riscv_begin_as_dirty_as_asked(dirty: bool) -> None:
    table = IoPageTable(TableFrames(PhysicalMemory()), table_shapes.riscv(3, dirty=dirty))
    table.map(0, 0, PAGE, READ | Prot.WRITE)
    leaf = table.leaf(0)
    assert leaf is not None
    assert bool(RiscvLeaf.decode(leaf.entry).D) is not dirty


@pytest.mark.parametrize(
    ("shape", "sizes", "bits", "root"),
    [
        (table_shapes.amd_v1(6), 1 << 12 | 1 << 21 | 1 << 30, 64, PAGE),
        (table_shapes.vtd_second_stage(4, large_pages=0), 1 << 12, 48, PAGE),
        (table_shapes.arm_stage2(40), 1 << 12 | 1 << 21 | 1 << 30, 40, 2 * PAGE),
        (table_shapes.arm_stage1(25), 1 << 12 | 1 << 21, 25, 128),
        (table_shapes.arm_stage1(48, 16), 1 << 16 | 1 << 29, 48, 512),
        (table_shapes.riscv(3, guest_stage=True), 1 << 12 | 1 << 21 | 1 << 30, 41, 4 * PAGE),
    ],
    ids=["amd", "vtd", "arm-concatenated", "arm-short", "arm-64k", "riscv-guest"],
)
def test_a_shape_says_what_a_domain_is_made_of(shape: TableShape, sizes: int, bits: int, root: int) -> None:
    assert (shape.page_sizes, shape.input_bits, shape.root_bytes) == (sizes, bits, root)


def test_frames_are_zero_aligned_and_given_back_once() -> None:
    frames = TableFrames(PhysicalMemory())
    pa = frames.allocate(3)
    assert pa % (4 * PAGE) == 0
    frames.memory.write(pa, b"\xff" * 3 * PAGE)
    with pytest.raises(BadValue, match="allocated together"):
        frames.free(pa, 1)
    frames.free(pa, 3)
    with pytest.raises(BadValue, match="allocated together"):
        frames.free(pa, 3)
    assert frames.memory.read(frames.allocate(4), 4 * PAGE) == bytes(4 * PAGE)
    assert len(set(frames.allocate_many(600))) == 600


def test_when_memory_ends_no_frame_is_kept() -> None:
    frames = TableFrames(PhysicalMemory(address_bits=33))
    with pytest.raises(NoMemory):
        frames.allocate(1 << 21)
    frames.free(frames.allocate())
    free = frames.pool.available(12)
    with fail_nth(5), pytest.raises(NoMemory):
        frames.allocate_many(9)
    assert frames.pool.available(12) == free
