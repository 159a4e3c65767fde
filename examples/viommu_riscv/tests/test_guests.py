"""Guests on the host's driver: tables of their own, their commands, what they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hosts import BASE, FORGET, IOVA, PAGE, SPACE, VIRTUAL, Host, requests
from viommu import Access, BusAbort, Fault, Policy, Translation
from viommu.kernel_errors import Invalid, IoError
from viommu.policies import VmidOwner

from viommu_riscv.host.extensions import TYPE, HwptRiscv, VeventRiscv
from viommu_riscv.host.guests import MOST_PENDING
from viommu_riscv.host.requests import EVERYTHING, device_tlb
from viommu_riscv.host.unit import Unit
from viommu_riscv.spec.commands import (
    Command,
    Iodir,
    IodirFunction,
    Iofence,
    IotinvalFunction,
    Opcode,
)
from viommu_riscv.spec.directories import PdtpMode, ProcessContext, ProcessDirectory, StageMode, TranslationControl
from viommu_riscv.spec.records import Cause, FaultRecord
from viommu_riscv.spec.registers import Capabilities

if TYPE_CHECKING:
    from viommu.api import Viommu


def test_a_guests_table_stands_on_the_hosts(host: Host) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)

    found = host.device.translate(IOVA)

    assert host.device.dma_read(IOVA, 5) == b"first"
    assert isinstance(found, Translation)
    assert host.memory[found.ipa - BASE : found.ipa - BASE + 5].tobytes() == b"first"


def test_a_guests_commands_name_its_own_space(host: Host) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)
    assert host.device.dma_read(IOVA, 5) == b"first"
    host.map(root, IOVA, host.page(b"other"))
    assert host.device.dma_read(IOVA, 5) == b"first"

    assert viommu.invalidate(requests(FORGET.replace(PSCID=SPACE + 1)), data_type=TYPE) == 1
    assert host.device.dma_read(IOVA, 5) == b"first"
    assert viommu.invalidate(requests(FORGET), data_type=TYPE) == 1

    assert host.device.dma_read(IOVA, 5) == b"other"


def test_commands_for_every_device_are_not_gathered_without_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)
    submit, gathered = Unit.submit, list[int]()

    def counted(unit: Unit, commands: list[Command]) -> bool:
        gathered.append(len(commands))
        return submit(unit, commands)

    monkeypatch.setattr(Unit, "submit", counted)
    every_device = Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_DDT)
    count = 2 * MOST_PENDING + 5
    assert viommu.invalidate(requests(*[every_device] * count), data_type=TYPE) == count

    assert gathered == [MOST_PENDING, MOST_PENDING, 5]


def processes_of_a_guest(host: Host) -> tuple[Viommu, int]:
    """Let a guest's process directory govern the device; give the vIOMMU, and where process 5 is described."""
    viommu, root = host.guest()
    directory = host.page()
    at = directory + ProcessContext.size * 5
    host.write(at, ProcessContext(V=1, PSCID=SPACE, fsc_MODE=StageMode.Sv48, fsc_PPN=root).encode())
    given = HwptRiscv.of(
        tc=int(TranslationControl(PDTV=1)), fsc=int(ProcessDirectory(MODE=PdtpMode.PD8, PPN=directory))
    )
    host.device.attach(viommu.hwpt_alloc(host.device, given, data_type=TYPE))
    return viommu, at


def test_a_guests_processes_are_found_in_its_own_directory(host: Host) -> None:
    viommu, at = processes_of_a_guest(host)
    assert host.device.dma_read(IOVA, 5, pasid=5) == b"first"
    host.write(at, bytes(16))
    assert host.device.dma_read(IOVA, 5, pasid=5) == b"first"

    command = Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_PDT, DV=1, DID=VIRTUAL, PID=5)
    viommu.invalidate(requests(command), data_type=TYPE)

    assert isinstance(host.device.dma_read(IOVA, 5, pasid=5), Fault)


@pytest.mark.parametrize("gone", ["memory", "table"])
def test_devices_forget_what_a_guests_processes_were_told(host: Host, gone: str) -> None:
    processes_of_a_guest(host)
    device = host.machine.device(0x1_0108)
    device.translate(IOVA, Access.READ, 5)
    assert len(device.tlb) == 1

    if gone == "memory":
        host.ioas.unmap(BASE, 1 << 20)
    else:
        host.device.detach()

    assert len(device.tlb) == 0


def test_a_guests_process_may_be_too_wide_for_hardware() -> None:
    able = Capabilities(version=0x10, Sv48=1, Sv48x4=1, PAS=48, AMO_HWAD=1, IGS=1, PD8=1)
    host = Host(given={"CAPABILITIES": int(able)})
    viommu, root = host.guest()
    host.nest(viommu, root)
    wide = Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_PDT, DV=1, DID=VIRTUAL, PID=0x100)

    with pytest.raises(Invalid):
        viommu.invalidate(requests(wide), data_type=TYPE)

    assert viommu.invalidate(requests(FORGET, wide.replace(PID=0xFF)), data_type=TYPE) == 2


