"""Commands, faults and page requests, with their errors and interrupts."""

from __future__ import annotations

from threading import Thread

import pytest
from programmed import BOTH, DEVICE, IOVA, PAGE, Programmed, fence
from viommu import Access, Fault, Translation
from viommu.addresses import Iova, Pasid
from viommu.platform import PageRequest, ResponseCode
from viommu.registers import RegisterFile

from viommu_riscv.hardware.interrupts import Interrupts
from viommu_riscv.spec.commands import (
    Ats,
    AtsFunction,
    Iodir,
    IodirFunction,
    Iotinval,
    IotinvalFunction,
    Opcode,
    PrgResponse,
    ResponsePayload,
)
from viommu_riscv.spec.directories import StageMode
from viommu_riscv.spec.records import Cause, PageRequestRecord, TransactionType
from viommu_riscv.spec.registers import Cqcsr, Ddtp, Fqcsr, IommuMode, Pqcsr

FORGET = Iotinval(opcode=Opcode.IOTINVAL, func3=IotinvalFunction.VMA, AV=1, PSCV=1, PSCID=7, ADDR=IOVA)
FORGET_DEVICE = Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_DDT, DV=1, DID=DEVICE)
DROP = Ats(opcode=Opcode.ATS, func3=AtsFunction.INVAL, RID=DEVICE)


@pytest.mark.parametrize("swapped", [False, True], ids=["little", "big"])
def test_a_fence_stores_in_the_order_of_the_iommu(swapped: bool) -> None:
    iommu = Programmed(swapped)
    word = iommu.frames.allocate()

    iommu.submit(fence(AV=1, ADDR=word, DATA=0x0102_0304))

    assert iommu.memory.read(word, 4) == bytes([1, 2, 3, 4] if swapped else [4, 3, 2, 1])
    assert iommu["CQH"] == 1


def test_a_translation_is_cached_until_a_command_forgets_it() -> None:
    iommu = Programmed()
    page = iommu.translated()
    assert _pa(iommu) == page
    table, other = iommu.table(), iommu.frames.allocate()
    table.map(IOVA, other, PAGE, BOTH)
    iommu.context(fsc_MODE=StageMode.Sv48, fsc_PPN=table.root, PSCID=7)

    assert _pa(iommu) == page
    iommu.submit(FORGET_DEVICE)
    assert _pa(iommu) == page
    iommu.submit(FORGET)

    assert _pa(iommu) == other


def test_an_illegal_command_stops_the_queue_until_software_has_looked() -> None:
    iommu = Programmed()
    word = iommu.frames.allocate()

    control = iommu.submit(fence(WSI=1), fence(AV=1, ADDR=word, DATA=1))
    assert (control.cmd_ill, iommu["CQH"]) == (1, 0)
    assert [found.data for found in iommu.heard] == [0x10]
    iommu.put(iommu.queues["C"], fence())
    iommu["CQCSR"] = int(control)

    assert iommu["CQH"] == 2
    assert iommu.memory.read(word, 1) == b"\1"


def test_a_fence_that_no_memory_takes_is_a_memory_fault() -> None:
    iommu = Programmed()

    control = iommu.submit(fence(AV=1, ADDR=0xDEAD_0000, DATA=1))

    assert (control.cqmf, control.cmd_ill, iommu["CQH"]) == (1, 0, 0)


def test_a_fence_tells_that_a_device_did_not_answer() -> None:
    iommu = Programmed()
    device = iommu.machine.device(DEVICE)
    device.answers = False

    control = iommu.submit(DROP, FORGET, fence())
    assert (control.cmd_to, iommu["CQH"]) == (1, 2)
    iommu["CQCSR"] = int(control)

    assert iommu["CQH"] == 3


def test_switching_the_queue_on_empties_it() -> None:
    iommu = Programmed()
    iommu.submit(fence(), fence())
    iommu["CQCSR"] = 0
    iommu["CQT"] = 0
    iommu["CQCSR"] = 1

    assert (iommu["CQH"], iommu["CQCSR"]) == (0, 0x1_0001)


@pytest.mark.parametrize("swapped", [False, True], ids=["little", "big"])
def test_a_refused_access_is_recorded_and_interrupts(swapped: bool) -> None:
    iommu = Programmed(swapped)

    assert isinstance(iommu.machine.translate(DEVICE, IOVA, Access.READ | Access.WRITE), Fault)

    (record,) = iommu.faults()
    assert (record.CAUSE, record.TTYP) == (Cause.DDT_NOT_VALID, TransactionType.UNTRANSLATED_WRITE)
    assert (record.DID, record.PV, record.iotval) == (DEVICE, 0, IOVA)
    assert [(found.source, found.address, found.data) for found in iommu.heard] == [("fault queue", 0x2800_0000, 0x11)]


