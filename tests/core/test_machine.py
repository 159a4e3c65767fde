from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.toy import ACCESSED, DIRTY, Device, Guest, Hardware, NamedToy, ToyDriver
from viommu import Access, Fault, FaultKind, Iotlb, Machine, Translation
from viommu.drivers import bind_plugin
from viommu.errors import BadValue, DriverBug, OutOfRange
from viommu.faults import FaultClass, Report, Stage
from viommu.machine import BusAbort

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog

PAGE = 4096


@pytest.fixture
def guest() -> Guest:
    return Guest()


def machine_of(guest: Guest, iotlb: Iotlb | None = None) -> Machine:
    return Machine(bind_plugin(ToyDriver()), guest.memory, guest.registers, iotlb=iotlb)


def test_an_access_goes_where_the_tables_say(guest: Guest) -> None:
    guest.map(0x1234_5000, 0x8000_0000)

    found = machine_of(guest).translate(3, 0x1234_5678, Access.WRITE)

    assert isinstance(found, Translation)
    assert (found.pa, found.page_size, found.ipa) == (0x8000_0678, PAGE, 0x8000_0678)
    assert found.rights == Access.READ | Access.WRITE | Access.EXECUTE
    assert not found.untranslated


def test_an_access_that_passes_through_has_no_page(guest: Guest) -> None:
    found = machine_of(guest).translate(4, 0xFFFF_0000_1234)

    assert isinstance(found, Translation)
    assert found.untranslated
    assert (found.pa, found.page_size) == (0xFFFF_0000_1234, 0)


def test_what_the_tables_refuse_is_a_value(guest: Guest) -> None:
    entry = guest.map(0x5000, 0x8000_0000, writable=False)

    fault = machine_of(guest).translate(3, 0x5010, Access.WRITE)

    assert isinstance(fault, Fault)
    assert (fault.kind, fault.stage, fault.level, fault.fault_class) == (
        FaultKind.PERMISSION,
        Stage.STAGE1,
        0,
        FaultClass.INPUT,
    )
    assert (fault.entry_address, fault.missing) == (entry, Access.WRITE)
    assert machine_of(guest).report(fault) == Report(
        "fault", "PERMISSION", bytes.fromhex("1050000000000000 03000000 04000000")
    )


def test_a_refused_configuration_says_why(guest: Guest) -> None:
    machine = machine_of(guest)

    fault = machine.translate(9, 0x5000)

    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.CONFIGURATION
    assert fault.refusal is not None
    assert fault.refusal.reason == "INVALID"
    assert machine.report(fault).outcome == "abort"


def test_a_scalar_an_explained_and_a_batched_access_are_told_alike(guest: Guest) -> None:
    guest.map(0x5000, 0x8000_0000, writable=False)
    machine = machine_of(guest)
    r, w = Access.READ, Access.WRITE
    asked = [(3, 0x5000, w), (3, 0x9000, r), (9, 0, r), (200, 0, r), (3, 0x5000, r)]

    batch = machine.probe_many(*(list(column) for column in zip(*asked, strict=True)))

    for row, (requester, iova, access) in enumerate(asked):
        alone = machine.explain(requester, iova, access).outcome
        assert machine.translate(requester, iova, access) == alone
        assert batch.fault(row) == (alone if isinstance(alone, Fault) else None)
        if isinstance(alone, Translation):
            assert (int(batch.pa[row]), 1 << int(batch.page_lg2[row])) == (alone.pa, alone.page_size)
    assert [row for row, _ in batch.faults()] == [0, 1, 2, 3]
    assert (len(batch), batch.fault_count) == (5, 4)


def test_probing_leaves_no_trace(guest: Guest) -> None:
    entry = guest.map(0x5000, 0x8000_0000)
    iotlb = Iotlb(entries=None)
    machine = machine_of(guest, iotlb)
    before = guest.memory.load(entry)

    machine.probe_many(3, [0x5000, 0x5008], int(Access.WRITE))
    machine.explain(3, 0x5000, Access.WRITE)

    assert guest.memory.load(entry) == before
    assert machine.translator.counters()["insertions"] == 0


def test_translating_marks_what_was_used(guest: Guest) -> None:
    entry = guest.map(0x5000, 0x8000_0000)
    machine = machine_of(guest)

    machine.translate(3, 0x5000, Access.READ)
    after_read = guest.memory.load(entry)
    machine.translate(3, 0x5000, Access.WRITE)
    after_write = guest.memory.load(entry)

    assert after_read is not None
    assert after_write is not None
    assert after_read & (ACCESSED | DIRTY) == ACCESSED
    assert after_write & DIRTY


