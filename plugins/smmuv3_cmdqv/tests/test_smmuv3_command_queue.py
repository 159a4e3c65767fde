"""The command queue: order, wrapping, and where errors stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from plugins.smmuv3_cmdqv.tests.programmed import HOLE, STREAM, Programmed
from viommu_smmuv3_cmdqv.spec.commands import (
    ATC_INV,
    CFGI_CD,
    COMMANDS,
    PRI_RESP,
    RESUME,
    STALL_TERM,
    SYNC,
    TLBI_NH_ALL,
    TLBI_NSNH_ALL,
    TLBI_S12_VMALL,
    Command,
    CommandOpcode,
    CompletionSignal,
)
from viommu_smmuv3_cmdqv.spec.queue_registers import CMDQ_BASE, CommandError
from viommu_smmuv3_cmdqv.spec.registers import CR0

if TYPE_CHECKING:
    from viommu.platform import Interrupt

ILLEGAL, ABORTED = CommandError.CERROR_ILL, CommandError.CERROR_ABT
FLUSH = TLBI_NSNH_ALL(Opcode=CommandOpcode.TLBI_NSNH_ALL)
NOTHING = SYNC(Opcode=CommandOpcode.SYNC)


def made(opcode: CommandOpcode, **fields: int) -> Command:
    return COMMANDS[opcode](Opcode=opcode, **fields)


@pytest.mark.parametrize("lg2", range(6))
def test_a_queue_of_every_size_wraps_and_can_be_full(lg2: int) -> None:
    smmu = Programmed(command_lg2=lg2)
    for _ in range(5):
        smmu.send(*[NOTHING] * (1 << lg2))
        assert smmu.register("CMDQ_PROD") == smmu.consumer.RD
    for count in range(1, (1 << lg2) + 1):
        smmu.send(*[NOTHING] * count)
        assert smmu.register("CMDQ_PROD") == smmu.consumer.RD

    assert not smmu.active_errors()


def test_a_queue_is_no_larger_than_hardware_allows() -> None:
    smmu = Programmed(identity={("IDR1", "CMDQS"): 2}, command_lg2=2, on=False)
    smmu.bring_up()
    smmu.change("CR0", CMDQEN=0)
    smmu.program("CMDQ_BASE", CMDQ_BASE(ADDR=smmu.command_queue, LOG2SIZE=20))
    smmu.change("CR0", CMDQEN=1)

    for _ in range(9):
        smmu.send(NOTHING)

    assert smmu.consumer.RD == 9 & 7
    assert not smmu.active_errors()


def test_a_queue_starts_where_its_size_allows() -> None:
    smmu = Programmed(on=False)
    smmu.bring_up()
    smmu.change("CR0", CMDQEN=0)
    smmu.program("CMDQ_BASE", CMDQ_BASE(ADDR=smmu.command_queue + 0x20, LOG2SIZE=smmu.command_lg2))
    smmu.change("CR0", CMDQEN=1)

    smmu.send(NOTHING, NOTHING)

    assert smmu.consumer.RD == 2


def test_commands_wait_until_the_queue_is_enabled() -> None:
    smmu = Programmed()
    smmu.change("CR0", CMDQEN=0)
    smmu.send(NOTHING, NOTHING)
    before = smmu.consumer.RD
    smmu.change("CR0", CMDQEN=1)

    assert (before, smmu.consumer.RD) == (0, 2)


@pytest.mark.parametrize("at", range(5))
def test_a_bad_command_stops_the_queue_exactly_there(at: int) -> None:
    smmu = Programmed()
    entry = smmu.page(smmu.address_space(), 0x5000, 0x9000)
    smmu.reach(0x5000)
    smmu.put(entry, smmu.word(entry) ^ 0x9000 ^ 0xA000)
    flush_at = 2

    smmu.send(*[made(CommandOpcode.SYNC, CS=3) if n == at else FLUSH if n == flush_at else NOTHING for n in range(5)])

    assert (at, ILLEGAL) == (smmu.consumer.RD, smmu.consumer.ERR)
    assert smmu.active_errors() == {"CMDQ_ERR"}
    assert smmu.reach(0x5000) == (0xA000 if flush_at < at else 0x9000)


def test_the_queue_goes_on_where_it_stopped_once_software_acknowledges() -> None:
    smmu = Programmed()
    smmu.send(NOTHING, Command(), NOTHING)
    smmu.send(NOTHING)
    stopped = smmu.consumer.RD
    smmu.put(smmu.command_queue + 16, NOTHING)
    still = smmu.consumer.RD
    smmu.acknowledge()

    assert (stopped, still, smmu.consumer.RD) == (1, 1, 4)
    assert not smmu.active_errors()


def test_an_error_that_is_acknowledged_but_not_mended_comes_back() -> None:
    smmu = Programmed()
    smmu.send(Command())
    smmu.acknowledge()

    assert smmu.consumer.ERR == ILLEGAL
    assert smmu.active_errors() == {"CMDQ_ERR"}


def test_a_queue_in_a_hole_aborts_the_fetch() -> None:
    smmu = Programmed()
    smmu.change("CR0", CMDQEN=0)
    smmu.program("CMDQ_BASE", CMDQ_BASE(ADDR=HOLE, LOG2SIZE=4))
    smmu.change("CR0", CMDQEN=1)
    smmu.program("CMDQ_PROD", 3)

    assert (smmu.consumer.RD, smmu.consumer.ERR) == (0, ABORTED)
    assert smmu.active_errors() == {"CMDQ_ERR"}


def test_commands_before_a_hole_are_executed() -> None:
    smmu, half = Programmed(), 0x9000_0000
    smmu.memory.place(half, np.zeros(0x1000, np.uint8))
    for at in range(256):
        smmu.put(half + 16 * at, NOTHING)
    smmu.change("CR0", CMDQEN=0)
    smmu.program("CMDQ_BASE", CMDQ_BASE(ADDR=half, LOG2SIZE=9))
    smmu.change("CR0", CMDQEN=1)
    smmu.program("CMDQ_PROD", 300)

    assert (smmu.consumer.RD, smmu.consumer.ERR) == (256, ABORTED)


@pytest.mark.parametrize("opcode", sorted(set(range(256)) - {int(opcode) for opcode in CommandOpcode}))
def test_an_opcode_that_means_nothing_is_illegal(opcode: int) -> None:
    smmu = Programmed()

    smmu.send(NOTHING, Command(Opcode=opcode))

    assert (smmu.consumer.RD, smmu.consumer.ERR) == (1, ILLEGAL)


@pytest.mark.parametrize("opcode", CommandOpcode)
def test_a_command_for_the_secure_state_is_illegal(opcode: CommandOpcode) -> None:
    smmu = Programmed()

    smmu.send(made(opcode, SSec=1))

    assert (smmu.consumer.RD, smmu.consumer.ERR) == (0, ILLEGAL)


@pytest.mark.parametrize(
    ("command", "lacking"),
    [
        (CFGI_CD(Opcode=CommandOpcode.CFGI_CD), "S1P"),
        (made(CommandOpcode.CFGI_CD_ALL), "S1P"),
        (TLBI_NH_ALL(Opcode=CommandOpcode.TLBI_NH_ALL), "S1P"),
        (made(CommandOpcode.TLBI_NH_ASID), "S1P"),
        (made(CommandOpcode.TLBI_NH_VA), "S1P"),
        (made(CommandOpcode.TLBI_NH_VAA), "S1P"),
        (TLBI_S12_VMALL(Opcode=CommandOpcode.TLBI_S12_VMALL), "S2P"),
        (made(CommandOpcode.TLBI_S2_IPA), "S2P"),
        (made(CommandOpcode.TLBI_EL2_ALL), "HYP"),
        (made(CommandOpcode.TLBI_EL2_ASID), "HYP"),
        (made(CommandOpcode.TLBI_EL2_VA), "HYP"),
        (made(CommandOpcode.TLBI_EL2_VAA), "HYP"),
        (ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=STREAM), "ATS"),
        (PRI_RESP(Opcode=CommandOpcode.PRI_RESP, SID=STREAM), "PRI"),
    ],
)
def test_a_command_needs_what_it_works_on(command: Command, lacking: str) -> None:
    able, unable = Programmed(), Programmed(identity={("IDR0", lacking): 0})

    able.send(command)
    unable.send(command)

    assert not able.active_errors()
    assert unable.consumer.ERR == ILLEGAL


@pytest.mark.parametrize("command", [RESUME(Opcode=CommandOpcode.RESUME), STALL_TERM(Opcode=CommandOpcode.STALL_TERM)])
def test_stalls_cannot_be_ended_where_there_are_none(command: Command) -> None:
    smmu = Programmed(identity={("IDR0", "STALL_MODEL"): 1})

    smmu.send(command)

    assert smmu.consumer.ERR == ILLEGAL


@pytest.mark.parametrize("opcode", [CommandOpcode.TLBI_EL3_ALL, CommandOpcode.TLBI_EL3_VA, CommandOpcode.CFGI_VMS_PIDM])
def test_commands_of_what_is_absent_are_illegal(opcode: CommandOpcode) -> None:
    smmu = Programmed()

    smmu.send(made(opcode))

    assert smmu.consumer.ERR == ILLEGAL


def test_reserved_answers_to_page_requests_are_illegal() -> None:
    smmu = Programmed()

    smmu.send(made(CommandOpcode.PRI_RESP, Resp=3))

    assert smmu.consumer.ERR == ILLEGAL


def test_hints_are_taken_without_effect() -> None:
    smmu = Programmed()

    smmu.send(made(CommandOpcode.PREFETCH_CONFIG, SID=1), made(CommandOpcode.PREFETCH_ADDR, SID=1, Size=31))

    assert smmu.consumer.RD == 2
    assert not smmu.active_errors()


def test_a_batch_is_told_to_observers_with_what_was_in_it() -> None:
    smmu = Programmed()

    smmu.send(FLUSH, NOTHING, FLUSH, Command())

    assert ("smmuv3.commands", {"count": 3, "kinds": {"TLBI_NSNH_ALL": 2, "SYNC": 1}, "error": "CERROR_ILL"}) in (
        smmu.told
    )


def test_a_handler_of_completion_may_queue_more_commands() -> None:
    smmu = Programmed()

    def more(_: Interrupt) -> None:
        if len(smmu.interrupts) < 4:
            smmu.send(made(CommandOpcode.SYNC, CS=CompletionSignal.IRQ))

    smmu.handler = more
    smmu.send(made(CommandOpcode.SYNC, CS=CompletionSignal.IRQ))

    assert len(smmu.interrupts) == 4
    assert smmu.consumer.RD == 4


def test_a_handler_of_completion_may_switch_the_queue_off() -> None:
    smmu = Programmed()
    smmu.handler = lambda _: smmu.change("CR0", CMDQEN=0)

    smmu.send(made(CommandOpcode.SYNC, CS=CompletionSignal.IRQ), NOTHING)

    assert smmu.consumer.RD == 1
    assert not CR0.decode(smmu.register("CR0ACK")).CMDQEN


@pytest.mark.parametrize("base", [None, HOLE])
def test_a_handler_that_acknowledges_without_mending_comes_to_an_end(base: int | None) -> None:
    smmu = Programmed()
    if base is not None:
        smmu.change("CR0", CMDQEN=0)
        smmu.program("CMDQ_BASE", CMDQ_BASE(ADDR=base, LOG2SIZE=4))
        smmu.change("CR0", CMDQEN=1)
    smmu.handler = lambda _: smmu.acknowledge()

    smmu.send(NOTHING if base else Command())

    assert smmu.consumer.RD == 0


def test_a_handler_that_mends_the_command_has_the_queue_go_on() -> None:
    smmu = Programmed()

    def mend(_: Interrupt) -> None:
        smmu.put(smmu.command_queue + 16 * smmu.consumer.RD, NOTHING)
        smmu.acknowledge()

    smmu.handler = mend
    smmu.send(NOTHING, Command(), NOTHING, Command(), Command())

    assert smmu.consumer.RD == 5
    assert not smmu.active_errors()


def test_a_long_queue_is_executed_in_runs() -> None:
    smmu = Programmed(command_lg2=14)

    smmu.send(*[NOTHING] * 10000)
    smmu.send(*[NOTHING] * 10000)

    assert smmu.consumer.RD == 20000
