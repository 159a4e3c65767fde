"""Whatever software writes, into registers and queues, the SMMU answers and stays whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.smmuv3_cmdqv.tests.programmed import PAGE, RAM, STREAM, Programmed
from viommu import Access
from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode
from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS

OFFSETS = st.one_of(st.sampled_from([offset for offset, _ in REGISTERS.values()]), st.integers(0, 0x2_0000))
VALUES = st.one_of(
    st.integers(0, 0x1F), st.integers(0, (1 << 64) - 1), st.integers(0, 0x1000).map(lambda page: RAM + page * 0x1000)
)
BYTES = st.binary(min_size=16, max_size=16)
COMMANDS = st.one_of(
    BYTES,
    st.tuples(st.sampled_from(CommandOpcode), BYTES).map(
        lambda known: bytes([known[0], known[1][1] & 0xFB]) + known[1][2:]
    ),
)


WRITES = st.lists(st.tuples(OFFSETS, st.sampled_from([1, 2, 3, 4, 8, 16]), VALUES), max_size=30)
QUEUES = st.lists(COMMANDS, min_size=1, max_size=15)


@settings(max_examples=200)
@given(WRITES)
def test_any_register_writes_leave_a_machine_that_answers(writes: list[tuple[int, int, int]]) -> None:
    write_registers(writes)


@pytest.mark.long
@given(WRITES)
def test_any_register_writes_at_length(writes: list[tuple[int, int, int]]) -> None:
    write_registers(writes)


def write_registers(writes: list[tuple[int, int, int]]) -> None:
    smmu = Programmed()
    smmu.address_space(S=1)
    device = smmu.machine.device(STREAM)
    for offset, size, value in writes:
        smmu.machine.hardware.write(offset, size, value)  # of any size, which a machine refuses
        smmu.machine.hardware.read(offset, size)

    smmu.machine.translate(STREAM, PAGE, Access.WRITE)
    device.translate(PAGE)
    device.request_page(PAGE, Access.READ, group=1)

    assert smmu.register("CR0ACK") == smmu.register("CR0")
    assert smmu.register("IRQ_CTRLACK") == smmu.register("IRQ_CTRL")
    assert not smmu.register("GBPA") >> 31


@settings(max_examples=200)
@given(QUEUES)
def test_any_commands_are_consumed_or_stopped_at(commands: list[bytes]) -> None:
    send_commands(commands)


@pytest.mark.long
@given(QUEUES)
def test_any_commands_at_length(commands: list[bytes]) -> None:
    send_commands(commands)


def send_commands(commands: list[bytes]) -> None:
    smmu = Programmed()
    smmu.page(smmu.address_space(), PAGE)
    smmu.reach(PAGE)
    for at, raw in enumerate(commands):
        assert smmu.memory.write(smmu.command_queue + 16 * at, raw)
    smmu.program("CMDQ_PROD", len(commands))

    stopped = "CMDQ_ERR" in smmu.active_errors()
    assert stopped == (len(commands) > smmu.consumer.RD)
    assert not stopped or smmu.consumer.ERR == CommandError.CERROR_ILL
    assert smmu.reach(PAGE)


@settings(max_examples=100)
@given(
    base=st.integers(0, (1 << 64) - 1), prod=st.integers(0, (1 << 20) - 1), cons=st.integers(0, (1 << 20) - 1),
    lg2=st.integers(0, 8),
)  # fmt: skip
def test_any_queue_anywhere_comes_to_rest(base: int, prod: int, cons: int, lg2: int) -> None:
    smmu = Programmed()
    smmu.address_space()
    smmu.program("CR0", 0)
    for queue in ("CMDQ", "EVENTQ", "PRIQ"):
        smmu.program(f"{queue}_BASE", base & ~0x1F | lg2)
        smmu.program(f"{queue}_PROD", prod)
        smmu.program(f"{queue}_CONS", cons)
    smmu.program("CR0", 0b11111)
    smmu.miss(PAGE)
    smmu.machine.device(STREAM).request_page(PAGE, Access.READ, group=0)

    mask = (2 << lg2) - 1
    assert "CMDQ_ERR" in smmu.active_errors() or not (prod ^ smmu.consumer.RD) & mask