def test_a_stale_translation_lives_until_it_is_invalidated(guest: Guest) -> None:
    guest.map(0x5000, 0x8000_0000)
    machine = machine_of(guest, Iotlb())
    machine.translate(3, 0x5000)
    guest.map(0x5000, 0x9000_0000)

    stale = machine.translate(3, 0x5000)
    machine.translator.invalidate_all()
    fresh = machine.translate(3, 0x5000)

    assert isinstance(stale, Translation)
    assert isinstance(fresh, Translation)
    assert (stale.pa, fresh.pa) == (0x8000_0000, 0x9000_0000)


def test_one_value_stands_for_every_row_of_a_batch(guest: Guest) -> None:
    for page in range(4):
        guest.map(0x5000 + page * PAGE, 0x8000_0000 + page * PAGE)

    batch = machine_of(guest).translate_many(3, np.arange(4, dtype=np.uint64) * PAGE + 0x5000, int(Access.READ))

    assert batch.pa.tolist() == [0x8000_0000 + page * PAGE for page in range(4)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((0x100, 0, Access.READ, None), "RID for toy 0x100 is above 0xff"),
        ((-1, 0, Access.READ, None), "RID for toy -0x1 is below 0x0"),
        ((1, 0, Access.READ, 16), "PASID for toy 0x10 is above 0xf"),
        ((1, 1 << 64, Access.READ, None), "IOVA 0x10000000000000000 is above 0xffffffffffffffff"),
        ((1, 0, Access.PRIVILEGED, None), "access 0x8 is not one that reads, writes or executes"),
        ((1, 0, 0x40, None), "access 0x40 is above 0xf"),
        ((1.5, 0, Access.READ, None), "RID for toy 1.5 is not a whole number"),
    ],
)
def test_what_the_hardware_cannot_be_asked_is_refused_by_name(
    guest: Guest, asked: tuple[int, int, Access, int | None], message: str
) -> None:
    machine = machine_of(guest)

    for ask in (machine.translate, machine.explain):
        with pytest.raises((BadValue, OutOfRange), match=message):
            ask(*asked)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([1, 0x100], [0, 0], 1, None), "RID in row 1 0x100 is above 0xff"),
        ((1, [0, 1 << 64], 1, None), "IOVA in row 1 0x10000000000000000 is above"),
        ((1, [5, -1], 1, None), "IOVA in row 1 -0x1 is below 0x0"),
        ((1, [0, 0], [1, 8], None), "access in row 1 0x0 is not one that reads"),
        ((1, [0, 0], 1, [2, 16]), "PASID in row 1 0x10 is above 0xf"),
        (([1, 2, 3], [0, 0], 1, None), "columns of a batch 'of 3, 2, 1, 1 rows' is not of one length"),
        ((1, [0.5], 1, None), "column IOVA 'object' is not made of whole numbers"),
        ((1, np.zeros((2, 2), np.uint64), 1, None), "column IOVA '2-dimensional' is not one row of values"),
    ],
)
def test_a_bad_row_of_a_batch_is_named(guest: Guest, columns: tuple[object, ...], message: str) -> None:
    with pytest.raises((BadValue, OutOfRange), match=message):
        machine_of(guest).translate_many(*columns)  # type: ignore[arg-type]


def test_addresses_of_both_halves_fit_one_column(guest: Guest) -> None:
    batch = machine_of(guest).translate_many(4, [0, 1 << 63, (1 << 64) - 1], 1)

    assert batch.pa.tolist() == [0, 1 << 63, (1 << 64) - 1]


@given(data=st.binary(min_size=1, max_size=3 * PAGE), offset=st.integers(0, PAGE - 1))
def test_dma_crosses_pages_as_its_bytes_do(data: bytes, offset: int) -> None:
    guest = Guest()
    target = guest.memory.add_ram(8 * PAGE)
    for page in range(4):
        guest.map(0x5000 + page * PAGE, target.pa((7 - 2 * page) * PAGE))  # neighbours in IOVA, not in memory
    machine = machine_of(guest)

    assert machine.dma_write(3, 0x5000 + offset, data) is None

    assert machine.dma_read(3, 0x5000 + offset, len(data)) == data
    assert guest.memory.read(target.pa(7 * PAGE + offset), 1) == data[:1]


def test_dma_stops_at_the_page_that_is_refused(guest: Guest) -> None:
    target = guest.memory.add_ram(PAGE)
    guest.map(0x5000, target.pa())
    machine = machine_of(guest)

    fault = machine.dma_write(3, 0x5FFE, b"abcd")

    assert isinstance(fault, Fault)
    assert fault.iova == 0x6000
    assert guest.memory.read(target.pa(PAGE - 2), 2) == b"ab"
    assert isinstance(machine.dma_read(3, 0x5FFE, 4), Fault)


