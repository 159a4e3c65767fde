"""How a machine gives a host driver its hardware, its devices and its interrupts."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.core.hosted_toy import RING, HostedToy, RecordingHardware
from tests.core.toy import ToyDriver
from viommu import Fault, Machine, Translation, hookimpl
from viommu.drivers import bind_plugin
from viommu.errors import BadValue, OutOfRange
from viommu.kernel_errors import Busy, KernelError, NoDevice
from viommu.platform import Completion, TlbBroadcast
from viommu.policies import MAINLINE, Policy

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.hookspecs import HardwareModel
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform

BROADCAST = 0x40


def hosted(toy: HostedToy | None = None, memory: str | int | None = None) -> tuple[Machine, HostedToy]:
    toy = toy or HostedToy()
    return Machine(bind_plugin(toy), memory), toy


def test_nobody_programs_the_hardware_before_there_is_a_device() -> None:
    machine, toy = hosted()
    assert toy.told == []

    machine.add_device(3)
    machine.add_device(4)

    assert toy.told == ["probe", "probed", "rung 0", ("device", 3), ("device", 4)]


def test_a_fault_reaches_the_driver_through_memory() -> None:
    machine, toy = hosted()
    device = machine.add_device(3)

    assert isinstance(device.dma_read(0x5000, 4), Fault)

    assert toy.told[-1] == ("fault", 0x5000)


def test_dma_goes_where_the_driver_s_tables_say() -> None:
    machine, _ = hosted()
    device = machine.add_device(3)
    root, memory = machine.memory.add_ram(0x4000), machine.memory
    memory.store(machine.host().data.pa(8 * 3), root.pa())
    memory.store(root.pa(), root.pa(0x1000) | 3)
    memory.store(root.pa(0x1000), root.pa(0x2000) | 3)
    memory.store(root.pa(0x2000), root.pa(0x3000) | 3)

    assert device.dma_write(0x10, b"nested") is None
    assert device.dma_read(0x10, 6) == memory.read(root.pa(0x3010), 6) == b"nested"
    assert isinstance(device.translate(0x10), Translation)


def test_an_interrupt_that_comes_while_one_is_handled_is_handled_next() -> None:
    machine, toy = hosted(HostedToy(rings=3))
    machine.add_device(3)

    assert toy.told[2:6] == ["rung 0", "rung 0", "rung 1", "rung 2"]
    assert toy.deepest == 1


def test_interrupts_of_many_threads_are_handled_one_at_a_time() -> None:
    machine, toy = hosted()
    machine.add_device(3)
    threads = [threading.Thread(target=machine.write_register, args=(RING, 50)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert toy.deepest == 1
    assert {f"rung {number}" for number in range(50)} <= set(toy.told)


def test_devices_come_and_go() -> None:
    machine, toy = hosted()
    first = machine.add_device(3, pasid_bits=4, ats=True, name="NIC")
    with pytest.raises(Busy, match="EBUSY: toy requester 0x3: not taken by another device"):
        machine.add_device(3)
    assert first.physical.facts.max_pasids == 16
    assert first.ats is not None
    first.reset()
    machine.remove_device(first)

    again = machine.add_device(3)

    assert again.ats is None
    assert toy.told[-3:] == [("reset", 3), ("released", 3), ("device", 3)]
    assert machine.endpoints == [again]


def test_a_device_without_ats_asks_for_no_pages() -> None:
    machine, _ = hosted()
    plain, able = machine.add_device(3), machine.add_device(4, ats=True)
    with pytest.raises(BadValue, match="ats=True"):
        plain.request_page(0x1000)
    able.request_page(0x1000)
    assert able.translate_by_ats(0x1000) is Completion.UNSUPPORTED_REQUEST


def test_a_device_that_its_driver_refuses_was_never_there() -> None:
    machine, toy = hosted()
    with pytest.raises(NoDevice):
        machine.add_device(0x66, ats=True)
    assert not machine.endpoints
    assert not machine.host().devices
    with pytest.raises(OutOfRange, match="RID for toy 0x100"):
        machine.add_device(0x100)
    assert ("released", 0x66) not in toy.told


def test_each_iommu_has_devices_of_its_own() -> None:
    machine, toy = hosted()
    second = machine.add_iommu("toy", name="second")
    left, right = machine.add_device(3), machine.add_device(3, iommu=second)

    assert toy.told.count("probe") == 2
    assert left.physical.iommu is machine.host()
    assert right.physical.iommu is machine.host(second)
    assert right.physical.iommu.driver is left.physical.iommu.driver
    assert isinstance(right.dma_read(0x7000, 1), Fault)
    assert machine.memory.load(machine.host(second).data.pa(0xFF8)) == 0x7000
    assert repr(machine) == "<Machine with toy, second; 2 devices>"
    assert repr(right) == "<Endpoint 'device 0x3' behind second>"
    with pytest.raises(BadValue, match="IOMMU 'toy' is not one of this machine"):
        machine.add_device(5, iommu=hosted()[0])


def test_devices_that_cannot_be_told_apart_share_a_group() -> None:
    machine, _ = hosted()
    first = machine.add_device(3)
    beside = machine.add_device(4, beside=first)
    assert first.physical.group.members == {first.physical, beside.physical}

    machine.remove_device(beside)
    assert first.physical.group.members == {first.physical}
    with pytest.raises(BadValue, match="device beside"):
        machine.add_device(4, iommu=machine.add_iommu(), beside=first)


def test_a_driver_without_a_host_side_says_so() -> None:
    machine = Machine(bind_plugin(ToyDriver()))
    with pytest.raises(NoDevice, match="toy has a hardware model, but no host driver") as refused:
        machine.add_device(3)
    assert refused.value.errno == errno.ENODEV


def test_what_a_probe_refuses_is_asked_again() -> None:
    class Shy(HostedToy):
        def __init__(self) -> None:
            super().__init__()
            self.tries = 0

    toy = Shy()
    machine = Machine(bind_plugin(toy))

    def add() -> Endpoint:
        return machine.add_device(3)

    original = machine.memory.add_ram

    def refuse(size: int) -> object:
        raise NoDevice("hardware", "size", size)

    machine.memory.add_ram = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(KernelError):
        add()
    machine.write_register(RING, 1)
    assert "rung 0" not in toy.told
    machine.memory.add_ram = original  # type: ignore[method-assign]
    add()
    assert toy.told.count("probe") == 2


def test_a_driver_sees_what_the_machine_wants_of_it() -> None:
    policy = Policy(software_queues=True)
    machine = Machine(bind_plugin(HostedToy()), policy=policy)
    assert machine.host().policy is policy
    assert hosted()[0].host().policy == MAINLINE == Policy()


def test_ram_is_handed_out_until_there_is_none() -> None:
    machine, _ = hosted(memory="8M")
    first, second = machine.buffer(0x1001), machine.buffer("4M")

    pa = machine.memory.add_buffer(first[:8]).pa()
    assert (first.ctypes.data - second.ctypes.data) % 4096 == 0
    assert machine.memory.add_buffer(second).pa() - pa == 2 << 20
    assert len(first) == 0x1001
    assert not second.any()
    with pytest.raises(OutOfRange, match="size of a buffer 0x400000 is above 0x200000"):
        machine.buffer("4M")


def test_a_machine_without_a_size_gives_ram_as_asked() -> None:
    machine, _ = hosted()
    first, second = machine.buffer(1), machine.buffer(1)
    first[0] = 5
    assert second[0] == 0


@pytest.mark.parametrize("size", ["1Q", "", "-5", "G", "9" * 100])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(BadValue, match="size"):
        hosted(memory=size)


@pytest.mark.parametrize(("size", "first"), [(0, 0x1000), ("5", 0x1000)])
def test_ram_comes_in_pages(size: str | int, first: int) -> None:
    with pytest.raises(OutOfRange):
        hosted(memory=size)
    assert len(hosted(memory=first)[0].buffer(first)) == first


def test_sizes_are_powers_of_1024() -> None:
    assert len(hosted(memory="0x2000")[0].buffer("8KiB")) == 8192
    assert hosted(memory="1M")[0].buffer("1 MB").dtype == np.uint8


class Listening(RecordingHardware):
    """Hears broadcasts, as an SMMU that takes part in them does."""

    def broadcast(self, message: TlbBroadcast) -> None:
        self.registers[BROADCAST] = self.registers.get(BROADCAST, 0) + message.vmid


class ListeningToy(HostedToy):
    @hookimpl
    def viommu_hardware(self, memory: PhysicalMemory, platform: Platform) -> HardwareModel:  # type: ignore[override]
        return Listening(memory, platform)


def test_a_cpu_s_tlb_broadcast_reaches_every_iommu_that_listens() -> None:
    machine = Machine(bind_plugin(ListeningToy()))
    deaf = machine.add_iommu(bind_plugin(HostedToy()))
    other = machine.add_iommu()

    machine.broadcast_tlbi(TlbBroadcast(vmid=5, asid=3))

    assert [iommu.read_register(BROADCAST) for iommu in (machine, deaf, other)] == [5, 0, 5]
