"""Each call of AMD's host driver fails at each point where it can: nothing is left, and the next try works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.amd_viommu.guest import BASE, Guest
from tests.plugins.amd_viommu.program import HARDWARE, PAGE, RID, Program
from tests.plugins.amd_viommu.vm import VID, make_viommu, queue_command
from viommu.failure import fail_nth
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwptFlags
from viommu.kernel_errors import KernelError
from viommu_amd_viommu.host.extensions import QueueType

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.objects.device import Device

POINTS = 200
"""More failure points than any call has."""


@define(eq=False)
class Stage:
    """What a call may want to stand on."""

    program: Program = field(factory=lambda: Program.make(HARDWARE, sanitize=False))
    device: Device = field(init=False)
    guest: Guest = field(init=False)
    viommu: int = field(init=False)
    tables: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        program = self.program
        self.device = program.bind(program.machine.add_device(RID, ats=True, pasid_bits=10))
        self.guest = Guest.make(program, self.device)
        self.viommu = make_viommu(program, self.device, self.guest.parent)[0]
        self.tables = [program.hwpt(self.device, program.ioas(), HwptFlags.PASID) for _ in range(2)]

    def with_vdevice(self) -> Stage:
        self.program.vdevice(self.device, self.viommu, VID)
        return self

    def nested(self) -> int:
        return self.program.nested(self.device, self.viommu, self.guest.dte(DomainID=7))

    @property
    def taken(self) -> tuple[object, ...]:
        """All that the driver has taken of its hardware."""
        unit = self.program.unit
        hardware = unit.hardware
        assert hardware is not None
        governed = unit.devices[RID]
        return (
            len(unit.ids.taken),
            len(unit.frames._given),
            sorted(hardware.guests.taken),
            sorted(hardware.translating),
            [int(self.program.entry(device)) for device in (RID, *sorted(hardware.translating))],
            [(pasid, sorted(map(repr, domain.tags))) for pasid, domain in governed.attached.items()],
            governed.roots is None,
            self._maps,
        )

    @property
    def _maps(self) -> list[object]:
        guests = self.program.machine.hardware.model.guests.known  # type: ignore[attr-defined]
        return [(number, dict(one.maps.devices)) for number, one in sorted(guests.items()) if one.maps.devices]

    def ioctl(self, cmd: UapiStruct) -> None:
        """Make an ioctl. Raises what it was refused with."""
        self.program.call(cmd)
        if self.program.result:
            raise self.program.refusals[-1]


def _nested_under_vdevice(stage: Stage) -> Callable[[], object]:
    hwpt = stage.with_vdevice().nested()
    return lambda: stage.device.attach(hwpt)


def _replaced(stage: Stage) -> Callable[[], object]:
    stage.device.attach(stage.tables[0])
    hwpt = stage.with_vdevice().nested()
    return lambda: stage.device.replace(hwpt)


def _pasid_replaced(stage: Stage) -> Callable[[], object]:
    stage.device.attach(stage.tables[0], 1000)
    return lambda: stage.device.replace(stage.tables[1], 1000)


def _viommu(stage: Stage) -> Callable[[], object]:
    data = stage.program.buffer()
    cmd = uapi.ViommuAlloc.of(
        type=3, dev_id=stage.device.id, hwpt_id=stage.guest.parent, data_len=16, data_uptr=data.address
    )
    return lambda: stage.ioctl(cmd)


CALLS: dict[str, Callable[[Stage], Callable[[], object]]] = {
    "a vIOMMU of the hardware's": _viommu,
    "a vIOMMU whose data cannot be told": lambda stage: (
        lambda: stage.ioctl(
            uapi.ViommuAlloc.of(type=3, dev_id=stage.device.id, hwpt_id=stage.guest.parent, data_len=16, data_uptr=PAGE)
        )
    ),
    "a vDEVICE": lambda stage: (
        lambda: stage.ioctl(uapi.VdeviceAlloc.of(viommu_id=stage.viommu, dev_id=stage.device.id, virt_id=VID))
    ),
    "a queue": lambda stage: lambda: stage.ioctl(queue_command(stage.viommu, QueueType.EVENTS, BASE)),
    "a nested HWPT": lambda stage: (
        lambda: stage.ioctl(stage.program.nested_command(stage.device, stage.viommu, stage.guest.dte(DomainID=9)))
    ),
    "host tables": lambda stage: (
        lambda: stage.ioctl(
            uapi.HwptAlloc.of(dev_id=stage.device.id, pt_id=stage.guest.ioas, flags=HwptFlags.DIRTY_TRACKING)
        )
    ),
    "guest tables": lambda stage: (
        lambda: stage.ioctl(uapi.HwptAlloc.of(dev_id=stage.device.id, pt_id=stage.guest.ioas, flags=HwptFlags.PASID))
    ),
    "attach host tables": lambda stage: lambda: stage.device.attach(stage.guest.parent),
    "attach guest tables": lambda stage: lambda: stage.device.attach(stage.tables[0]),
    "attach a PASID": lambda stage: lambda: stage.device.attach(stage.tables[0], 1000),
    "attach a nested HWPT": _nested_under_vdevice,
    "replace by a nested HWPT": _replaced,
    "replace a PASID's": _pasid_replaced,
}


@pytest.mark.parametrize("name", CALLS)
def test_whatever_fails_leaves_nothing_behind(name: str) -> None:
    stage = Stage()
    act = CALLS[name](stage)
    before = stage.taken
    for nth in range(1, POINTS):
        with fail_nth(nth) as injection:
            try:
                act()
            except KernelError:
                assert stage.taken == before, nth
                if not injection.happened:
                    return  # a call that cannot succeed at all
            else:
                assert not injection.happened
                return
    pytest.fail("a call without end of failure points")