def test_dma_to_where_no_memory_is_aborts_on_the_bus(guest: Guest) -> None:
    guest.map(0x5000, 0x7777_0000)
    machine = machine_of(guest)

    assert machine.dma_read(3, 0x5004, 8) == BusAbort(0x7777_0004, 8)
    assert machine.dma_write(3, 0x5004, b"ab") == BusAbort(0x7777_0004, 2)
    with pytest.raises(OutOfRange, match="length of a DMA 0x11 is above 0x10"):
        machine.dma_read(4, (1 << 64) - 16, 17)


class Faulty(Hardware):
    """Breaks whichever promise it is told to."""

    answer: object = None
    told: object = None

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> object:  # type: ignore[override]
        if isinstance(self.answer, Exception):
            raise self.answer
        return super().configure(requester, pasid, log) if self.answer is None else self.answer

    def report(self, _: Fault) -> object:  # type: ignore[override]
        return self.told


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (7, "driver toy broke its promise in configure: it returned int, not a Context or Refusal"),
        (RuntimeError("oops"), "driver toy broke its promise in configure: RuntimeError: oops"),
    ],
)
def test_hardware_that_breaks_its_promise_is_named(guest: Guest, answer: object, message: str) -> None:
    machine = machine_of(guest)
    faulty = Faulty(guest.memory, machine.registers)
    faulty.answer = answer
    machine = _with_model(guest, faulty)

    for ask in (machine.translate, machine.explain):
        with pytest.raises(DriverBug, match=message):
            ask(3, 0x5000)
    with pytest.raises(DriverBug, match=message):
        machine.translate_many(3, [0x5000], 1)


@pytest.mark.parametrize(
    ("told", "message"),
    [(None, "it returned NoneType, not a Report"), (Report("perhaps", "?"), "its outcome is 'perhaps', not one of")],
)
def test_a_report_that_says_nothing_is_a_bug_of_the_driver(guest: Guest, told: object, message: str) -> None:
    faulty = Faulty(guest.memory, machine_of(guest).registers)
    faulty.told = told
    machine = _with_model(guest, faulty)
    fault = machine.translate(3, 0x5000)
    assert isinstance(fault, Fault)

    with pytest.raises(DriverBug, match=message):
        machine.report(fault)


def _with_model(guest: Guest, model: Hardware) -> Machine:
    class Giving(ToyDriver):
        from viommu import hookimpl  # noqa: PLC0415

        @hookimpl
        def viommu_hardware(self) -> Hardware:  # type: ignore[override]
            return model

    return Machine(bind_plugin(Giving()), guest.memory, guest.registers)


def test_a_driver_without_pasids_takes_none(guest: Guest) -> None:
    machine = Machine(bind_plugin(NamedToy("plain")), guest.memory, guest.registers)

    with pytest.raises(BadValue, match="PASID 'for plain' is not possible: its hardware has no PASIDs"):
        machine.translate(3, 0, Access.READ, 1)


def test_a_device_that_changed_is_configured_anew_after_an_invalidation(guest: Guest) -> None:
    machine = machine_of(guest)
    assert isinstance(machine.translate(3, 0x5000), Fault)
    guest.set_device(3, Device(Valid=1, Bypass=1))

    machine.translator.invalidate_contexts(3)

    assert isinstance(machine.translate(3, 0x5000), Translation)


@pytest.mark.parametrize(
    ("offset", "size", "message"),
    [
        ("TCR0", 4, "register offset 'TCR0' is not an offset in bytes"),
        (-4, 4, "register offset -0x4 is not an offset in bytes"),
        (0, 3, "size of a register access 0x3 is not 4 or 8 bytes"),
    ],
)
def test_what_is_no_access_to_a_register_is_refused(guest: Guest, offset: Any, size: int, message: str) -> None:  # noqa: ANN401
    machine = machine_of(guest)
    with pytest.raises(BadValue, match=message):
        machine.read_register(offset, size)
    with pytest.raises(BadValue, match=message):
        machine.write_register(offset, 0, size)


def test_registers_are_reached_by_numbers_of_numpy_too(guest: Guest) -> None:
    machine = machine_of(guest)
    machine.write_register(np.uint32(0x28), np.uint64(1), 8)  # type: ignore[arg-type]  # it is no int to mypy
    assert machine.read_register(np.int64(0x28), 8) == machine.read_register(0x28, 8)  # type: ignore[arg-type]
