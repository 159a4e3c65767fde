"""What every ioctl stands on, and one call of each that succeeds: for tests that let something inside it fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.iommufd.client import APERTURE, BUFFER, DATA, NUMBERS, PAGE, SELFTEST_EVENTS, SELFTEST_VIOMMU, STRUCT
from tests.iommufd.ground import NESTED, Ground
from viommu.iommufd import experimental, uapi, vfio_compat
from viommu.objects.hwpt import PagingHwpt
from viommu.objects.viommu import Viommu

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.iommufd.uapi_struct import UapiStruct


SWALLOW = ("MOCK_DOMAIN", "MOCK_DOMAIN_FLAGS")
"""An attach to an IOAS takes the next HWPT, or makes one, where one does not fit."""


def calls(cmd: Callable[[Ground], UapiStruct]) -> Callable[[Ground], Callable[[], object]]:
    def prepare(ground: Ground) -> Callable[[], object]:
        made = cmd(ground)
        return lambda: ground.client.call(made)

    return prepare


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


def pasid(op: int, pasid: int, hwpt: str, *before: int) -> Callable[[Ground], Callable[[], object]]:
    """An operation on a PASID of the device, which is attached first where ``before`` says to what."""

    def prepare(ground: Ground) -> Callable[[], object]:
        ground.test(10, ground.stdev, ("I", ground.pasid))  # beside PASIDs the RID needs such a HWPT too
        for number in before:
            ground.test(18, ground.stdev, ("I", number), ("I", ground.pasid))
            assert ground.client.result == 0, ground.client.result
        return lambda: ground.test(op, ground.stdev, ("I", pasid), ("I", getattr(ground, hwpt)))

    return prepare


def vfio(number: int, cmd: UapiStruct | int, *before: int) -> Callable[[Ground], Callable[[], object]]:
    """A call of VFIO's container: of a structure, or of a plain number."""

    def prepare(ground: Ground) -> Callable[[], object]:
        client = ground.client
        client.must(uapi.VfioIoas.of(ioas_id=ground.ioas, op=uapi.VfioIoasOp.SET))
        if before:
            client.unmap(ground.ioas, APERTURE, 2 * PAGE)
            client.result = client.subject.ioctl(client.process, client.file, VFIO_SET_IOMMU, 1)
            assert client.result == 0
            client.map(ground.ioas, APERTURE, 2 * PAGE)

        def act() -> None:
            argument = cmd if isinstance(cmd, int) else STRUCT
            if not isinstance(cmd, int):
                client.process.write(STRUCT, cmd.encode())
            client.result = client.subject.ioctl(client.process, client.file, number, argument)

        return act

    return prepare


def moves_to_another_process(ground: Ground) -> Callable[[], object]:
    client = ground.client
    client.unmap(ground.ioas, APERTURE, 2 * PAGE)
    client.must(uapi.IoasMapFile.of(flags=7, ioas_id=ground.ioas, fd=ground.memfd(4), length=2 * PAGE, iova=APERTURE))
    heir = client.process.world.process(1)
    heir.everything_mapped = True
    heir.write(STRUCT, uapi.IoasChangeProcess.of().encode())

    def act() -> None:
        client.result = client.subject.ioctl(heir, client.file, NUMBERS[uapi.IoasChangeProcess], STRUCT)

    return act


def dma_buf(ground: Ground) -> Callable[[], object]:
    ground.test(22, 0, ("I", 4 * PAGE), ("I", 0))
    number = ground.client.result
    assert number >= 0
    cmd = uapi.IoasMapFile.of(flags=7, ioas_id=ground.ioas, fd=number, length=2 * PAGE, iova=APERTURE + 8 * PAGE)
    return lambda: ground.client.call(cmd)


def reads_a_page_request(ground: Ground) -> Callable[[], object]:
    client = ground.client
    client.test(10, ground.stdev, ("I", ground.faulting()))
    ground.test(15, 0, ("I", ground.device), ("I", 0), ("I", 1), ("I", 1), ("Q", PAGE))
    assert client.result == 0
    file = client.process.files[ground.fault_fd].file

    def act() -> None:
        client.result = client.subject.read(client.process, file, DATA, uapi.HwptPgfault.total)

    return act


def destroys(make: Callable[[Ground], int]) -> Callable[[Ground], Callable[[], object]]:
    def prepare(ground: Ground) -> Callable[[], object]:
        number = make(ground)
        assert ground.client.result >= 0, ground.client.result
        return lambda: ground.client.call(uapi.Destroy.of(id=number))

    return prepare


def sets_stage2(ground: Ground) -> Callable[[], object]:
    # The machine's IOMMU has a policy of its own, which mock devices' does not follow: this one was empty once.
    empty = ground.client.viommu(ground.device, ground.parent)
    viommu = ground.client.file.context.table.find(empty, Viommu, "id")
    ground.client.file.context.table.find(ground.parent, PagingHwpt, "id").drop()
    viommu.stage2 = viommu.data.parent = None
    return lambda: ground.client.call(experimental.SetStage2.of(viommu_id=empty, hwpt_id=ground.parent))


