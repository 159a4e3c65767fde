"""What page requests say, and when the queue takes them again."""

from __future__ import annotations

from programmed import DEVICE, PAGE, Programmed
from viommu import Access
from viommu.platform import ResponseCode

from viommu_riscv.spec.records import PageRequestRecord
from viommu_riscv.spec.registers import Pqcsr


def test_what_is_to_be_executed_is_read() -> None:
    iommu = Programmed()
    iommu.translated(EN_ATS=1, EN_PRI=1)

    iommu.machine.device(DEVICE).request_page(PAGE, Access.EXECUTE, pasid=3, group=1)

    raw = iommu.memory.read(iommu.queues["P"], 16)
    assert raw is not None
    record = PageRequestRecord.decode(raw)
    assert (record.PV, record.PID, record.EXEC, record.R, record.W) == (1, 3, 1, 1, 0)


def test_a_queue_that_overflowed_takes_nothing_until_software_says_so() -> None:
    iommu = Programmed()
    iommu.translated(EN_ATS=1, EN_PRI=1)
    device = iommu.machine.device(DEVICE)
    for group in range(4):
        device.request_page(0, Access.READ, group=group)
    iommu["PQH"] = iommu["PQT"]

    device.request_page(0, Access.READ, group=4)
    assert [(found.group, found.code) for found in device.responses] == [
        (3, ResponseCode.SUCCESS),
        (4, ResponseCode.SUCCESS),
    ]
    iommu["PQCSR"] = int(iommu.decoded("PQCSR", Pqcsr))
    device.request_page(0, Access.READ, group=5)

    assert len(device.responses) == 2
    assert iommu["PQH"] != iommu["PQT"]
