"""Objects refer to one another in circles; what a failing test or a log prints of one must stay short."""

from __future__ import annotations

import gc

import attrs
import pytest

from viommu import Machine
from viommu.drivers import discover

LONGEST = 30_000
LEAST = 10
"""Objects that a machine with one device is made of."""


@pytest.mark.parametrize("driver", [driver.info.name for driver in discover().working])
def test_no_object_of_a_machine_prints_the_whole_machine(driver: str) -> None:
    others = gc.get_objects()  # what other tests have left behind; kept, so that no new object takes an old one's place
    before = {id(one) for one in others}
    with Machine(driver, memory="64M") as machine, machine.open_iommufd() as iommu:
        device = iommu.bind(machine.add_device(0x10))
        device.attach(iommu.ioas_alloc())
        found = [one for one in gc.get_objects() if id(one) not in before and attrs.has(type(one))]
        ours = [one for one in found if type(one).__module__.startswith("viommu")]
        long = {type(one).__name__: size for one in ours if (size := len(repr(one))) > LONGEST}
    assert len(ours) > LEAST
    assert long == {}
