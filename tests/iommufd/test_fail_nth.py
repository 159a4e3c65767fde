"""Failure at the 1st, 2nd, ... n-th point where the kernel could fail leaves nothing behind, for every ioctl."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.iommufd.client import APERTURE, BUFFER, DATA, PAGE, SELFTEST_EVENTS, SELFTEST_VIOMMU, Client
from tests.iommufd.state import differences, pins_of, state_of
from viommu.iommufd import uapi
from viommu.objects.failure import fail_nth

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.uapi_struct import UapiStruct


NESTED = struct.pack("<II", 0xBADBEEF, 0)
SWALLOW = ("MOCK_DOMAIN",)
"""An attach to an IOAS takes the next HWPT, or makes one, where one does not fit."""

POINTS = 200
"""More failure points than any ioctl has."""


class Ground:
    """A client with one object of each kind that ioctls stand on."""

    def __init__(self) -> None:
        self.client = client = Client()
        self.ioas = client.ioas()
        client.map(self.ioas, APERTURE, 2 * PAGE)
        assert client.result == 0
        self.stdev, self.auto, self.device = client.device(self.ioas, flags=4)
        self.parent = client.hwpt(self.device, self.ioas, uapi.HwptFlags.NEST_PARENT)
        self.dirty = client.hwpt(self.device, self.ioas, uapi.HwptFlags.DIRTY_TRACKING)
        self.pasid = client.hwpt(self.device, self.ioas, uapi.HwptFlags.PASID)
        self.viommu = client.viommu(self.device, self.parent)
        self.vdevice = client.must(uapi.VdeviceAlloc.of(viommu_id=self.viommu, dev_id=self.device, virt_id=9))
        self.nested = client.hwpt(self.device, self.viommu, 0, NESTED)
        self.other = client.ioas()
        fault = client.must(uapi.FaultAlloc.of())
        self.fault, self.fault_fd = fault.out_fault_id, fault.out_fault_fd

    def test(self, op: int, number: int = 0, *words: tuple[str, int]) -> object:
        return self.client.test(op, number, *words)

    def access(self, flags: int = 1) -> int:
        (fd,) = struct.unpack_from("<I", self.client.test(5, self.ioas, ("I", 0), ("I", flags)))
        assert self.client.result == 0
        return int(fd)


def calls(cmd: Callable[[Ground], UapiStruct]) -> Callable[[Ground], Callable[[], object]]:
    return lambda ground: lambda: ground.client.call(cmd(ground))


def operation(op: int, number: str, *words: tuple[str, int | str]) -> Callable[[Ground], Callable[[], object]]:
    def prepare(ground: Ground) -> Callable[[], object]:
        filled = [(code, getattr(ground, value) if isinstance(value, str) else value) for code, value in words]
        return lambda: ground.test(op, getattr(ground, number) if number else 0, *filled)

    return prepare


def pins_pages(ground: Ground) -> Callable[[], object]:
    fd = ground.access()
    return lambda: ground.test(7, fd, ("I", 0), ("I", 0), ("Q", APERTURE), ("Q", PAGE), ("Q", BUFFER))


def reads_and_writes(ground: Ground) -> Callable[[], object]:
    fd = ground.access(0)
    return lambda: ground.test(8, fd, ("Q", APERTURE), ("Q", 16), ("Q", DATA), ("I", 1))


def replaces_the_ioas_of_an_access(ground: Ground) -> Callable[[], object]:
    fd = ground.access()
    return lambda: ground.test(11, fd, ("I", ground.other))


SCENARIOS: dict[str, Callable[[Ground], Callable[[], object]]] = {
    "IOAS_ALLOC": calls(lambda _: uapi.IoasAlloc.of()),
    "IOAS_ALLOW_IOVAS": calls(lambda g: uapi.IoasAllowIovas.of(ioas_id=g.other)),
    "IOAS_IOVA_RANGES": calls(lambda g: uapi.IoasIovaRanges.of(ioas_id=g.ioas, num_iovas=4, allowed_iovas=DATA)),
    "IOAS_MAP": calls(
        lambda g: uapi.IoasMap.of(flags=6, ioas_id=g.ioas, user_va=BUFFER + 8 * PAGE, length=3 * PAGE),
    ),
    "IOAS_COPY": calls(
        lambda g: uapi.IoasCopy.of(
            flags=6, dst_ioas_id=g.other, src_ioas_id=g.ioas, length=PAGE, src_iova=APERTURE + PAGE
        ),
    ),
    "IOAS_UNMAP": calls(lambda g: uapi.IoasUnmap.of(ioas_id=g.ioas, iova=APERTURE, length=2 * PAGE)),
    "OPTION": calls(lambda g: uapi.Option.of(option_id=1, op=0, object_id=g.other, val64=0)),
    "VFIO_IOAS": calls(lambda g: uapi.VfioIoas.of(ioas_id=g.ioas, op=1)),
    "HWPT_ALLOC, paging": calls(lambda g: uapi.HwptAlloc.of(dev_id=g.device, pt_id=g.ioas, flags=2)),
    "HWPT_ALLOC, nested on a vIOMMU": lambda g: lambda: g.client.hwpt(g.device, g.viommu, 0, NESTED),
    "HWPT_ALLOC, nested on its parent": lambda g: lambda: g.client.hwpt(g.device, g.parent, 4, NESTED, g.fault),
    "GET_HW_INFO": calls(lambda g: uapi.HwInfo.of(dev_id=g.device, data_len=8, data_uptr=DATA)),
    "HWPT_SET_DIRTY_TRACKING": calls(lambda g: uapi.HwptSetDirtyTracking.of(hwpt_id=g.dirty, flags=1)),
    "HWPT_GET_DIRTY_BITMAP": calls(
        lambda g: uapi.HwptGetDirtyBitmap.of(
            hwpt_id=g.dirty, iova=APERTURE, length=2 * PAGE, page_size=PAGE, data=DATA
        ),
    ),
    "HWPT_INVALIDATE": calls(
        lambda g: uapi.HwptInvalidate.of(
            hwpt_id=g.nested, data_type=SELFTEST_VIOMMU, entry_len=8, entry_num=1, data_uptr=DATA + PAGE
        ),
    ),
    "FAULT_QUEUE_ALLOC": calls(lambda _: uapi.FaultAlloc.of()),
    "VIOMMU_ALLOC": calls(
        lambda g: uapi.ViommuAlloc.of(type=SELFTEST_VIOMMU, dev_id=g.device, hwpt_id=g.parent),
    ),
    "VIOMMU_ALLOC with data": calls(
        lambda g: uapi.ViommuAlloc.of(
            type=SELFTEST_VIOMMU, dev_id=g.device, hwpt_id=g.parent, data_len=24, data_uptr=DATA
        ),
    ),
    "VEVENTQ_ALLOC": calls(
        lambda g: uapi.VeventqAlloc.of(viommu_id=g.viommu, type=SELFTEST_EVENTS, veventq_depth=2),
    ),
    "HW_QUEUE_ALLOC": calls(
        lambda g: uapi.HwQueueAlloc.of(
            viommu_id=g.viommu, type=SELFTEST_VIOMMU, nesting_parent_iova=APERTURE, length=PAGE
        ),
    ),
    "DESTROY": calls(lambda g: uapi.Destroy.of(id=g.other)),
    "DESTROY of a device's handle": calls(lambda g: uapi.Destroy.of(id=g.stdev)),
    "MOCK_DOMAIN": operation(2, "ioas", ("I", 0), ("I", 0), ("I", 0)),
    "MOCK_DOMAIN on an empty IOAS": operation(2, "other", ("I", 0), ("I", 0), ("I", 0)),
    "MOCK_DOMAIN_REPLACE": operation(10, "stdev", ("I", "nested")),
    "MOCK_DOMAIN_REPLACE by an IOAS": operation(10, "stdev", ("I", "other")),
    "ADD_RESERVED": operation(1, "other", ("Q", PAGE), ("Q", PAGE)),
    "CREATE_ACCESS": operation(5, "ioas", ("I", 0), ("I", 1)),
    "ACCESS_PAGES": pins_pages,
    "ACCESS_RW": reads_and_writes,
    "ACCESS_REPLACE_IOAS": replaces_the_ioas_of_an_access,
    "TRIGGER_IOPF": operation(15, "", ("I", "device"), ("I", 0), ("I", 1), ("I", 1), ("Q", PAGE)),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_fails_inside_leaves_nothing_behind(name: str) -> None:
    for nth in range(1, POINTS):
        ground = Ground()
        client = ground.client
        act = SCENARIOS[name](ground)
        before = state_of(client)
        with fail_nth(nth) as injection:
            act()
        result = client.result
        if injection.happened:
            assert result < 0 or name in SWALLOW, f"failure {nth} is swallowed"
            assert result >= 0 or not differences(before, state_of(client)), f"failure {nth} ({result}) leaves traces"
        client.close()
        assert not pins_of(client)
        assert client.process.account.pinned == 0
        if not injection.happened:
            assert result >= 0
            return
    pytest.fail("an ioctl without end of failure points")
