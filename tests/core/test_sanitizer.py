"""The sanitizer tells of the first stale use of each cached translation, and of nothing else."""

from __future__ import annotations

import pytest

from viommu import Access, Iotlb, Machine, PhysicalMemory
from viommu.faults import Fault
from viommu.translation import Translation

ROOT, CONTEXT, TABLES = 0x1000, 0x2000, 0x1_0000
LEAF = TABLES + 0x3000 + 8 * 4
CAP, ECAP = 0x80D2008C222F0606, 0xF00F4E
DOMAIN, DEVICE = 5, 0x08


def machine(*, walk_cache_entries: int = 0) -> Machine:
    memory = PhysicalMemory()
    memory.place(0, bytearray(0x4_0000))
    memory.store(ROOT, CONTEXT | 1)
    memory.store(CONTEXT + 0x80, TABLES | 1)
    memory.store(CONTEXT + 0x88, 2 | DOMAIN << 8)
    for level in range(3):
        memory.store(TABLES + level * 0x1000, TABLES + (level + 1) * 0x1000 | 3)
    memory.store(LEAF, 0x3_7000 | 3)
    registers = {"CAP": CAP, "ECAP": ECAP, "GSTS": 1 << 31, "RTADDR": ROOT}
    return Machine("vtd", memory, registers, iotlb=Iotlb(), walk_cache_entries=walk_cache_entries, sanitize=True)


def reports(of: Machine) -> list[str]:
    assert of.sanitizer is not None
    return [use.cache for use in of.sanitizer.reports]


def test_a_stale_hit_is_told_once_with_the_entry_that_changed() -> None:
    m = machine()
    m.translate(DEVICE, 0x4000)
    m.memory.store(LEAF, 0x3_8000 | 3)

    m.translate(DEVICE, 0x4123)
    m.translate(DEVICE, 0x4123)

    assert m.sanitizer is not None
    (use,) = m.sanitizer.reports
    assert use.cache == "iotlb"
    assert (use.stage2_tag, use.stage1_tag, use.page_size) == (DOMAIN, None, 0x1000)
    assert isinstance(use.cached, Translation)
    assert isinstance(use.fresh, Translation)
    assert (use.cached.pa, use.fresh.pa) == (0x3_7123, 0x3_8123)
    assert use.cause is not None
    assert (use.cause.pa, use.cause.was, use.cause.value) == (LEAF, 0x3_7003, 0x3_8003)
    assert use.cause.store is not None
    assert use.cause.store.when == 1
    assert "0x37003 -> 0x38003" in str(use)


def test_an_unmapped_page_is_stale_too() -> None:
    m = machine()
    m.translate(DEVICE, 0x4000)
    m.memory.store(LEAF, 0)

    assert isinstance(m.translate(DEVICE, 0x4000), Translation)

    assert m.sanitizer is not None
    (use,) = m.sanitizer.reports
    assert isinstance(use.fresh, Fault)


def test_after_a_sufficient_invalidation_nothing_is_told() -> None:
    m = machine()
    m.translate(DEVICE, 0x4000)
    m.memory.store(LEAF, 0x3_8000 | 3)
    m.translator.invalidate_stage2_range(DOMAIN, 0x4000, 0x4FFF)

    m.translate(DEVICE, 0x4000)

    assert reports(m) == []
    assert m.sanitizer is not None
    assert m.sanitizer.counts()["removed_stale"] == 1


@pytest.mark.parametrize(("last", "nothing", "right"), [(0xFFF, 1, 0), (0x4FFF, 0, 1)])
def test_invalidations_that_were_not_needed_are_counted(last: int, nothing: int, right: int) -> None:
    m = machine()
    m.translate(DEVICE, 0x4000)

    m.translator.invalidate_stage2_range(DOMAIN, 0, last)

    assert m.sanitizer is not None
    counts = m.sanitizer.counts()
    assert (counts["removed_nothing"], counts["removed_right"], counts["removed_stale"]) == (nothing, right, 0)


def test_a_stale_context_is_told() -> None:
    m = machine()
    m.translate(DEVICE, 0x4000)
    m.memory.store(CONTEXT + 0x88, 2 | (DOMAIN + 1) << 8)

    m.translate(DEVICE, 0x4000)

    assert reports(m) == ["context cache"]


def test_a_walk_that_starts_at_a_stale_table_is_told() -> None:
    m = machine(walk_cache_entries=64)
    m.memory.store(LEAF + 8, 0x3_9000 | 3)
    m.translate(DEVICE, 0x4000)
    m.memory.store(TABLES + 0x2000, 0x2_0000 | 3)
    m.memory.store(0x2_0000 + 8 * 5, 0x3_A000 | 3)

    m.translate(DEVICE, 0x5000)

    assert reports(m) == ["walk cache"]


def test_a_batch_is_checked_as_single_accesses_are() -> None:
    m = machine()
    m.translate_many(DEVICE, [0x4000, 0x4008], Access.READ)
    m.memory.store(LEAF, 0x3_8000 | 3)

    m.translate_many(DEVICE, [0x4000, 0x4008, 0x4010], Access.READ)

    assert reports(m) == ["iotlb"]


def test_devices_writes_are_read_as_a_bitmap() -> None:
    m = machine()

    assert not m.read_dirty(DEVICE, 0, 0x10000).any()


def test_the_report_names_a_cure_in_the_vendors_words() -> None:
    m = machine()
    m.translate(DEVICE, 0x4000)
    m.memory.store(LEAF, 0)

    m.translate(DEVICE, 0x4000)

    assert m.sanitizer is not None
    assert m.sanitizer.reports[0].cure == f"IOTLB invalidate (type 2): G=3, DID={DOMAIN}, ADDR=0x4000, AM=0"


def test_a_device_that_keeps_what_it_was_told_to_forget_is_told_of() -> None:
    m = machine()
    m.memory.store(CONTEXT + 0x80, TABLES | 1 << 2 | 1)  # TT 1: ATS is allowed
    device = m.device(DEVICE)
    device.translate(0x4000)
    m.memory.store(LEAF, 0x3_8000 | 3)
    m.translator.invalidate_all()

    device.translate(0x4000)

    assert reports(m) == ["device TLB"]
    assert m.sanitizer is not None
    assert "type 3" in m.sanitizer.reports[0].cure
