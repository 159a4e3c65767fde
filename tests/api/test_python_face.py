"""iommufd for Python: the same answers as by bytes, and errors that say what is wrong."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import weakref

import numpy as np
import pytest

from tests.api.selftest_machine import APERTURE, DATA, EVENTS, NESTED, QUEUE, VIOMMU, Setup
from viommu import Machine
from viommu.api.events import Event
from viommu.errors import BadValue
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwCapabilities
from viommu.kernel_errors import Busy, Exists, Invalid, NotAnIoctl, NotPermitted, NotThere, Overflow, Unsupported
from viommu.objects.context import Accounting
from viommu.objects.fault import report_fault
from viommu.objects.veventq import report_event
from viommu.objects.viommu import Viommu as ViommuObject
from viommu.ops import PageFault


def test_objects_say_what_they_are() -> None:
    with Machine("selftest", memory="1M") as machine, machine.open_iommufd() as iommu:
        device = iommu.bind(machine.add_device(3, name="NIC"))
        ioas = iommu.ioas_alloc()
        ioas.map(machine.buffer("4K"), APERTURE)
        parent = ioas.hwpt_alloc(device, nest_parent=True)
        viommu = parent.viommu_alloc(device, VIOMMU)
        nested = viommu.hwpt_alloc(device, NESTED, data_type=DATA)

        assert [repr(found) for found in (ioas, parent, viommu, nested, device)] == [
            "<Ioas 2 with 1 mappings>",
            "<Hwpt 3, a nesting parent, on Ioas 2>",
            "<Viommu 4 of type 0xdeadbeef, on Hwpt 3>",
            "<NestedHwpt 5 on Viommu 4>",
            "<Device 1 'NIC', blocked>",
        ]
        assert repr(viommu.vdevice_alloc(device, 0x42)) == "<Vdevice 6: Device 1 is 0x42 on Viommu 4>"
        device.attach(nested)
        assert repr(device) == "<Device 1 'NIC', attached to HWPT_NESTED 5>"
        assert repr(iommu).startswith("<Iommufd with DEVICE 1, IOAS 2, HWPT_PAGING 3,")
    assert repr(iommu) == "<Iommufd, closed>"


def test_what_a_with_block_makes_it_destroys() -> None:
    setup = Setup.make()
    with setup.iommu.ioas_alloc() as ioas:
        pass
    assert repr(ioas) == f"<Ioas {ioas.id} with 0 mappings, destroyed>"
    with setup.iommu.ioas_alloc() as again:
        assert again.id == ioas.id
        again.destroy()


def test_errors_are_os_errors_that_name_object_field_value_and_bound() -> None:
    setup = Setup.make()
    with pytest.raises(Busy, match=r"EBUSY: IOAS \d users 0x1: something still holds it") as refused:
        setup.ioas.destroy()
    assert isinstance(refused.value, OSError)
    assert refused.value.errno == errno.EBUSY
    assert refused.value.field == "users"
    assert setup.ioas.is_alive
    with pytest.raises(Invalid):
        setup.iommu.bind(setup.machine.add_device(4)).replace(setup.ioas)
    with pytest.raises(Busy, match="owner"):
        setup.iommu.bind(setup.device.endpoint)


def test_memory_is_mapped_copied_and_unmapped() -> None:
    setup = Setup.make()
    page = setup.machine.buffer("8K")
    chosen = setup.ioas.map(page)
    other = setup.iommu.ioas_alloc()
    assert other.copy(setup.ioas, chosen, 0x2000, 0x9000, write=False) == 0x9000
    assert other.unmap(0x9000, 0x2000) == 0x2000
    with pytest.raises(Exists):
        setup.ioas.map(page, chosen)
    assert setup.ioas.unmap(chosen, 0x2000) == 0x2000
    with pytest.raises(NotThere):
        setup.ioas.unmap(chosen, 0x2000)
    with pytest.raises(Overflow):
        setup.ioas.unmap(1 << 63, 1 << 63 | 1)
    assert setup.ioas.unmap_all() == 0x10000


def test_files_are_mapped() -> None:
    setup = Setup.make()
    fd = os.memfd_create("memory")
    try:
        os.truncate(fd, 0x4000)
        iova = setup.ioas.map_file(fd, 0x1000, 0x2000, APERTURE + 0x100000)
        assert iova == APERTURE + 0x100000
        with pytest.raises(Invalid):
            setup.iommu.change_process()
    finally:
        os.close(fd)
    assert setup.ioas.unmap(iova, 0x2000) == 0x2000


def test_what_is_mapped_stays_alive() -> None:
    setup = Setup.make()
    array = np.ones(0x3000, np.uint8)
    trace, start = weakref.ref(array), (array.ctypes.data + 0xFFF & -0x1000) - array.ctypes.data
    iova = setup.ioas.map(array[start : start + 0x1000])
    del array
    gc.collect()
    assert trace() is not None
    setup.ioas.unmap(iova, 0x1000)
    gc.collect()
    assert trace() is None


def test_a_buffer_with_holes_cannot_be_mapped() -> None:
    with pytest.raises(BadValue, match="buffer 'strides"):
        Setup.make().ioas.map(np.zeros((4, 4096), np.uint8)[:, ::2])


def test_ranges_and_options_are_told() -> None:
    setup = Setup.make()
    setup.device.attach(setup.ioas)
    assert setup.ioas.ranges() == [(APERTURE, (1 << 31) - 1)]
    setup.ioas.allow([(0x2000_0000, 0x2FFF_FFFF)])
    assert 0x2000_0000 <= setup.ioas.map(setup.machine.buffer(4096)) <= 0x2FFF_FFFF
    setup.ioas.allow([])
    assert setup.ioas.alignment == 2048
    fresh = setup.iommu.ioas_alloc()
    assert (fresh.huge_pages, fresh.alignment) == (True, 1)
    fresh.huge_pages = False
    assert (fresh.huge_pages, fresh.alignment) == (False, 4096)
    assert setup.iommu.accounting is Accounting.USER
    with pytest.raises((Busy, NotPermitted), match="RLIMIT_MODE"):
        setup.iommu.accounting = Accounting.MM


def test_many_ranges_are_told_whole() -> None:
    ioas = Setup.make().iommu.ioas_alloc()
    ioas.allow([(start << 20, (start << 20) + 0xFFF) for start in range(20)])
    assert ioas.ranges() == [(0, (1 << 64) - 1)]


def test_devices_are_attached_replaced_and_detached() -> None:
    setup = Setup.make()
    automatic = setup.device.attach(setup.ioas)
    assert setup.device.replace(setup.parent) == setup.parent.id != automatic
    with pytest.raises(Busy):
        setup.device.attach(setup.parent)
    with_pasids = setup.ioas.hwpt_alloc(setup.device, pasid=True)
    setup.device.replace(with_pasids)
    setup.device.attach(with_pasids, pasid=5)
    setup.device.detach(pasid=5)
    setup.device.detach()
    with_pasids.destroy()
    setup.device.destroy()
    assert setup.device.endpoint.physical.owner is None


def test_hardware_tells_its_registers() -> None:
    info = Setup.make().device.hw_info()
    assert (info.data_type, info.data.hex()) == (0xFEEDBEEF, "00000000efbeadde")
    assert HwCapabilities.DIRTY_TRACKING in info.capabilities
    assert info.registers(uapi.HwInfoAmd).efr == 0xDEADBEEF << 32
    with pytest.raises(Unsupported):
        Setup.make().device.hw_info(0x77)


def test_dirty_pages_are_told_as_booleans() -> None:
    setup = Setup.make()
    tracked = setup.ioas.hwpt_alloc(setup.device, dirty_tracking=True)
    tracked.set_dirty_tracking(enable=True)

    bitmap = tracked.dirty_bitmap(APERTURE, 0x10000)

    assert bitmap.dtype == np.bool_
    assert bitmap.tolist() == [False] * 16
    with pytest.raises(Unsupported):
        setup.parent.dirty_bitmap(APERTURE, 0x1000)


def test_invalidations_say_how_many_were_done() -> None:
    setup = Setup.make()
    viommu = setup.viommu()
    nested = viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA)
    viommu.vdevice_alloc(setup.device, 7)
    good = np.array([[0, 7, 1], [0, 7, 2]], np.uint32)

    assert viommu.invalidate(good, data_type=VIOMMU) == 2
    assert setup.device.endpoint.physical.data.cache == [0xBADDAD, 0, 0, 0xBADDAD]
    bad = [row.tobytes() for row in np.array([[0, 7, 0], [0, 8, 3]], np.uint32)]
    with pytest.raises(Invalid, match="virt_id 0x8") as refused:
        viommu.invalidate(bad, data_type=VIOMMU)
    assert refused.value.done == 1
    assert nested.invalidate([bytes(8)], data_type=VIOMMU) == 1
    with pytest.raises(BadValue, match="data_type"):
        nested.invalidate([bytes(8)])
    with pytest.raises(BadValue, match="one length"):
        nested.invalidate([bytes(8), bytes(4)], data_type=VIOMMU)


def test_a_hardware_queue_lies_in_the_parent_s_memory() -> None:
    setup = Setup.make()
    viommu = setup.viommu()
    queue = viommu.hw_queue_alloc(QUEUE, 0, APERTURE, 0x10000)  # RAM of a machine is contiguous
    assert repr(queue) == f"<HwQueue {queue.id} 0 of type 0xdeadbeef on {viommu.label}>"
    with pytest.raises(Busy):
        setup.ioas.unmap(APERTURE, 0x10000)
    queue.destroy()
    assert setup.ioas.unmap(APERTURE, 0x10000) == 0x10000


def test_registers_that_a_driver_offers_are_mapped() -> None:
    setup = Setup.make()
    viommu = setup.parent.viommu_alloc(setup.device, VIOMMU, bytes.fromhex("78563412").ljust(24, b"\0"))
    first, second, offset, length = np.frombuffer(viommu.data, "<u4,<u4,<u8,<u8")[0]
    assert (first, second) == (0x12345678, 0x12345678)
    mapping = viommu.mmap(int(offset), int(length))
    assert mapping.read(0, 4).hex() == "78563412"
    mapping.close()
    with pytest.raises(OSError, match="mmap offset"):
        viommu.mmap(int(offset) + 4096, 4096)


def test_events_are_read_with_their_numbers_and_marks() -> None:
    setup = Setup.make()
    viommu = setup.viommu()
    queue = viommu.veventq_alloc(EVENTS, depth=2)
    assert queue.read() == []
    source = setup.iommu.found(viommu.id, ViommuObject)
    for number in range(3):
        report_event(source, EVENTS, bytes([number] * 4 * (number + 1)))

    found = queue.read()

    assert found == [Event(0, b"\0" * 4), Event(1, b"\1" * 8), Event(2, b"")]
    assert [event.lost for event in found] == [False, False, True]
    with pytest.raises(Exists):
        viommu.veventq_alloc(EVENTS)
    queue.destroy()
    assert not queue.is_alive


def test_events_are_waited_for() -> None:
    setup = Setup.make()
    viommu = setup.viommu()
    queue = viommu.veventq_alloc(EVENTS)
    source = setup.iommu.found(viommu.id, ViommuObject)

    async def first_two() -> list[int]:
        found: list[int] = []
        async for event in queue:
            found.append(event.sequence)
            if len(found) == 2:
                return found
        return found

    async def both() -> list[int]:
        waiting = asyncio.create_task(first_two())
        for _ in range(2):
            await asyncio.sleep(0)
            report_event(source, EVENTS, bytes(4))
        return await asyncio.wait_for(waiting, 10)

    assert asyncio.run(both()) == [0, 1]


def test_page_requests_are_answered() -> None:
    setup = Setup.make()
    faults = setup.iommu.fault_alloc()
    viommu = setup.viommu()
    nested = viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA, fault=faults)
    viommu.vdevice_alloc(setup.device, 7)
    setup.device.attach(nested)
    physical = setup.device.endpoint.physical
    report_fault(physical, PageFault(0x1000, 1, grpid=4, last=False))
    report_fault(physical, PageFault(0x2000, 2, grpid=4, pasid=9))

    requests = asyncio.run(faults.get())

    assert [(r.dev_id, r.addr, r.perm, r.group, r.pasid, r.last) for r in requests] == [
        (setup.device.id, 0x1000, 1, 4, None, False),
        (setup.device.id, 0x2000, 2, 4, 9, True),
    ]
    faults.respond(requests[-1])
    with pytest.raises(Invalid, match=f"FaultQueue {faults.id} cookie 0x1"):
        faults.respond(requests[-1].cookie, success=False)


def test_closing_gives_devices_back_and_leaves_no_fd() -> None:
    machine = Machine("selftest", memory="1M")
    endpoint = machine.add_device(3)
    for _ in range(3):
        with machine.open_iommufd() as iommu:
            device, ioas = iommu.bind(endpoint), iommu.ioas_alloc()
            device.attach(ioas)
            ioas.map(machine.buffer(4096), APERTURE)
            iommu.fault_alloc()
            ioas.hwpt_alloc(device, nest_parent=True).viommu_alloc(device, VIOMMU).veventq_alloc(EVENTS)
        assert iommu.file.context.table.is_empty
        assert endpoint.physical.owner is None
        assert not machine.process.files
    machine.remove_device(endpoint)
    machine.close()


def test_a_structure_that_no_ioctl_takes_is_a_mistake() -> None:
    iommu = Machine("selftest").open_iommufd()
    with pytest.raises(TypeError, match="no ioctl takes a IovaRange"):
        iommu.call(uapi.IovaRange.of())
    with pytest.raises(TypeError, match="TestCmd"):  # only a driver of test kernels adds it
        Machine("vtd").open_iommufd().call(uapi.TestCmd.of())
    with pytest.raises(NotAnIoctl):
        iommu.file.run(0x3BFF, 0, iommu.process)
