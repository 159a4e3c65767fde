"""Both orders of the question that viommu began with: stage 2 before the vIOMMU, or after it.

Every installed driver is asked. In mainline's order the nesting parent is given when the vIOMMU is made. In the other,
which a policy allows, an empty vIOMMU comes first and takes its stage 2 before its first page table or queue: what does
a driver do in the window between the two?
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from viommu import Machine, Policy, discover
from viommu.iommufd.uapi import HwptAmdGuest, HwptArmSmmuv3, HwptVtdS1
from viommu.kernel_errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.api import Device, Hwpt, Iommufd
    from viommu.iommufd.uapi_struct import UapiStruct

POLICY = Policy(late_stage2=True, software_queues=True)
MEMORY, SIZE = 0x1000_0000, 1 << 20
"""Where the guest's memory lies, as the guest sees it."""

MadeT = TypeVar("MadeT")


class Types(NamedTuple):
    """The numbers by which a driver's vIOMMU, events, queues and guests' tables go; VT-d's are experimental."""

    viommu: int
    events: int
    queue: int
    table: UapiStruct | bytes
    table_type: int


TYPES = {
    "selftest": Types(0xDEADBEEF, 0xBEEFBEEF, 0xDEADBEEF, bytes(4), 0xDEAD),
    "smmuv3_cmdqv": Types(1, 1, 1, HwptArmSmmuv3.of(), 2),
    "amd_viommu": Types(1, 0x8000_0002, 1, HwptAmdGuest.of(), 3),
    "vtd": Types(0x8000_0001, 0x8000_0001, 0x8000_0001, HwptVtdS1.of(), 1),
}


def told(step: str, call: Callable[[], MadeT]) -> MadeT | None:
    """Take a step, and print what came of it."""
    try:
        made = call()
    except KernelError as error:
        print(f"  {step}: {error}")
        return None
    print(f"  {step}: {made or 'done'}")
    return made


@contextmanager
def guest(driver: str) -> Iterator[tuple[Iommufd, Device, Hwpt]]:
    """Give an open file, a device, and a nesting parent: the page table of a guest's memory."""
    with Machine(driver, memory="64M", policy=POLICY) as machine, machine.open_iommufd() as iommu:
        device = iommu.bind(machine.add_device(0x10))
        ioas = iommu.ioas_alloc()
        ioas.map(machine.buffer(SIZE), MEMORY)
        yield iommu, device, ioas.hwpt_alloc(device, nest_parent=True)


def stage_2_first(driver: str, types: Types) -> None:
    """Go in mainline's order."""
    with guest(driver) as (_, device, parent):
        viommu = told("vIOMMU on its parent", lambda: parent.viommu_alloc(device, types.viommu))
        if viommu is not None:
            told("vDEVICE", lambda: viommu.vdevice_alloc(device, 0x42))
        told("destroy the parent", parent.destroy)


def viommu_first(driver: str, types: Types) -> None:
    """Go in the other order: what may be done in the window, and what has to wait."""
    with guest(driver) as (iommu, device, parent):
        viommu = told("empty vIOMMU", lambda: iommu.viommu_alloc(device, types.viommu))
        if viommu is None:
            return
        told("in the window, vDEVICE", lambda: viommu.vdevice_alloc(device, 0x42))
        told("in the window, event queue", lambda: viommu.veventq_alloc(types.events))
        told("in the window, page table", lambda: viommu.hwpt_alloc(device, types.table, data_type=types.table_type))
        told("in the window, hardware queue", lambda: viommu.hw_queue_alloc(types.queue, 0, MEMORY, 0x1000))
        told("stage 2", lambda: viommu.set_stage2(parent))
        told("stage 2, once more", lambda: viommu.set_stage2(parent))
        told("destroy the parent", parent.destroy)


for name in (driver.info.name for driver in discover().working):
    if name not in TYPES:
        print(f"{name}: its types are not known here")
        continue
    for order, go in (("stage 2 first", stage_2_first), ("vIOMMU first", viommu_first)):
        print(f"{name}, {order}")
        try:
            go(name, TYPES[name])
        except KernelError as error:
            print(f"  not there: {error}")
