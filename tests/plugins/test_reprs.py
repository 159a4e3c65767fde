"""Live objects say in few words what they are: they know one another, and telling all of it would never end."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.plugins.amd_viommu.program import HARDWARE
from tests.plugins.amd_viommu.program import Program as AmdProgram
from tests.plugins.amd_viommu.vm import Vm
from viommu import Iotlb, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = ("viommu", "viommu_amd_viommu", "viommu_smmuv3_cmdqv", "viommu_vtd")
LONGEST = 100_000
"""Characters. A mesh of objects takes millions, and each guest more takes several times as many."""
OF_A_CLASS = 4
"""Objects of one class that are asked."""


def amd() -> object:
    program = AmdProgram.make(HARDWARE)
    vms = [Vm(program, 0x100 + 8 * number) for number in range(3)]
    for vm in vms:
        program.reaches(0x1000, requester=vm.requester)
    return vms


def paging(driver: str) -> object:
    machine = Machine(driver, memory="16M", iotlb=Iotlb())
    iommu = machine.open_iommufd()
    for number in range(3):
        device, ioas = iommu.bind(machine.add_device(0x100 + 8 * number)), iommu.ioas_alloc()
        ioas.map(machine.buffer("64K"), 0x10_0000)
        device.attach(ioas.hwpt_alloc(device))
        device.dma_read(0x1000, 4)
    return machine


def live() -> Iterator[object]:
    """Some objects of each class of ours."""
    count: dict[type, int] = {}
    for one in gc.get_objects():
        kind = type(one)
        if isinstance(one, type) or kind.__module__.partition(".")[0] not in OURS:
            continue
        count[kind] = count.get(kind, 0) + 1
        if count[kind] <= OF_A_CLASS:
            yield one


@pytest.mark.parametrize(
    "make", [amd, partial(paging, "vtd"), partial(paging, "smmuv3_cmdqv")], ids=["guests on AMD", "VT-d", "SMMUv3"]
)
def test_objects_that_know_one_another_are_told_in_few_words(make: Callable[[], object]) -> None:
    kept = make()
    gc.collect()

    long = {type(one).__qualname__: len(repr(one)) for one in live() if len(repr(one)) > LONGEST}

    assert not long
    assert kept
