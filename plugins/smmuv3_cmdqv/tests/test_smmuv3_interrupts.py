"""Interrupts: who raises them, when, and by message or by wire."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.smmuv3_cmdqv.tests.programmed import PAGE, STREAM, Programmed
from viommu import Access
from viommu.platform import Interrupt
from viommu_smmuv3_cmdqv.spec.commands import SYNC, Command, CommandOpcode, CompletionSignal
from viommu_smmuv3_cmdqv.spec.queue_registers import IRQ_CTRL, PRIQ_IRQ_CFG2

READ_ONLY = 0x9000_0000
DOORBELL = 0xFEE0_0000


def sync(**fields: int) -> SYNC:
    return SYNC(Opcode=CommandOpcode.SYNC, **fields)


def with_message(smmu: Programmed, source: str, address: int) -> None:
    enabled = smmu.register("IRQ_CTRL")
    smmu.program("IRQ_CTRL", 0)
    smmu.program(f"{source}_IRQ_CFG0", address)
    smmu.program(f"{source}_IRQ_CFG1", 0x1234_5678)
    smmu.program("IRQ_CTRL", enabled)


def test_a_queue_interrupts_when_it_is_empty_no_more() -> None:
    smmu = Programmed()
    smmu.address_space()
    smmu.miss(0)
    smmu.miss(PAGE)
    smmu.events()
    smmu.miss(0)

    assert smmu.interrupts == [Interrupt("EVENTQ")] * 2


@pytest.mark.parametrize(("last_only", "interrupts"), [(0, 1), (1, 2)])
def test_the_pri_queue_interrupts_when_not_empty_or_for_each_group(last_only: int, interrupts: int) -> None:
    smmu = Programmed()
    smmu.program("IRQ_CTRL", 0)
    smmu.program("PRIQ_IRQ_CFG2", PRIQ_IRQ_CFG2(LO=last_only))
    smmu.program("IRQ_CTRL", IRQ_CTRL(PRIQ_IRQEN=1))
    device = smmu.machine.device(STREAM)
    for group in range(2):
        device.request_page(0, Access.READ, group=group, last=False)
        device.request_page(PAGE, Access.READ, group=group)

    assert smmu.interrupts == [Interrupt("PRIQ")] * interrupts


def test_an_error_interrupts_once_until_it_is_acknowledged() -> None:
    smmu = Programmed()
    smmu.send(Command())
    smmu.send(Command())
    assert smmu.interrupts == [Interrupt("GERROR")]
    smmu.acknowledge()
    assert smmu.interrupts == [Interrupt("GERROR")] * 2


def test_nobody_interrupts_who_is_not_enabled() -> None:
    smmu = Programmed()
    smmu.address_space()
    smmu.program("IRQ_CTRL", 0)
    smmu.miss(0)
    smmu.machine.device(STREAM).request_page(0, Access.READ, group=0)
    smmu.send(Command())

    assert smmu.interrupts == []


@pytest.mark.parametrize("source", ["GERROR", "EVENTQ", "PRIQ"])
def test_a_message_goes_where_the_registers_say(source: str) -> None:
    smmu = Programmed()
    smmu.address_space()
    target = smmu.take(PAGE)
    with_message(smmu, source, target + 8)
    smmu.miss(0)
    smmu.machine.device(STREAM).request_page(0, Access.READ, group=0)
    smmu.send(Command())

    assert Interrupt(source, target + 8, 0x1234_5678) in smmu.interrupts
    assert smmu.word(target + 8) == 0x1234_5678


@pytest.mark.parametrize(
    ("source", "errors"),
    [
        ("GERROR", {"CMDQ_ERR", "MSI_GERROR_ABT_ERR"}),
        ("EVENTQ", {"CMDQ_ERR", "MSI_EVENTQ_ABT_ERR"}),
        ("PRIQ", {"CMDQ_ERR", "MSI_PRIQ_ABT_ERR"}),
    ],
)
def test_a_message_to_where_nothing_can_be_written_is_an_error(source: str, errors: set[str]) -> None:
    smmu = Programmed()
    smmu.address_space()
    smmu.memory.place(READ_ONLY, np.zeros(PAGE, np.uint8), writable=False)
    with_message(smmu, source, READ_ONLY)
    smmu.miss(0)
    smmu.machine.device(STREAM).request_page(0, Access.READ, group=0)
    smmu.send(Command())

    assert smmu.active_errors() == errors
    assert source not in {interrupt.source for interrupt in smmu.interrupts if interrupt.address is not None}


def test_a_completion_may_be_told_in_four_ways() -> None:
    smmu = Programmed()
    flag = smmu.take(PAGE)
    smmu.send(
        sync(),
        sync(CS=CompletionSignal.IRQ),
        sync(CS=CompletionSignal.IRQ, MSIAddress=flag, MSIData=7),
        sync(CS=CompletionSignal.IRQ, MSIAddress=DOORBELL, MSIData=9),
        sync(CS=CompletionSignal.SEV),
    )

    assert smmu.interrupts == [
        Interrupt("CMD_SYNC"),
        Interrupt("CMD_SYNC", flag, 7),
        Interrupt("CMD_SYNC", DOORBELL, 9),
    ]
    assert smmu.word(flag) == 7
    assert [event for event, _ in smmu.told].count("smmuv3.sev") == 1


def test_a_completion_message_over_its_own_command_can_be_polled_for() -> None:
    smmu = Programmed()
    at = smmu.command_queue

    smmu.send(sync(CS=CompletionSignal.IRQ, MSIAddress=at, MSIData=0))

    assert smmu.word(at) == 0
    assert smmu.consumer.RD == 1


def test_a_completion_message_that_aborts_is_an_error_and_does_not_stop_the_queue() -> None:
    smmu = Programmed()
    smmu.memory.place(READ_ONLY, np.zeros(PAGE, np.uint8), writable=False)

    smmu.send(sync(CS=CompletionSignal.IRQ, MSIAddress=READ_ONLY), sync())

    assert smmu.active_errors() == {"MSI_CMDQ_ABT_ERR"}
    assert smmu.consumer.RD == 2


def test_without_messages_and_events_a_completion_uses_the_wire_or_says_nothing() -> None:
    smmu = Programmed(identity={("IDR0", "MSI"): 0, ("IDR0", "SEV"): 0})

    smmu.send(sync(CS=CompletionSignal.IRQ, MSIAddress=0x8000_0000), sync(CS=CompletionSignal.SEV))

    assert smmu.interrupts == [Interrupt("CMD_SYNC")]
    assert not any(event == "smmuv3.sev" for event, _ in smmu.told)
