"""Two units in one machine: a domain has a DID in each, and what changes is told to both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plugins.vtd.host import Host
from tests.plugins.vtd.program import PAGE, RID, Program
from viommu.faults import Fault
from viommu.iommufd import uapi
from viommu.kernel_errors import Invalid
from viommu.objects.device import Device
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu_vtd.spec.registers import ECAP

IOVA = 0x40_0000


def two(ecap: ECAP = FULL_ECAP) -> tuple[Program, Endpoint, Endpoint]:
    """A program, and a device behind each of two units; ``ecap`` is the second's."""
    program = Program.on(Host.make())
    machine = program.host.machine
    other = machine.add_iommu(registers={"CAP": int(FULL_CAP), "ECAP": int(ecap)})
    return program, machine.add_device(RID), machine.add_device(RID, iommu=other)


def bound(program: Program, endpoint: Endpoint) -> Device:
    with program.file.context.lock:
        return Device.bind(program.file.context, endpoint.physical)


def test_one_ioas_serves_devices_of_both_and_unmaps_reach_both() -> None:
    program, *endpoints = two()
    ioas, buffer = program.ioas(), program.buffer()
    buffer.pages[:4] = b"both"
    program.map(ioas, IOVA, buffer)
    for endpoint in endpoints:
        bound(program, endpoint).attach(ioas)
    assert [endpoint.dma_read(IOVA, 4) for endpoint in endpoints] == [b"both", b"both"]
    program.unmap(ioas, IOVA, PAGE)
    assert all(isinstance(endpoint.dma_read(IOVA, 4), Fault) for endpoint in endpoints)


def test_a_domain_has_a_did_in_each_unit_that_it_is_used_in() -> None:
    program, first, second = two()
    devices = [bound(program, endpoint) for endpoint in (first, second)]
    units = [endpoint.physical.iommu.data for endpoint in (first, second)]
    devices[0].attach(program.hwpt(devices[0], program.ioas()))
    shared = program.hwpt(devices[0], program.ioas())
    devices[0].replace(shared)
    devices[1].attach(shared)
    assert [len(unit.ids.taken) for unit in units] == [1, 1]
    devices[1].detach()
    assert [len(unit.ids.taken) for unit in units] == [1, 0]


@pytest.mark.parametrize(
    ("ecap", "flags"),
    [
        (FULL_ECAP.replace(NEST=0), uapi.HwptFlags.NEST_PARENT),
        (FULL_ECAP.replace(SSADS=0), uapi.HwptFlags.DIRTY_TRACKING),
        (FULL_ECAP.replace(FSTS=0), 0),
    ],
)
def test_a_unit_that_cannot_walk_a_domain_refuses_it(ecap: ECAP, flags: int) -> None:
    program, first, second = two(ecap)
    devices = [bound(program, endpoint) for endpoint in (first, second)]
    hwpt = program.hwpt(devices[0], program.ioas(), flags)
    with pytest.raises(Invalid):
        devices[1].attach(hwpt)


def test_an_ioas_has_another_hwpt_for_a_unit_that_needs_another_table() -> None:
    program, *endpoints = two(FULL_ECAP.replace(FSTS=0))
    ioas, buffer = program.ioas(), program.buffer()
    buffer.pages[:4] = b"both"
    program.map(ioas, IOVA, buffer)
    for endpoint in endpoints:
        bound(program, endpoint).attach(ioas)
    assert [endpoint.dma_read(IOVA, 4) for endpoint in endpoints] == [b"both", b"both"]
    program.unmap(ioas, IOVA, PAGE)
    assert all(isinstance(endpoint.dma_read(IOVA, 4), Fault) for endpoint in endpoints)