@pytest.mark.parametrize("silent", [0, 1], ids=["told", "silent"])
def test_a_device_may_be_kept_out_of_the_fault_queue(silent: int) -> None:
    iommu = Programmed()
    iommu.translated(DTF=silent)

    assert isinstance(iommu.machine.translate(DEVICE, IOVA + PAGE), Fault)
    assert isinstance(iommu.machine.translate(DEVICE, IOVA, pasid=3), Fault)

    causes = [Cause.READ_PAGE, Cause.TYPE_DISALLOWED]
    assert [record.CAUSE for record in iommu.faults()] == ([] if silent else causes)


def test_what_is_wrong_with_its_context_is_told_all_the_same() -> None:
    iommu = Programmed()
    iommu.translated(DTF=1, T2GPA=1)

    assert isinstance(iommu.machine.translate(DEVICE, IOVA), Fault)

    assert [record.CAUSE for record in iommu.faults()] == [Cause.DDT_MISCONFIGURED]


def test_software_may_acknowledge_just_when_hardware_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    iommu, look = Programmed(), RegisterFile.__getitem__
    iommu.machine.translate(DEVICE, 0)

    def acknowledged(file: RegisterFile, name: str) -> int:
        value = look(file, name)
        if name == "IPSR":
            monkeypatch.undo()
            iommu["IPSR"] = value
        return value

    monkeypatch.setattr(RegisterFile, "__getitem__", acknowledged)
    iommu.machine.translate(DEVICE, PAGE)
    assert [record.iotval for record in iommu.faults()] == [0, PAGE]
    iommu.machine.translate(DEVICE, 2 * PAGE)

    assert len(iommu.heard) == 2


def test_a_queue_that_is_started_just_when_its_head_moves_starts_at_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    iommu, store, starting = Programmed(), RegisterFile.__setitem__, list[Thread]()

    def start() -> None:
        iommu["CQCSR"] = iommu["CQT"] = 0
        iommu["CQCSR"] = int(Cqcsr(cqen=1))

    def slow(file: RegisterFile, name: str, value: int) -> None:
        if name == "CQH" and not starting:
            starting.append(Thread(target=start))
            starting[0].start()
            starting[0].join(0.1)
        store(file, name, value)

    monkeypatch.setattr(RegisterFile, "__setitem__", slow)
    iommu.submit(FORGET)
    starting[0].join()

    assert iommu["CQH"] == 0


def test_a_full_fault_queue_overflows_until_software_clears_it() -> None:
    iommu = Programmed()
    for page in range(5):
        iommu.machine.translate(DEVICE, page * PAGE)
    assert iommu.decoded("FQCSR", Fqcsr).fqof

    assert [record.iotval for record in iommu.faults()] == [0, PAGE, 2 * PAGE]
    iommu.machine.translate(DEVICE, 0)
    assert iommu.faults() == []
    iommu["FQCSR"] = int(iommu.decoded("FQCSR", Fqcsr))
    iommu.machine.translate(DEVICE, 0x7000)

    assert [record.iotval for record in iommu.faults()] == [0x7000]


def test_a_fault_queue_without_memory_says_so() -> None:
    iommu = Programmed()
    iommu["FQCSR"] = 0
    iommu["FQB"] = int(iommu["FQB"]) | 1 << 50
    iommu["FQCSR"] = 1

    iommu.machine.translate(DEVICE, 0)

    assert iommu.decoded("FQCSR", Fqcsr).fqmf


def test_an_interrupt_is_signalled_once_until_it_is_acknowledged() -> None:
    iommu = Programmed()
    for _ in range(2):
        iommu.machine.translate(DEVICE, 0)
    assert len(iommu.heard) == 1
    iommu["IPSR"] = 0xF
    iommu.machine.translate(DEVICE, 0)

    assert len(iommu.heard) == 2


def test_a_mask_that_goes_while_a_message_meets_it_does_not_lose_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    iommu = Programmed()
    iommu["MSI_VEC_CTL_1"] = 1
    is_masked, unmasking = Interrupts._is_masked, list[Thread]()

    def slow(interrupts: Interrupts, vector: int) -> bool:
        found = is_masked(interrupts, vector)
        if not unmasking:
            unmasking.append(Thread(target=lambda: iommu.__setitem__("MSI_VEC_CTL_1", 0)))
            unmasking[0].start()
            unmasking[0].join(0.1)
        return found

    monkeypatch.setattr(Interrupts, "_is_masked", slow)
    iommu.machine.translate(DEVICE, 0)
    unmasking[0].join()

    assert [interrupt.data for interrupt in iommu.heard] == [0x11]


