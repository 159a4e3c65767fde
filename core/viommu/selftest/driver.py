"""The hooks that the mock driver implements."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING

from viommu.drivers import bind_plugin
from viommu.hookspecs import DriverInfo, hookimpl
from viommu.kernel_errors import BadAddress, Exists, Invalid, IoError, NoMemory, NotThere, Unsupported
from viommu.objects.physical import PhysicalIommu
from viommu.ops import DeviceFacts, DomainFlags, HwInfo
from viommu.selftest import mock
from viommu.selftest.ahead import (  # noqa: F401 - hooks of this plugin
    viommu_hw_queue_init_iova,
    viommu_invalidate_device_tlb,
    viommu_probe_device,
    viommu_set_stage2,
)
from viommu.selftest.mock import MockDevice, MockFlags, MockHardware, MockNested, MockQueue, MockViommu
from viommu.selftest.page_table import MockPageTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from viommu.hookspecs import HardwareModel, Registers
    from viommu.iommufd.dispatch import AnyIoctl
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DirtyBitmap, PageFault, UserArray, UserData
    from viommu.platform import Platform

hookspec_version = 1

PAGING_FLAGS = DomainFlags.NEST_PARENT | DomainFlags.DIRTY_TRACKING | DomainFlags.PASID
INVALIDATE_ALL = 1
ORDINARY_TABLE, HUGE_TABLE = 0, 1
VIOMMU_DATA = struct.Struct("<IIQQ")


@cache
def mock_iommu() -> PhysicalIommu:
    """Give the one IOMMU that all mock devices are behind."""
    import viommu.selftest.driver as this_module  # noqa: PLC0415, PLW0406 - a plugin is a module

    return PhysicalIommu("selftest", bind_plugin(this_module))


@hookimpl
def viommu_driver_info() -> DriverInfo:
    """The kernel's mock."""
    return DriverInfo(
        name="selftest",
        title="The mock IOMMU of the kernel's iommufd selftests",
        requester_bits=16,
        pasid_bits=20,
        supports=("iommufd", "nested translation", "vIOMMU", "dirty tracking", "PASIDs", "page requests"),
        specification="Linux 7.2, drivers/iommu/iommufd/selftest.c (behaviour)",
    )


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """There are no structures in memory."""
    return {}


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel:  # noqa: ARG001
    """Give hardware that does nothing."""
    return MockHardware()


@hookimpl
def viommu_ioctls() -> Sequence[AnyIoctl]:
    """Give what a test kernel answers in its own way."""
    from viommu.selftest.test_cmd import ROWS  # noqa: PLC0415 - its operations need this driver

    return ROWS


# --- alloc


@hookimpl
def viommu_device_facts(device: PhysicalDevice) -> DeviceFacts:
    """Say what the flags of a mock device mean."""
    flags = _mock(device).flags
    return DeviceFacts(
        dirty_tracking=MockFlags.NO_DIRTY not in flags,
        max_pasids=mock.MAX_PASIDS if MockFlags.PASID in flags else 0,
        user_pasid_table=True,
    )


@hookimpl
def viommu_hw_info(device: PhysicalDevice, data_type: int) -> HwInfo:  # noqa: ARG001
    """Give the one register."""
    if data_type not in {0, mock.HW_INFO_TYPE}:
        raise Unsupported("mock device", "data type", data_type, f"0 or {mock.HW_INFO_TYPE:#x}")
    return HwInfo(mock.HW_INFO_TYPE, struct.pack("<II", 0, mock.HW_INFO_REGISTER))


