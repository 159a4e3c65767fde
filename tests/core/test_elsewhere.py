"""Pages that lead to no memory, of which hardware does accesses itself; and what devices are told of translations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import viommu
from tests.core.toy import ToyDriver
from viommu import Access, BusAbort, Iotlb, Machine, Translation
from viommu.drivers import bind_plugin
from viommu.formats import Context, FlatForm, FlatTable, Riscv
from viommu.platform import Completion

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault, Refusal, Report
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.memory import PhysicalMemory
    from viommu.platform import PageRequest, RequestKind
    from viommu.stale import StaleUse

ROOT, TABLE, SIZE = 0x4000, 0x8000, 1 << 20
MAGIC = 1
"""Of ``attrs2``: the page is a mailbox of the hardware's."""
MAILBOX, PLAIN = 0x4000_2000, 0x4000_3000
"""IOVAs of two pages that the flat table has: entries 2 and 3."""


class Mailboxes:
    """Hardware whose flat table has pages of the kind ``MAGIC``; they take four bytes, and echo the last ones."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self.memory = memory
        self.mail: list[tuple[int, bytes]] = []

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        del requester, pasid, log
        form = FlatForm(mask=2, value=2, address_mask=0xFF000)
        magic = FlatForm(mask=2, value=0, address_mask=0xFF000, attrs=MAGIC, memory=False)
        flat = FlatTable(
            table=TABLE,
            compared=0xF_FFF0,
            pattern=0x4_0000,
            indexed=0xF,
            present_mask=1,
            present_value=1,
            forms=(form, magic),
        )
        return Context(stage2=Riscv(table=ROOT, levels=3, guest_stage=True), flat=flat)

    def load(self, requester: int, pasid: int | None, translation: Translation, length: int) -> bytes | None:
        del requester, pasid
        if not translation.attrs2 & MAGIC:
            return None
        return self.mail[-1][1][:length] if self.mail else b""

    def store(self, requester: int, pasid: int | None, translation: Translation, data: bytes) -> bool | None:
        del requester, pasid
        if not translation.attrs2 & MAGIC:
            return None
        self.mail.append((translation.iova, data))
        return len(data) == 4

    def granted(self, requester: int, pasid: int | None, translation: Translation) -> Translation | Completion:
        del requester, pasid
        if translation.attrs2 & MAGIC:
            return Completion.UNTRANSLATED_ONLY
        return Translation(translation.iova, translation.ipa, 0x1000, translation.rights, translation.ipa)

    def report(self, fault: Fault) -> Report:
        raise NotImplementedError

    def read(self, offset: int, size: int) -> int:
        return offset * size * 0

    def write(self, offset: int, size: int, value: int) -> None: ...
    def record(self, fault: Fault) -> Report:
        return self.report(fault)

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None: ...
    def complete(self, fault: Fault) -> Completion:
        raise NotImplementedError

    def page_request(self, request: PageRequest) -> None: ...
    def cure(self, use: StaleUse) -> str:
        return str(use)


class MailToy(ToyDriver):
    made: Mailboxes

    @viommu.hookimpl
    def viommu_hardware(self, memory: PhysicalMemory, registers: Registers) -> HardwareModel:
        del registers
        self.made = Mailboxes(memory)
        return self.made


@pytest.fixture
def machine() -> Machine:
    memory = viommu.PhysicalMemory()
    memory.place(0, bytearray(SIZE))
    memory.store(ROOT, 0b1101_1111)
    memory.store(TABLE + 8 * 2, 0x5000 | 1)
    memory.store(TABLE + 8 * 3, 0x6000 | 3)
    return Machine(bind_plugin(MailToy()), memory, iotlb=Iotlb())


def mail(machine: Machine) -> list[tuple[int, bytes]]:
    model = machine.hardware.model
    assert isinstance(model, Mailboxes)
    return model.mail


@pytest.mark.parametrize("times", [1, 3])
def test_hardware_takes_what_is_written_to_such_a_page(machine: Machine, times: int) -> None:
    for _ in range(times):
        assert machine.dma_write(3, MAILBOX + 8, b"mail") is None

    assert mail(machine) == [(MAILBOX + 8, b"mail")] * times
    assert machine.memory.read(0x5008, 4) == bytes(4)


def test_hardware_may_abort_it(machine: Machine) -> None:
    assert machine.dma_write(3, MAILBOX, b"five!") == BusAbort(0x5000, 5)
    assert machine.dma_read(3, MAILBOX + 1, 8) == BusAbort(0x5001, 8)


def test_what_is_read_is_what_hardware_gives(machine: Machine) -> None:
    machine.dma_write(3, MAILBOX, b"mail")
    room = bytearray(4)

    assert machine.dma_read(3, MAILBOX, 4) == b"mail"
    assert machine.dma_read(3, MAILBOX, 4, out=room) is None
    assert room == b"mail"


def test_other_pages_are_memory(machine: Machine) -> None:
    for _ in range(2):
        assert machine.dma_write(3, PLAIN, b"plain") is None
        assert machine.dma_read(3, PLAIN, 5) == b"plain"

    assert machine.memory.read(0x6000, 5) == b"plain"
    assert mail(machine) == []


def test_a_write_across_both_is_done_by_each(machine: Machine) -> None:
    assert machine.dma_write(3, PLAIN - 4, b"mailmemory") is None

    assert mail(machine) == [(PLAIN - 4, b"mail")]
    assert machine.memory.read(0x6000, 6) == b"memory"


def test_hardware_says_what_a_device_is_granted(machine: Machine) -> None:
    granted = machine.request_translation(3, PLAIN, Access.READ)

    assert isinstance(granted, Translation)
    assert granted.pa == PLAIN
    assert machine.request_translation(3, MAILBOX, Access.WRITE) is Completion.UNTRANSLATED_ONLY


def test_an_explained_walk_names_the_flat_table(machine: Machine) -> None:
    told = str(machine.explain(3, PLAIN))

    assert "instead of stage 2: flat table, IOVA 0x40003000" in told