def test_a_masked_vector_is_signalled_when_its_mask_goes() -> None:
    iommu = Programmed()
    iommu["MSI_VEC_CTL_1"] = 1
    iommu.machine.translate(DEVICE, 0)
    assert iommu.heard == []
    iommu["MSI_VEC_CTL_1"] = 0

    assert [found.data for found in iommu.heard] == [0x11]


def test_a_wire_needs_no_message() -> None:
    iommu = Programmed()
    iommu["FCTL"] = 2
    iommu.submit(fence(WSI=1))

    assert [(found.source, found.address) for found in iommu.heard] == [("command queue", None)]


def test_a_message_beyond_memory_is_a_fault_of_its_own() -> None:
    iommu = Programmed(given={"CAPABILITIES": 0x1F2_2A4E_0E10 & ~(0x3F << 32) | 40 << 32})
    iommu["MSI_ADDR_1"] = 1 << 45

    iommu.machine.translate(DEVICE, 0)

    assert [record.CAUSE for record in iommu.faults()] == [Cause.DDT_NOT_VALID, Cause.MSI_WRITE_ACCESS]


def test_a_page_request_is_queued_and_answered() -> None:
    iommu = Programmed()
    iommu.translated(EN_ATS=1, EN_PRI=1, PRPR=1)
    device = iommu.machine.device(DEVICE)

    device.request_page(0x1234_5000, Access.READ | Access.WRITE, group=0x55)
    raw = iommu.memory.read(iommu.queues["P"], 16)
    assert raw is not None
    record = PageRequestRecord.decode(raw)
    assert (record.DID, record.R, record.W, record.L, record.PRGI) == (DEVICE, 1, 1, 1, 0x55)
    assert record.address == 0x1234_5000
    payload = ResponsePayload(group=0x55, code=PrgResponse.SUCCESS)
    iommu.submit(Ats(opcode=Opcode.ATS, func3=AtsFunction.PRGR, RID=DEVICE, PAYLOAD=int(payload)))

    assert [(found.group, found.code) for found in device.responses] == [(0x55, ResponseCode.SUCCESS)]


def test_a_page_request_that_finds_no_room_is_answered_by_hardware() -> None:
    iommu = Programmed()
    iommu.translated(EN_ATS=1, EN_PRI=1)
    device = iommu.machine.device(DEVICE)
    for group in range(4):
        device.request_page(0, Access.READ, group=group)

    assert iommu.decoded("PQCSR", Pqcsr).pqof
    assert [(found.group, found.code) for found in device.responses] == [(3, ResponseCode.SUCCESS)]


def test_a_device_that_may_not_ask_is_told_so() -> None:
    iommu = Programmed()
    iommu.translated(EN_ATS=1)
    device = iommu.machine.device(DEVICE)

    device.request_page(0, Access.READ, group=1)

    assert [found.code for found in device.responses] == [ResponseCode.INVALID]
    (record,) = iommu.faults()
    assert (record.CAUSE, record.TTYP, record.iotval) == (Cause.TYPE_DISALLOWED, TransactionType.MESSAGE, 4)


def test_a_stop_marker_wants_no_answer() -> None:
    iommu = Programmed()
    device = iommu.machine.device(DEVICE)

    marker = PageRequest(device.requester, Pasid(3), Iova(0), Access(0), 1, last=True)
    iommu.machine.hardware.page_request(marker)

    assert list(device.responses) == []


@pytest.mark.parametrize("mode", [5, 13, 15])
def test_a_mode_that_there_is_not_leaves_the_mode_as_it_was(mode: int) -> None:
    iommu = Programmed()
    iommu["DDTP"] = mode

    assert iommu.decoded("DDTP", Ddtp).iommu_mode == IommuMode.LVL1


def test_the_mode_counts_at_once() -> None:
    iommu = Programmed()
    iommu.translated()
    assert isinstance(iommu.machine.translate(DEVICE, IOVA), Translation)
    iommu["DDTP"] = IommuMode.Off
    assert isinstance(iommu.machine.translate(DEVICE, IOVA), Fault)
    iommu["DDTP"] = IommuMode.Bare

    found = iommu.machine.translate(DEVICE, IOVA)
    assert isinstance(found, Translation)
    assert found.untranslated


def _pa(iommu: Programmed) -> int:
    found = iommu.machine.translate(DEVICE, IOVA)
    assert isinstance(found, Translation)
    return found.pa
