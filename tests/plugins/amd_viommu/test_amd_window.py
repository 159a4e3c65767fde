"""A vIOMMU that stands on nothing yet (policy late_stage2), and invalidation of device TLBs as a call of its own."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING

import pytest

from tests.plugins.amd_viommu.guest import BASE, Guest
from tests.plugins.amd_viommu.program import HARDWARE, PAGE, RID, Program
from tests.plugins.amd_viommu.vm import IOVA, RUNNING, VID, make_viommu, pages, queue_command
from viommu.iommufd import experimental
from viommu.policies import Policy
from viommu_amd_viommu.host.extensions import QueueType
from viommu_amd_viommu.spec.device_table import DTE

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct


def experimental_call(program: Program, cmd: UapiStruct) -> UapiStruct:
    """Make an ioctl of ours."""
    raw = ctypes.create_string_buffer(cmd.encode(), cmd.total)
    number = program.file.number_of(type(cmd))
    program.result = program.file.ioctl(number, ctypes.addressof(raw), program.process)
    return type(cmd).decode(raw.raw)


def test_in_the_window_a_guest_has_registers_and_devices_and_its_memory_is_blocked() -> None:
    program = Program.make(HARDWARE, sanitize=False)
    device = program.bind(program.machine.add_device(RID))
    viommu, page, switches = make_viommu(program, device, 0)
    program.vdevice(device, viommu, VID)
    hardware = program.unit.hardware
    assert hardware is not None
    (translating,) = hardware.translating

    assert program.entry(translating) == DTE(V=1)
    page.write(0x10, (0x40).to_bytes(8, "little"))
    assert int.from_bytes(page.read(0x10, 8), "little") == 0x40
    switches.write(0x18, RUNNING.encode())
    assert program.fails(queue_command(viommu, QueueType.COMMANDS, BASE)) == errno.EINVAL
    assert program.fails(program.nested_command(device, viommu, DTE(V=1))) == errno.EINVAL
    assert not program.unit.events


def test_stage_2_that_comes_later_makes_the_guest_what_it_had_been_at_once() -> None:
    program = Program.make(HARDWARE, sanitize=False)
    device = program.bind(program.machine.add_device(RID))
    viommu, page, switches = make_viommu(program, device, 0)
    program.vdevice(device, viommu, VID)
    switches.write(0x18, RUNNING.encode())
    guest = Guest.make(program, device)
    experimental_call(program, experimental.SetStage2.of(size=16, viommu_id=viommu, hwpt_id=guest.parent))
    assert program.result == 0
    base = guest.pages(2)
    program.must(queue_command(viommu, QueueType.COMMANDS, base))
    guest.map(IOVA, b"old")
    device.attach(program.nested(device, viommu, guest.dte()))
    assert program.text_at(IOVA, 3) == b"old"
    guest.map(IOVA, b"new")
    guest.write(base, pages().encode())
    page.write(8, (16).to_bytes(8, "little"))

    assert program.text_at(IOVA, 3) == b"new"


def test_a_software_viommu_takes_its_stage_2_later_too() -> None:
    program = Program.make(Policy(late_stage2=True, invalidate_by_viommu=True))
    device = program.bind(program.machine.add_device(RID))
    viommu = program.viommu(device, 0)
    guest = Guest.make(program, device)
    guest.map(IOVA, b"here")
    assert program.fails(program.nested_command(device, viommu, guest.dte())) == errno.EINVAL
    experimental_call(program, experimental.SetStage2.of(size=16, viommu_id=viommu, hwpt_id=guest.parent))
    device.attach(program.nested(device, viommu, guest.dte()))

    assert program.text_at(IOVA, 4) == b"here"


@pytest.mark.parametrize("answers", [True, False])
def test_a_device_tlb_is_invalidated_by_a_call_of_its_own(answers: bool) -> None:
    program = Program.make(Policy(device_tlb_invalidation=True, invalidate_by_viommu=True), sanitize=False)
    endpoint = program.machine.add_device(RID, ats=True, pasid_bits=4)
    device = program.bind(endpoint)
    guest = Guest.make(program, device)
    for pasid in (0, 3):
        for page in range(4):
            guest.map(IOVA + page * PAGE, pasid=pasid)
    viommu = program.viommu(device, guest.parent)
    program.vdevice(device, viommu, VID)
    device.attach(program.nested(device, viommu, guest.dte()))
    assert endpoint.ats is not None
    for page in range(4):
        endpoint.ats.translate(IOVA + page * PAGE)
        endpoint.ats.translate(IOVA + page * PAGE, pasid=3)
    endpoint.ats.answers = answers
    entries = [
        experimental.DeviceTlbRange.of(virt_id=VID, start=IOVA, last=IOVA + PAGE - 1),
        experimental.DeviceTlbRange.of(
            virt_id=VID, start=0, last=(1 << 64) - 1, flags=experimental.DeviceTlbFlags.EVERY_PASID
        ),
    ]
    for count, left in ((1, 7), (2, 0)):
        data = program.buffer(text=b"".join(entry.encode() for entry in entries[:count]))
        cmd = experimental.DeviceTlbInvalidate.of(
            size=32, viommu_id=viommu, entry_num=count, data_uptr=data.address, entry_len=entries[0].total
        )
        after = experimental_call(program, cmd)
        assert isinstance(after, experimental.DeviceTlbInvalidate)
        assert after.entry_num == (count if answers else 0)
        assert len(endpoint.ats.tlb) == (left if answers else 8)