REFUSED = [
    FORGET.replace(GV=1),
    FORGET.replace(func3=IotinvalFunction.GVMA, PSCV=0),
    Iofence(opcode=Opcode.IOFENCE, WSI=1),
    Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_PDT),
    Iodir(opcode=Opcode.IODIR, PID=1),
    Command(opcode=9),
]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda command: repr(command)[:40])
def test_what_hardware_would_refuse_stops_the_batch(host: Host, refused: Command) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)
    host.device.dma_read(IOVA, 5)
    host.map(root, IOVA, host.page(b"other"))

    with pytest.raises(Invalid) as told:
        viommu.invalidate(requests(FORGET, refused, FORGET), data_type=TYPE)

    assert told.value.done == 1
    assert host.device.dma_read(IOVA, 5) == b"other"


def test_a_guests_fence_stores_in_its_own_memory(host: Host) -> None:
    viommu, _ = host.guest()
    word = host.page()

    viommu.invalidate(requests(Iofence(opcode=Opcode.IOFENCE, AV=1, ADDR=word, DATA=0x1234)), data_type=TYPE)

    assert host.word(word) == 0x1234


def test_a_guests_fence_stores_nothing_where_the_guest_may_not(host: Host) -> None:
    viommu, _ = host.guest()
    read_only = host.machine.buffer("4K")
    host.ioas.map(read_only, 0x4000_0000, write=False)

    viommu.invalidate(requests(Iofence(opcode=Opcode.IOFENCE, AV=1, ADDR=0x4000_0000, DATA=0x1234)), data_type=TYPE)

    assert not read_only.any()


def test_a_device_that_does_not_answer_ends_the_batch(host: Host) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)
    host.machine.device(0x1_0108).answers = False

    with pytest.raises(IoError) as told:
        viommu.invalidate(requests(FORGET, device_tlb(VIRTUAL, None, EVERYTHING), FORGET), data_type=TYPE)

    assert told.value.done == 1


def test_a_guest_is_told_of_its_own_faults_in_its_own_words(host: Host) -> None:
    viommu, root = host.guest()
    events = viommu.veventq_alloc(TYPE)
    host.nest(viommu, root)
    host.map(root, IOVA + 2 * PAGE, 0x7000_0000)
    for page in (1, 2):
        host.device.dma_read(IOVA + page * PAGE, 4)

    records = [FaultRecord.decode(VeventRiscv.decode(event.data).record) for event in events.read()]
    assert [(record.CAUSE, record.DID, record.iotval2) for record in records] == [
        (Cause.READ_PAGE, VIRTUAL, 0),
        (Cause.READ_ACCESS, VIRTUAL, 0),
    ]


def test_a_page_request_goes_to_who_waits_for_it(host: Host) -> None:
    faults = host.iommu.fault_alloc()
    viommu, root = host.guest()
    given = HwptRiscv.of(fsc=9 << 60 | root >> 12)
    host.device.attach(viommu.hwpt_alloc(host.device, given, data_type=TYPE, fault=faults))

    host.device.request_page(IOVA + PAGE, group=4)
    (request,) = faults.read()
    assert (request.addr, request.group) == (IOVA + PAGE, 4)
    faults.respond(request)


@pytest.mark.parametrize("owner", list(VmidOwner))
def test_guests_may_have_tags_of_their_own(owner: VmidOwner) -> None:
    host = Host(Policy(vmid_owner=owner))
    viommu, root = host.guest()
    host.nest(viommu, root)
    assert host.device.dma_read(IOVA, 5) == b"first"

    host.ioas.unmap(BASE, 1 << 20)

    assert isinstance(host.device.dma_read(IOVA, 5), Fault | BusAbort)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (HwptRiscv.of(tc=1 << 4), "tc"),
        (HwptRiscv.of(tc=1 << 9), "tc"),
        (HwptRiscv.of(ta=1), "ta"),
        (HwptRiscv.of(fsc=7 << 60), "fsc"),
        (HwptRiscv.of(fsc=1 << 50), "fsc"),
        (HwptRiscv.of(tc=1 << 5, fsc=9 << 60), "fsc"),
    ],
)
def test_a_context_that_hardware_would_refuse_is_refused(host: Host, given: HwptRiscv, why: str) -> None:
    viommu, _ = host.guest()

    with pytest.raises(Invalid, match=why):
        viommu.hwpt_alloc(host.device, given, data_type=TYPE)