def invalidates_a_device_tlb(ground: Ground) -> Callable[[], object]:
    raw = experimental.DeviceTlbRange.of(virt_id=9, last=PAGE - 1).encode()
    ground.client.process.write(DATA + 2 * PAGE, raw)
    cmd = experimental.DeviceTlbInvalidate.of(
        viommu_id=ground.viommu, entry_num=1, entry_len=len(raw), data_uptr=DATA + 2 * PAGE
    )
    return lambda: ground.client.call(cmd)


VFIO_SET_IOMMU, VFIO_INFO, VFIO_MAP, VFIO_UNMAP, VFIO_EXTENSION, VFIO_VERSION = (
    *(0x3B66, 0x3B70, 0x3B71, 0x3B72, 0x3B65, 0x3B64),
)

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
    "IOAS_MAP at a place": calls(
        lambda g: uapi.IoasMap.of(
            flags=7, ioas_id=g.ioas, user_va=BUFFER + 8 * PAGE, length=3 * PAGE, iova=APERTURE + 9 * PAGE
        ),
    ),
    "IOAS_MAP_FILE": calls(
        lambda g: uapi.IoasMapFile.of(flags=6, ioas_id=g.ioas, fd=g.memfd(4), start=PAGE, length=2 * PAGE),
    ),
    "IOAS_MAP_FILE of a dma-buf": dma_buf,
    "IOAS_COPY into page tables": calls(
        lambda g: uapi.IoasCopy.of(
            flags=7,
            dst_ioas_id=g.ioas,
            src_ioas_id=g.ioas,
            length=2 * PAGE,
            src_iova=APERTURE,
            dst_iova=APERTURE + 4 * PAGE,
        ),
    ),
    "IOAS_CHANGE_PROCESS": moves_to_another_process,
    "VDEVICE_ALLOC": calls(
        lambda g: uapi.VdeviceAlloc.of(viommu_id=g.viommu, dev_id=g.second_device(), virt_id=10),
    ),
    "HW_QUEUE_ALLOC after another": calls(lambda g: g.after_a_queue()),
    "HWPT_ALLOC, paging for PASIDs": calls(lambda g: uapi.HwptAlloc.of(dev_id=g.device, pt_id=g.ioas, flags=8)),
    "HWPT_SET_DIRTY_TRACKING off": calls(lambda g: uapi.HwptSetDirtyTracking.of(hwpt_id=g.tracked(), flags=0)),
    "HWPT_GET_DIRTY_BITMAP with marks": calls(
        lambda g: uapi.HwptGetDirtyBitmap.of(
            hwpt_id=g.written(), iova=APERTURE, length=2 * PAGE, page_size=PAGE, data=DATA
        ),
    ),
    "HWPT_INVALIDATE by vIOMMU": calls(
        lambda g: uapi.HwptInvalidate.of(
            hwpt_id=g.viommu, data_type=SELFTEST_VIOMMU, entry_len=12, entry_num=1, data_uptr=g.guest_request()
        ),
    ),
    "PASID_ATTACH": pasid(18, 1, "pasid"),
    "PASID_REPLACE": pasid(19, 1, "other_pasid", 1),
    "PASID_DETACH": pasid(20, 1, "pasid", 1),
    "MOCK_DOMAIN_FLAGS": operation(12, "ioas", ("I", 0), ("I", 0), ("I", 0), ("I", 4)),
    "DESTROY of a vDEVICE": destroys(lambda g: g.vdevice.out_vdevice_id),
    "DESTROY of a nested HWPT": destroys(lambda g: g.nested),
    "DESTROY of a paging HWPT": destroys(lambda g: g.dirty),
    "DESTROY of a FAULT": destroys(lambda g: g.closed_fault()),
    "DESTROY of a hardware queue": destroys(
        lambda g: g.client.must(g.queue(0)).out_hw_queue_id,
    ),
    "reading a FAULT": reads_a_page_request,
    "VFIO_IOMMU_MAP_DMA": vfio(
        VFIO_MAP,
        vfio_compat.Map.of(argsz=32, flags=3, vaddr=BUFFER + 8 * PAGE, iova=APERTURE + 8 * PAGE, size=2 * PAGE),
    ),
    "VFIO_IOMMU_UNMAP_DMA": vfio(VFIO_UNMAP, vfio_compat.Unmap.of(argsz=24, iova=APERTURE, size=2 * PAGE)),
    "VFIO_IOMMU_UNMAP_DMA of a part": vfio(VFIO_UNMAP, vfio_compat.Unmap.of(argsz=24, iova=APERTURE, size=PAGE), 1),
    "VFIO_IOMMU_GET_INFO": vfio(VFIO_INFO, vfio_compat.Info.of(argsz=512)),
    "VFIO_SET_IOMMU": vfio(VFIO_SET_IOMMU, 3),
    "VFIO_CHECK_EXTENSION": vfio(VFIO_EXTENSION, 4),
    "VFIO_GET_API_VERSION": vfio(VFIO_VERSION, 0),
    "SET_STAGE2": sets_stage2,
    "SET_FAULT": calls(lambda g: experimental.SetFault.of(viommu_id=g.viommu, fault_id=g.fault)),
    "DEVICE_TLB_INVALIDATE": invalidates_a_device_tlb,
}