@hookimpl
def viommu_alloc_paging(device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> MockPageTable:
    """Make a page table; driver data chooses which kind."""
    kind = _table_kind(data)
    wants_dirty = DomainFlags.DIRTY_TRACKING in flags
    if flags & ~PAGING_FLAGS or (wants_dirty and MockFlags.NO_DIRTY in _mock(device).flags):
        raise Unsupported("mock domain", "flags", int(flags), f"of {int(PAGING_FLAGS):#x}, as the device can")
    if kind not in {ORDINARY_TABLE, HUGE_TABLE}:
        raise Unsupported("mock domain", "page table type", kind, "0 or 1")
    return MockPageTable(dirty_tracking=wants_dirty, huge=kind == HUGE_TABLE)


@hookimpl
def viommu_free_domain(domain: MockPageTable | MockNested) -> None:
    """There is no hardware that could know it."""


@hookimpl
def viommu_alloc_nested(
    device: PhysicalDevice,  # noqa: ARG001
    parent: MockPageTable,  # noqa: ARG001
    flags: DomainFlags,
    data: UserData,
) -> MockNested:
    """Make a nested domain on a parent."""
    return _nested(flags, data, None)


@hookimpl
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> MockNested:
    """Make a nested domain on a vIOMMU."""
    return _nested(flags, data, viommu)


@hookimpl
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool:  # noqa: ARG001
    """There is one type."""
    return viommu_type == mock.VIOMMU_TYPE


@hookimpl
def viommu_init(viommu: Viommu, parent: MockPageTable, data: UserData | None) -> None:
    """Make a vIOMMU; with driver data it shows registers."""
    viommu.data = MockViommu(parent)
    if data is None:
        return
    word = struct.unpack("<I", data.copy(mock.VIOMMU_TYPE, 8, VIOMMU_DATA.size)[:4])[0]
    struct.pack_into("<I", viommu.data.memory, 0, word)
    region = viommu.offer_registers(viommu.data, mock.REGISTER_BYTES)
    viommu.data.region = region
    try:
        data.reply(mock.VIOMMU_TYPE, 8, VIOMMU_DATA.pack(word, word, region.offset, region.length))
    except BaseException:
        viommu.withdraw_registers(region)
        raise


@hookimpl
def viommu_destroy(viommu: Viommu) -> None:
    """Take the registers back."""
    if viommu.data.region is not None:
        viommu.withdraw_registers(viommu.data.region)


# --- attach


@hookimpl
def viommu_release_device(device: PhysicalDevice) -> None:
    """Keep no device of a mock."""
    device.data = None


@hookimpl
def viommu_attach(device: PhysicalDevice, pasid: int, domain: MockPageTable | MockNested) -> None:
    """Attach; a nested domain of a vIOMMU wants a vDEVICE there."""
    if pasid:
        _attach_pasid(_mock(device), pasid)
        return
    if isinstance(domain, MockPageTable):
        if domain.dirty_tracking and MockFlags.NO_DIRTY in _mock(device).flags:
            raise Invalid(device.name, "dirty tracking", bound="of a device that has it")
        _mock(device).remember(None, 0)
        return
    _mock(device).remember(domain.viommu, _virt_id(device, domain.viommu))


@hookimpl
def viommu_detach(device: PhysicalDevice, pasid: int) -> None:
    """Block."""
    if not pasid:
        _mock(device).remember(None, 0)
    elif pasid == mock.FAILING_PASID:
        _mock(device).fails_next = False


# --- vqueue


@hookimpl
def viommu_supports_hw_queue(viommu: Viommu, queue_type: int) -> bool:  # noqa: ARG001
    """There is one type."""
    return queue_type == mock.HW_QUEUE_TYPE


@hookimpl
def viommu_hw_queue_init(queue: HwQueue, index: int, base_pa: int) -> None:
    """Take a queue, in the order of indices."""
    box: MockViommu = queue.viommu.data
    if index >= mock.HW_QUEUES:
        raise Invalid(queue.title, "index", index, f"below {mock.HW_QUEUES}")
    if index in box.queues:
        raise Exists(queue.title, "index", index, "not taken")
    previous = box.queues.get(index - 1)
    if index and previous is None:
        raise IoError(queue.title, "index", index, "allocated after the one before it")
    if base_pa != box.parent.physical(queue.iova):
        raise BadAddress(queue.title, "base", base_pa, "what the parent translates to")
    if previous is not None:
        queue.depend_on(previous)
    queue.data = MockQueue(index, previous)
    box.queues[index] = queue


@hookimpl
def viommu_hw_queue_destroy(queue: HwQueue) -> None:
    """Forget a queue."""
    del queue.viommu.data.queues[queue.data.index]
    if queue.data.previous is not None:
        queue.undepend_on(queue.data.previous)


# --- invalidate


@hookimpl
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Clear entries of devices' caches."""
    if not requests.count and requests.type == mock.INVALIDATE_TYPE:
        return True
    for raw in requests.whole(mock.INVALIDATE_TYPE, 12):
        flags, virt_id, entry = struct.unpack("<III", raw)
        _check_request(flags, entry)
        device = viommu.find_device(virt_id)
        if device is None:
            raise Invalid(viommu.title, "virt_id", virt_id, "that of a vDEVICE")
        _clear(_mock(device).cache, flags, entry)
        requests.done += 1
    return True


@hookimpl
def viommu_invalidate_nested(domain: MockNested, requests: UserArray) -> bool:
    """Clear entries of a nested domain's IOTLB."""
    if requests.type != mock.INVALIDATE_TYPE:
        raise Invalid("mock nested domain", "data_type", requests.type, f"{mock.INVALIDATE_TYPE:#x}")
    for index in range(requests.count):
        flags, entry = struct.unpack("<II", requests.entry(index, mock.INVALIDATE_TYPE, 8, 8))
        _check_request(flags, entry)
        _clear(domain.iotlb, flags, entry)
        requests.done += 1
    return True


# --- fault, dirty


@hookimpl
def viommu_page_response(device: PhysicalDevice, fault: PageFault, success: bool) -> None:
    """Take no notice."""


@hookimpl
def viommu_set_dirty_tracking(domain: MockPageTable, enable: bool) -> bool:
    """Switch tracking; marks stay."""
    domain.tracking = enable
    return True


@hookimpl
def viommu_read_dirty(domain: MockPageTable, iova: int, length: int, clear: bool, bitmap: DirtyBitmap | None) -> bool:
    """Report marked entries."""
    domain.read_dirty(iova, length, bitmap, clear=clear)
    return True


def _mock(device: PhysicalDevice) -> MockDevice:
    found: MockDevice = device.data
    return found


def _table_kind(data: UserData | None) -> int:
    if data is None:
        return ORDINARY_TABLE
    if data.type != mock.HWPT_DATA_TYPE:
        raise Unsupported("mock domain", "data_type", data.type, f"{mock.HWPT_DATA_TYPE:#x}")
    kind: int = struct.unpack("<II", data.copy(mock.HWPT_DATA_TYPE, 4, 8))[1]
    return kind


def _nested(flags: DomainFlags, data: UserData, viommu: Viommu | None) -> MockNested:
    if flags & ~DomainFlags.PASID:
        raise Unsupported("mock nested domain", "flags", int(flags), "of PASID")
    if data.type != mock.HWPT_DATA_TYPE:
        raise Unsupported("mock nested domain", "data_type", data.type, f"{mock.HWPT_DATA_TYPE:#x}")
    value = struct.unpack("<II", data.copy(mock.HWPT_DATA_TYPE, 4, 8))[0]
    return MockNested([value] * mock.CACHE_ENTRIES, viommu)


def _virt_id(device: PhysicalDevice, viommu: Viommu | None) -> int:
    if viommu is None:
        return 0
    virt_id = viommu.virt_id_of(device)
    if virt_id is None:
        raise NotThere(device.name, "vDEVICE", bound=f"one on {viommu.title}")
    return virt_id


def _attach_pasid(device: MockDevice, pasid: int) -> None:
    if pasid != mock.FAILING_PASID:
        return
    device.fails_next = not device.fails_next
    if not device.fails_next:
        raise NoMemory("mock device", "PASID", pasid, "replaced at the second try")


def _check_request(flags: int, entry: int) -> None:
    if flags & ~INVALIDATE_ALL:
        raise Unsupported("invalidation", "flags", flags, f"of {INVALIDATE_ALL:#x}")
    if entry >= mock.CACHE_ENTRIES:
        raise Invalid("invalidation", "entry", entry, f"below {mock.CACHE_ENTRIES}")


def _clear(entries: list[int], flags: int, entry: int) -> None:
    for index in range(len(entries)) if flags & INVALIDATE_ALL else (entry,):
        entries[index] = 0
