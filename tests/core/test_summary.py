"""A machine counts what its user, its host's drivers and guests did."""

from __future__ import annotations

import json

import pytest

from viommu import Machine
from viommu.activity import Activity
from viommu.kernel_errors import KernelError
from viommu.summary import Summary


def test_ioctls_are_counted_by_name_also_those_that_fail() -> None:
    with Machine("vtd", memory="16M") as machine, machine.open_iommufd() as iommu:
        ioas = iommu.ioas_alloc()
        with pytest.raises(KernelError):
            ioas.unmap(0x1000, 0x1000)
    assert machine.activity.ioctls == {"IOMMU_IOAS_ALLOC": 1, "IOMMU_IOAS_UNMAP": 1}


def test_all_files_of_a_machine_count_into_one_activity() -> None:
    with Machine("vtd", memory="16M") as machine:
        for _ in range(2):
            with machine.open_iommufd() as iommu:
                iommu.ioas_alloc()
    assert machine.activity.ioctls["IOMMU_IOAS_ALLOC"] == 2


def test_a_driver_that_is_brought_up_writes_registers_and_executes_commands() -> None:
    with Machine("smmuv3_cmdqv", memory="16M") as machine:
        machine.add_device(0x100)
        summary = machine.summary()
    assert summary.activity.register_writes > 10
    assert summary.host_commands["TLBI_NSNH_ALL"] == 1
    assert not summary.activity.guest_commands


def test_interrupts_that_the_host_handles_are_counted_by_source() -> None:
    with Machine("smmuv3_cmdqv", memory="16M") as machine:
        endpoint = machine.add_device(0x100)
        with machine.open_iommufd() as iommu:
            device = iommu.bind(endpoint)
            device.attach(iommu.ioas_alloc())
            device.dma_read(0x1000, 4)
    told = dict(machine.summary().lines)
    assert told["translations"] == "1: 0 hits, 1 walks"
    assert told["faults"] == "1 (1 translation)"
    assert machine.activity.interrupts.total() == 1
    assert machine.activity.host_calls == machine.activity.ioctls.total() + 1


def test_records_are_counted_where_they_were_written_to_a_guest() -> None:
    activity = Activity()
    for facts in ({"record": "FAULT", "guest": 1}, {"record": None, "guest": 1}, {"record": "FAULT"}):
        activity.observe("toy.event", facts)
    told = dict(Summary.of(activity, []).lines)
    assert told["written to guests"] == "1 (1 FAULT)"
    assert told["their commands"] == "0"


def test_a_page_that_user_space_has_mapped_is_not_the_drivers_to_answer_for() -> None:
    with Machine("vtd", memory="16M") as machine:
        port = machine.host().port
        before = machine.activity.register_reads
        assert port.mapped.read(0x08, 8) == port.read(0x08, 8) != 0
        port.mapped.write(0x34, 4, 0)
    assert machine.activity.register_reads == before + 1


def test_an_idle_machine_tells_zeros() -> None:
    lines = dict(Machine("vtd").summary().lines)
    assert lines["ioctls of the user"] == "0; event queues: 0"
    assert lines["their commands"] == "0"


def test_many_kinds_are_told_by_the_most_frequent_ones() -> None:
    activity = Activity()
    activity.ioctls.update({f"KIND_{n}": n for n in range(1, 10)})
    told = dict(Summary.of(activity, []).lines)["ioctls of the user"]
    assert told.startswith("45 (9 KIND_9, 8 KIND_8, 7 KIND_7, 6 KIND_6, 5 KIND_5, 4 KIND_4, 6 others)")


def test_it_can_be_json() -> None:
    json.dumps(Machine("vtd").summary().to_json())
