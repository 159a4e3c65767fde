"""Memory that runs out at the first, second, ... n-th moment leaves VT-d as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define

from tests.plugins.vtd.guest import BASE, Guest
from tests.plugins.vtd.host import Host
from tests.plugins.vtd.program import FIXED_RW, PAGE, RID, Program
from viommu.failure import fail_nth
from viommu.iommufd import uapi
from viommu.kernel_errors import KernelError
from viommu.objects.hwpt import Hwpt
from viommu.policies import Policy
from viommu_vtd.host.extensions import TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.objects.device import Device

POINTS = 60
FAR = 0x7000_0000_0000
"""Where no table has been made yet."""
PASID = 0x777


@define(eq=False)
class Ground:
    """A program with a device, a guest, and a HWPT of each kind that is attached to nothing."""

    program: Program
    device: Device
    guest: Guest
    nested: int
    plain: int

    @classmethod
    def make(cls) -> Ground:
        program = Program.on(Host.make(policy=Policy(invalidate_by_viommu=True, software_queues=True)))
        device = program.bind(program.host.device(RID, pasids=1 << 20))
        guest = Guest.make(program, device, uapi.HwptFlags.PASID)
        nested = program.nested(device, guest.parent, guest.root, uapi.HwptFlags.PASID)
        return cls(program, device, guest, nested, program.hwpt(device, guest.ioas, uapi.HwptFlags.PASID))

    @property
    def state(self) -> tuple[object, ...]:
        """What a call that failed may not have changed; tables on the way to an entry stay, as the kernel's do."""
        unit, host = self.program.host.unit, self.device.physical.data
        objects = [found.id for found in self.program.file.context.table]
        tags = [found.any_domain.tags for found in self.hwpts]  # type: ignore[attr-defined]
        return sorted(unit.ids.taken), sorted(host.attached), sorted(unit.devices), objects, [dict(tag) for tag in tags]

    @property
    def hwpts(self) -> list[Hwpt]:
        return [self.program.file.context.table.find(number, Hwpt, "id") for number in (self.nested, self.plain)]


def map_far(ground: Ground) -> None:
    buffer = ground.program.buffer()
    ground.program.must(
        uapi.IoasMap.of(flags=FIXED_RW, ioas_id=ground.guest.ioas, user_va=buffer.address, length=PAGE, iova=FAR)
    )


def make_viommu(ground: Ground) -> None:
    out = ground.program.buffer()
    cmd = uapi.ViommuAlloc.of(
        type=TYPE, dev_id=ground.device.id, hwpt_id=ground.guest.parent, data_len=16, data_uptr=out.address
    )
    ground.program.must(cmd)


CALLS: dict[str, Callable[[Ground], object]] = {
    "a device is added": lambda ground: ground.program.host.device(0x3308, pasids=1 << 20),
    "a RID is attached": lambda ground: ground.device.attach(ground.plain),
    "a RID is attached, nested": lambda ground: ground.device.attach(ground.nested),
    "a PASID is attached": lambda ground: ground.device.attach(ground.plain, PASID),
    "a PASID is attached, nested": lambda ground: ground.device.attach(ground.nested, PASID),
    "an IOAS is attached": lambda ground: ground.device.attach(ground.guest.ioas),
    "memory is mapped": map_far,
    "a paging HWPT is made": lambda ground: ground.program.hwpt(ground.device, ground.guest.ioas),
    "a nested HWPT is made": lambda ground: ground.program.nested(ground.device, ground.guest.parent, BASE),
    "a vIOMMU is made": make_viommu,
}


def fails(ground: Ground, call: Callable[[Ground], object], nth: int) -> bool:
    with fail_nth(nth) as injection:
        try:
            call(ground)
        except (KernelError, AssertionError):
            assert injection.happened
    return injection.happened


@pytest.mark.parametrize("name", CALLS)
def test_a_failure_leaves_nothing_behind_and_the_next_try_succeeds(name: str) -> None:
    ground = Ground.make()
    for nth in range(1, POINTS):
        before = ground.state
        if not fails(ground, CALLS[name], nth):
            break
        assert ground.state == before, nth
    else:
        pytest.fail("it never succeeded")
    assert nth > 1
    ground.program.clean()
