"""Each switch that is ahead of mainline, both ways."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import evolve

from tests.api.selftest_machine import APERTURE, DATA, EVENTS, NESTED, QUEUE, VIOMMU, Setup
from viommu import hookimpl
from viommu.api.viommu import DeviceTlbEntry
from viommu.drivers import bind, bind_plugin
from viommu.failure import fail_nth
from viommu.iommufd import experimental, uapi
from viommu.kernel_errors import (
    BadFile,
    Busy,
    Exists,
    Invalid,
    KernelError,
    NotAnIoctl,
    NotThere,
    TooBig,
    Unsupported,
    WrongFile,
)
from viommu.objects.fault import report_fault
from viommu.objects.viommu import Viommu as ViommuObject
from viommu.ops import DeviceFacts, PageFault
from viommu.policies import MAINLINE, Policy, VmidOwner
from viommu.selftest import driver

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

LATE = Policy(late_stage2=True)
BY_IOVA = Policy(iova_queues=True)
DEVICE_TLBS = Policy(device_tlb_invalidation=True)
REQUESTS = Policy(viommu_page_requests=True)
BY_ID = Policy(viommu_page_requests=True, fault_by_virtual_id=True)
OF_KVM = Policy(vmid_owner=VmidOwner.KVM)


# --- late binding of stage 2


def test_mainline_wants_stage_2_first() -> None:
    setup = Setup.make()
    with pytest.raises(NotThere, match="hwpt_id 0x0"):
        setup.iommu.viommu_alloc(setup.device, VIOMMU)
    with pytest.raises(NotAnIoctl):
        setup.viommu().set_stage2(setup.parent)


def test_an_empty_viommu_takes_its_stage_2_later_and_once() -> None:
    setup = Setup.make(LATE)
    viommu = setup.iommu.viommu_alloc(setup.device, VIOMMU)
    assert repr(viommu).endswith("of type 0xdeadbeef, empty>")

    viommu.vdevice_alloc(setup.device, 7)
    events = viommu.veventq_alloc(EVENTS)
    with pytest.raises(Invalid, match=f"VIOMMU {viommu.id} stage 2: set first"):
        viommu.hw_queue_alloc(QUEUE, 0, APERTURE, 4096)
    with pytest.raises(Invalid, match="stage 2"):
        viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA)
    with pytest.raises(Invalid, match="stage 2"):
        viommu.invalidate(np.zeros((1, 12), np.uint8), data_type=DATA)

    viommu.set_stage2(setup.parent)
    viommu.hw_queue_alloc(QUEUE, 0, APERTURE, 4096)
    setup.device.attach(viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA))
    with pytest.raises(Exists, match="set once"):
        viommu.set_stage2(setup.parent)
    with pytest.raises(Busy):
        setup.parent.destroy()
    assert events.is_alive


def test_what_an_empty_viommu_may_stand_on_is_what_any_may() -> None:
    setup = Setup.make(LATE)
    viommu = setup.iommu.viommu_alloc(setup.device, VIOMMU)
    with pytest.raises(Invalid, match="NEST_PARENT"):
        viommu.set_stage2(setup.ioas.hwpt_alloc(setup.device))
    with pytest.raises(NotThere):
        viommu.set_stage2(setup.ioas)
    viommu.destroy()
    setup.parent.destroy()


def test_with_the_switch_on_the_old_order_still_works() -> None:
    setup = Setup.make(LATE)
    viommu = setup.viommu()
    viommu.hw_queue_alloc(QUEUE, 0, APERTURE, 4096)
    with pytest.raises(Exists):
        viommu.set_stage2(setup.parent)


# --- queues by IOVA


def test_mainline_knows_no_queue_by_iova() -> None:
    with pytest.raises(Unsupported, match="flags 0x80000000"):
        Setup.make().viommu().hw_queue_alloc(QUEUE, 0, APERTURE, 4096, by_iova=True)


def test_a_queue_by_iova_pins_nothing_and_need_not_be_mapped() -> None:
    setup = Setup.make(BY_IOVA)
    viommu = setup.viommu()
    queue = viommu.hw_queue_alloc(QUEUE, 1, APERTURE + (1 << 30), 1 << 20, by_iova=True)
    assert setup.ioas.unmap_all() == 0x10000
    with pytest.raises(Exists):
        viommu.hw_queue_alloc(QUEUE, 1, 0, 4096, by_iova=True)
    with pytest.raises(NotThere):
        viommu.hw_queue_alloc(QUEUE, 0, APERTURE, 4096)
    queue.destroy()
    viommu.destroy()


# --- device TLBs


def test_mainline_has_no_call_for_device_tlbs() -> None:
    with pytest.raises(NotAnIoctl) as refused:
        Setup.make().viommu().invalidate_device_tlbs([DeviceTlbEntry(7)])
    assert refused.value.done == 0


def test_device_tlbs_are_invalidated_in_order_up_to_what_is_wrong() -> None:
    setup = Setup.make(DEVICE_TLBS)
    viommu = setup.viommu()
    viommu.vdevice_alloc(setup.device, 7)
    cache = setup.device.endpoint.physical.data.cache

    assert viommu.invalidate_device_tlbs([DeviceTlbEntry(7, 0x1000, 0x1FFF), DeviceTlbEntry(7, 0, 0xFFF, pasid=0)]) == 2
    assert cache == [0, 0, 0xBADDAD, 0xBADDAD]
    with pytest.raises(NotThere, match="virt_id 0x8") as refused:
        viommu.invalidate_device_tlbs([DeviceTlbEntry(7, 0x2000, 0x2FFF), DeviceTlbEntry(8), DeviceTlbEntry(7)])
    assert refused.value.done == 1
    assert cache == [0, 0, 0, 0xBADDAD]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"start": 2, "last": 1}, "last 0x1: 0x2 or more"),
        ({"pasid": 1 << 20, "flags": 1}, "pasid 0x100000"),
        ({"pasid": 5}, "pasid 0x5"),
    ],
)
def test_an_entry_that_means_nothing_is_invalid(entry: dict[str, int], told: str) -> None:
    setup = Setup.make(DEVICE_TLBS)
    viommu = setup.viommu()
    viommu.vdevice_alloc(setup.device, 7)
    raw = experimental.DeviceTlbRange.of(virt_id=7, **entry).encode()
    with pytest.raises(Invalid, match=told):
        _device_tlbs(setup, viommu.id, raw, len(raw), 1)


def test_the_array_of_device_tlbs_is_checked() -> None:
    setup = Setup.make(DEVICE_TLBS)
    viommu = setup.viommu()
    viommu.vdevice_alloc(setup.device, 7)
    raw = experimental.DeviceTlbRange.of(virt_id=7, last=1).encode()
    for length, count, kind in ((31, 1, Invalid), (32, 0, Invalid), (32, 65537, Invalid), (33, 1, TooBig)):
        with pytest.raises(kind):
            _device_tlbs(setup, viommu.id, raw + b"\1", length, count)
    assert _device_tlbs(setup, viommu.id, raw + b"\0", 33, 1) == 1
    flagged = experimental.DeviceTlbRange.of(virt_id=7, last=1, flags=4).encode()
    with pytest.raises(Unsupported, match="flags 0x4"):
        _device_tlbs(setup, viommu.id, flagged, 32, 1)


def _device_tlbs(setup: Setup, viommu: int, raw: bytes, length: int, count: int) -> int:
    data = setup.machine.buffer(4096)
    data[: len(raw)] = list(raw)
    cmd = experimental.DeviceTlbInvalidate.of(
        viommu_id=viommu, entry_num=count, entry_len=length, data_uptr=data.ctypes.data
    )
    return setup.iommu.call(cmd).entry_num


# --- page requests of a vIOMMU


def test_in_mainline_page_requests_are_a_hwpt_s() -> None:
    setup = Setup.make()
    with pytest.raises(NotAnIoctl):
        setup.viommu().set_fault(setup.iommu.fault_alloc())


def test_page_requests_of_all_vdevices_come_to_the_viommu() -> None:
    setup = Setup.make(REQUESTS)
    viommu, faults = setup.viommu(), setup.iommu.fault_alloc()
    viommu.set_fault(faults)
    other = setup.iommu.bind(setup.machine.add_device(4))
    nested = viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA)
    for virt_id, device in ((7, setup.device), (8, other)):
        viommu.vdevice_alloc(device, virt_id)
        device.attach(nested)
        report_fault(device.endpoint.physical, PageFault(virt_id << 12, 1))

    found = asyncio.run(faults.get())

    assert [(request.dev_id, request.addr) for request in found] == [(setup.device.id, 0x7000), (other.id, 0x8000)]
    faults.respond(found[0])
    faults.respond(found[1], success=False)
    with pytest.raises(Exists):
        viommu.set_fault(faults)
    with pytest.raises(Busy):
        faults.destroy()


def test_a_hwpt_s_own_fault_comes_first() -> None:
    setup = Setup.make(REQUESTS)
    viommu, general, own = setup.viommu(), setup.iommu.fault_alloc(), setup.iommu.fault_alloc()
    viommu.set_fault(general)
    viommu.vdevice_alloc(setup.device, 7)
    setup.device.attach(viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA, fault=own))
    report_fault(setup.device.endpoint.physical, PageFault(0x1000, 1))
    assert (len(own.read()), general.read()) == (1, [])


def test_requests_of_a_vdevice_that_goes_are_answered() -> None:
    setup = Setup.make(REQUESTS)
    viommu, faults = setup.viommu(), setup.iommu.fault_alloc()
    viommu.set_fault(faults)
    vdevice = viommu.vdevice_alloc(setup.device, 7)
    setup.device.attach(viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA))
    report_fault(setup.device.endpoint.physical, PageFault(0x1000, 1))
    (request,) = faults.read()

    vdevice.destroy()

    with pytest.raises(Invalid):
        faults.respond(request)
    with pytest.raises(Invalid, match="page request"):
        report_fault(setup.device.endpoint.physical, PageFault(0x1000, 1))


# --- from (requester, PASID) to the vDEVICE, with no handle


def test_in_mainline_only_what_is_attached_finds_the_listener() -> None:
    setup = Setup.make(REQUESTS)
    viommu = setup.viommu()
    viommu.set_fault(setup.iommu.fault_alloc())
    viommu.vdevice_alloc(setup.device, 7)
    for attached in (None, setup.parent):
        if attached is not None:
            setup.device.attach(attached)
        with pytest.raises(Invalid, match="page request"):
            report_fault(setup.device.endpoint.physical, PageFault(0x1000, 1))


def test_a_vdevice_finds_the_listener_whatever_is_attached() -> None:
    setup = Setup.make(BY_ID)
    viommu, faults = setup.viommu(), setup.iommu.fault_alloc()
    viommu.set_fault(faults)
    viommu.vdevice_alloc(setup.device, 7)
    report_fault(setup.device.endpoint.physical, PageFault(0x1000, 1))
    setup.device.attach(setup.parent)
    report_fault(setup.device.endpoint.physical, PageFault(0x2000, 1, pasid=3))
    assert [(request.addr, request.pasid) for request in faults.read()] == [(0x1000, None), (0x2000, 3)]


class HostHasPasids:
    """A wrapper that lets the mock look like hardware whose PASIDs the host manages."""

    @hookimpl(wrapper=True)
    def viommu_device_facts(self) -> Generator[None, DeviceFacts, DeviceFacts]:
        return evolve((yield), user_pasid_table=False)


@pytest.mark.parametrize("policy", [MAINLINE, Policy(fault_by_virtual_id=True)], ids=["mainline", "by virtual id"])
def test_a_pasid_that_nobody_attached_is_the_guest_s_where_a_vdevice_says_so(policy: Policy) -> None:
    setup = Setup.make(policy, bind("selftest", [HostHasPasids()]))
    viommu, faults = setup.viommu(), setup.iommu.fault_alloc()
    viommu.vdevice_alloc(setup.device, 7)
    setup.device.attach(viommu.hwpt_alloc(setup.device, NESTED, data_type=DATA, fault=faults))
    request = PageFault(0x1000, 1, pasid=3)
    if policy == MAINLINE:
        with pytest.raises(Invalid, match="page request"):
            report_fault(setup.device.endpoint.physical, request)
    else:
        report_fault(setup.device.endpoint.physical, request)
        assert [(found.addr, found.pasid) for found in faults.read()] == [(0x1000, 3)]


# --- whose the VMID is


def test_in_mainline_no_virtual_machine_is_given() -> None:
    setup = Setup.make()
    fd = setup.machine.process.install(setup.machine.create_vm(9))
    with pytest.raises(TooBig):
        setup.parent.viommu_alloc(setup.device, VIOMMU, kvm_fd=fd)
    with pytest.raises(Unsupported, match="flags 0x80000000"):
        setup.iommu.call(
            uapi.ViommuAlloc.of(flags=1 << 31, type=VIOMMU, dev_id=setup.device.id, hwpt_id=setup.parent.id)
        )


def test_a_viommu_shares_the_vmid_of_a_virtual_machine() -> None:
    setup = Setup.make(OF_KVM)
    vm = setup.machine.create_vm(9)
    fd = setup.machine.process.install(vm)
    viommu = setup.parent.viommu_alloc(setup.device, VIOMMU, kvm_fd=fd)
    without = setup.viommu()

    assert setup.iommu.found(viommu.id, ViommuObject).vm is vm
    assert setup.iommu.found(without.id, ViommuObject).vm is None
    setup.machine.process.close(fd)
    assert vm.users == 1
    viommu.destroy()
    assert vm.users == 0
    with pytest.raises(BadFile):
        setup.parent.viommu_alloc(setup.device, VIOMMU, kvm_fd=fd)
    with pytest.raises(WrongFile):
        setup.parent.viommu_alloc(setup.device, VIOMMU, kvm_fd=setup.iommu.fault_alloc().fd)


# --- drivers that lack what a policy wants


def _late(setup: Setup) -> object:
    return setup.iommu.viommu_alloc(setup.device, VIOMMU)


def _by_iova(setup: Setup) -> object:
    return setup.viommu().hw_queue_alloc(QUEUE, 0, APERTURE, 4096, by_iova=True)


def _device_tlb(setup: Setup) -> object:
    return setup.viommu().invalidate_device_tlbs([DeviceTlbEntry(7)])


@pytest.mark.parametrize(
    ("policy", "hook", "call"),
    [
        (LATE, "viommu_set_stage2", _late),
        (BY_IOVA, "viommu_hw_queue_init_iova", _by_iova),
        (DEVICE_TLBS, "viommu_invalidate_device_tlb", _device_tlb),
    ],
)
def test_what_a_driver_cannot_do_stays_unsupported(policy: Policy, hook: str, call: Callable[[Setup], object]) -> None:
    hooks = {name: value for name, value in vars(driver).items() if name.startswith(("viommu_", "hookspec_"))}
    del hooks[hook]
    setup = Setup.make(policy, bind_plugin(SimpleNamespace(**hooks, __name__="lacking")))
    with pytest.raises(Unsupported):
        call(setup)


# --- failures leave nothing behind


def _everything(setup: Setup) -> list[tuple[str, int]]:
    return [(found.title, found.users) for found in setup.iommu.file.context.table]


def _empty_viommu(setup: Setup) -> None:
    setup.iommu.viommu_alloc(setup.device, VIOMMU)


def _stage2(setup: Setup) -> None:
    setup.iommu.call(experimental.SetStage2.of(viommu_id=LAST, hwpt_id=setup.parent.id))


def _fault(setup: Setup) -> None:
    setup.iommu.call(experimental.SetFault.of(viommu_id=LAST, fault_id=LAST + 1))


def _queue(setup: Setup) -> None:
    setup.iommu.call(
        uapi.HwQueueAlloc.of(flags=1 << 31, viommu_id=LAST, type=QUEUE, nesting_parent_iova=0, length=4096)
    )


def _shared_vmid(setup: Setup) -> None:
    fd = setup.machine.process.install(setup.machine.create_vm(9))
    try:
        setup.parent.viommu_alloc(setup.device, VIOMMU, kvm_fd=fd)
    finally:
        setup.machine.process.close(fd)


LAST = 4
"""The id of what is made first after `Setup`."""


@pytest.mark.parametrize(
    ("policy", "before", "call"),
    [
        (LATE, (), _empty_viommu),
        (LATE, (_empty_viommu,), _stage2),
        (REQUESTS, (Setup.viommu, lambda setup: setup.iommu.fault_alloc()), _fault),
        (BY_IOVA, (Setup.viommu,), _queue),
        (OF_KVM, (), _shared_vmid),
    ],
    ids=["empty vIOMMU", "stage 2", "FAULT", "queue by IOVA", "shared VMID"],
)
def test_a_call_that_fails_anywhere_leaves_nothing_behind(
    policy: Policy, before: tuple[Callable[[Setup], object], ...], call: Callable[[Setup], None]
) -> None:
    setup = Setup.make(policy)
    for step in before:
        step(setup)
    nth = 0
    while True:
        nth += 1
        state = _everything(setup)
        with fail_nth(nth) as injection:
            try:
                call(setup)
            except KernelError:
                assert injection.happened
        if not injection.happened:
            break
        assert _everything(setup) == state
    assert nth > 1
    assert _everything(setup) != state
