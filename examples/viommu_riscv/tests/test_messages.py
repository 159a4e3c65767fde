"""Interrupt files of guests, and what ATS tells a device of them and of guests' addresses."""

from __future__ import annotations

import pytest
from programmed import BOTH, DEVICE, PAGE, Programmed
from viommu import Access, BusAbort, Fault, Translation
from viommu.platform import Completion

from viommu_riscv.spec.directories import MsiptpMode, StageMode
from viommu_riscv.spec.msi import BasicMsiPte, MrifMsiPte, MsiMode
from viommu_riscv.spec.records import Cause, TransactionType

FILES = 0x2800_0000
"""Guest address of the first of the interrupt files."""
BASIC, RESIDENT = FILES + 2 * PAGE, FILES + 3 * PAGE


@pytest.fixture
def iommu() -> Programmed:
    """A guest with memory at 0x8000_0000, and two interrupt files: a real one, and a memory-resident one."""
    made = Programmed()
    second = made.table(guest_stage=True)
    second.map(0x8000_0000, made.frames.allocate(), PAGE, BOTH)
    messages = made.frames.allocate()
    real, resident = made.frames.allocate(), made.frames.allocate()
    made.queues |= {"real": real, "resident": resident, "messages": messages}
    made.put(messages + 2 * 16, BasicMsiPte(V=1, M=MsiMode.BASIC, PPN=real))
    made.put(messages + 3 * 16, MrifMsiPte(V=1, M=MsiMode.MRIF, MRIF=resident + 512, NPPN=0x2900_0000, NID=0x401))
    made.context(
        EN_ATS=1,
        iohgatp_MODE=StageMode.Sv48,
        iohgatp_PPN=second.root,
        GSCID=5,
        msiptp_MODE=MsiptpMode.Flat,
        msiptp_PPN=messages,
        msi_addr_mask=7,
        msi_addr_pattern=FILES >> 12,
    )
    return made


def test_a_message_to_a_real_file_is_a_store(iommu: Programmed) -> None:
    for number in (7, 8):
        assert iommu.machine.dma_write(DEVICE, BASIC, number.to_bytes(4, "little")) is None

    assert iommu.memory.read(iommu.queues["real"], 4) == b"\x08\0\0\0"


@pytest.mark.parametrize(("offset", "order"), [(0, "little"), (4, "big")])
@pytest.mark.parametrize("identity", [0, 1, 63, 64, 2047])
def test_a_message_to_a_resident_file_sets_a_bit_and_sends_a_notice(
    iommu: Programmed, offset: int, order: str, identity: int
) -> None:
    data = identity.to_bytes(4, order)  # type: ignore[arg-type]
    assert iommu.machine.dma_write(DEVICE, RESIDENT + offset, data) is None

    at = iommu.queues["resident"] + 512 + identity // 64 * 16
    assert iommu.memory.load(at) == 1 << identity % 64
    notice = iommu.heard[-1]
    assert (notice.address, notice.data) == (0x2900_0000, 0x401)


@pytest.mark.parametrize(("offset", "data"), [(8, b"\1\0\0\0"), (0, b"\0\x08\0\0"), (0x800, b"\1\0\0\0")])
def test_what_is_no_message_is_discarded(iommu: Programmed, offset: int, data: bytes) -> None:
    assert iommu.machine.dma_write(DEVICE, RESIDENT + offset, data) is None

    assert iommu.memory.read(iommu.queues["resident"], PAGE) == bytes(PAGE)
    assert iommu.heard == []


@pytest.mark.parametrize(("offset", "data"), [(0, b"\1\0"), (2, b"\1\0\0\0"), (0, b"\1\0\0\0\0\0\0\0")])
def test_a_file_takes_aligned_words_alone(iommu: Programmed, offset: int, data: bytes) -> None:
    assert isinstance(iommu.machine.dma_write(DEVICE, RESIDENT + offset, data), BusAbort)
    assert isinstance(iommu.machine.dma_read(DEVICE, RESIDENT + offset, len(data)), BusAbort)


def test_an_interrupt_file_that_is_not_there_is_a_fault(iommu: Programmed) -> None:
    assert isinstance(iommu.machine.translate(DEVICE, FILES, Access.WRITE), Fault)
    assert isinstance(iommu.machine.translate(DEVICE, BASIC, Access.EXECUTE), Fault)

    assert [record.CAUSE for record in iommu.faults()] == [Cause.MSI_NOT_VALID, Cause.INSTRUCTION_ACCESS]


def test_a_device_is_told_the_address_of_a_real_file_alone(iommu: Programmed) -> None:
    device = iommu.machine.device(DEVICE)

    found = device.translate(BASIC, Access.WRITE)
    assert isinstance(found, Translation)
    assert found.pa == iommu.queues["real"]
    assert device.translate(RESIDENT, Access.WRITE) is Completion.UNTRANSLATED_ONLY


def test_with_t2gpa_a_device_is_told_the_guests_address(iommu: Programmed) -> None:
    raw = iommu.memory.load(iommu.directory + 64 * DEVICE) or 0
    iommu.memory.store(iommu.directory + 64 * DEVICE, raw | 1 << 3)

    granted = iommu.machine.request_translation(DEVICE, 0x8000_0010, Access.READ)
    assert isinstance(granted, Translation)
    assert granted.pa == 0x8000_0010
    sent = iommu.machine.send_translated(DEVICE, 0x8000_0010)
    assert isinstance(sent, Translation)
    assert sent.pa != 0x8000_0010
    assert isinstance(iommu.machine.send_translated(DEVICE, 0x1000), Fault)

    (record,) = iommu.faults()
    assert (record.CAUSE, record.TTYP) == (Cause.READ_GUEST_PAGE, TransactionType.TRANSLATED_READ)
    assert record.iotval2 == 0x1000


def test_a_device_without_ats_is_told_nothing() -> None:
    iommu = Programmed()
    iommu.translated()

    assert iommu.machine.request_translation(DEVICE, 0) is Completion.UNSUPPORTED_REQUEST
    assert isinstance(iommu.machine.send_translated(DEVICE, 0x1000), Fault)

    first, second = iommu.faults()
    assert (first.CAUSE, first.TTYP) == (Cause.TYPE_DISALLOWED, TransactionType.TRANSLATION_REQUEST)
    assert (second.CAUSE, second.TTYP) == (Cause.TYPE_DISALLOWED, TransactionType.TRANSLATED_READ)
