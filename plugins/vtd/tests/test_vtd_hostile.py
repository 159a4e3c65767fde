"""Whatever memory and registers hold, the hardware answers; it never raises and never reads without end."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.vtd.tests.guest import Log
from viommu.errors import BadRegister
from viommu.faults import Access, Fault, Refusal
from viommu.formats import Context, walk
from viommu.hookspecs import Registers
from viommu.memory import PhysicalMemory
from viommu.translation import outcome_of, refused
from viommu_vtd.hardware import VtdHardware

RAM = 0x4000_0000
PAGES = 4
WORD = st.integers(0, (1 << 64) - 1)
POINTER = st.integers(0, PAGES).map(lambda page: RAM + page * 0x1000)
ENTRY = st.one_of(WORD, st.builds(lambda pointer, low: pointer | low | 1, POINTER, st.integers(0, 0xFFF)))
"""Anything, or something that leads on."""


@given(
    words=st.lists(ENTRY, min_size=1, max_size=64),
    cap=WORD,
    ecap=WORD,
    mode=st.integers(0, 3),
    pasid=st.none() | st.integers(0, 0xFFFFF),
    requester=st.integers(0, 0x3FF),
    iova=WORD,
    access=st.sampled_from([1, 2, 3, 5, 9, 10]),
)
def test_tables_of_any_content_end_in_a_translation_or_a_report(
    words: list[int],
    cap: int,
    ecap: int,
    mode: int,
    pasid: int | None,
    requester: int,
    iova: int,
    access: int,
) -> None:
    memory = PhysicalMemory()
    ram = mmap.mmap(-1, PAGES * 0x1000)
    ram[:] = b"".join(word.to_bytes(8, "little") for word in words * (PAGES * 512 // len(words) + 1))[: PAGES * 0x1000]
    memory.place(RAM, ram)
    registers = Registers({"CAP": cap, "ECAP": ecap, "GSTS": 1 << 31, "RTADDR": RAM | mode << 10})
    try:
        hardware = VtdHardware.of(memory, registers)
    except BadRegister:
        return
    log = Log()

    found = hardware.configure(requester, pasid, log)

    assert len(log.read) <= 4
    if isinstance(found, Refusal):
        outcome = refused(requester, pasid, iova, access, found)
    else:
        assert isinstance(found, Context)
        made = outcome_of(requester, pasid, walk(memory.engine, found, iova, access))
        if not isinstance(made, Fault):
            return
        outcome = made
    report = hardware.report(outcome)
    assert int(report.reason, 16) in range(1, 0x92)
    assert (report.record is None) == (report.outcome == "abort")
    assert report.record is None or len(report.record) == 16


@pytest.mark.parametrize("requester", [0x0000, 0xFFFF])
def test_a_root_table_at_the_end_of_the_address_space_is_no_trouble(requester: int) -> None:
    registers = Registers({"CAP": 47 << 16, "GSTS": 1 << 31, "RTADDR": 0xFFFF_FFFF_FFFF_F000})
    hardware = VtdHardware.of(PhysicalMemory(), registers)

    found = hardware.configure(requester, None, Log())

    assert isinstance(found, Refusal)
    assert hardware.report(refused(requester, None, 0, Access.READ, found)).reason == "0x8"
