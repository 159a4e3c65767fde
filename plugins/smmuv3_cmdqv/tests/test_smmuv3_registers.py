"""Registers as software sees them: what can be written, when, and what answers."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.programmed import STREAM, Programmed
from viommu import Fault, Machine, Translation
from viommu_smmuv3_cmdqv.spec.queue_registers import CMDQ_BASE, IRQ_CTRL
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS
from viommu_smmuv3_cmdqv.spec.registers import CR0, CR1, GBPA, IDR0, IDR1, IDR3, STRTAB_BASE


@pytest.fixture
def off() -> Programmed:
    return Programmed(on=False)


def test_an_smmu_of_which_nothing_is_said_is_the_whole_model() -> None:
    idr0 = IDR0.decode(Machine("smmuv3_cmdqv").read_register(0))

    assert (idr0.S1P, idr0.S2P, idr0.ATS, idr0.PRI, idr0.MSI, idr0.SEV, idr0.CD2L) == (1,) * 7
    assert (idr0.ATOS, idr0.VATOS, idr0.RME_IMPL) == (0,) * 3


def test_hardware_never_claims_what_is_not_modelled() -> None:
    machine = Machine("smmuv3_cmdqv", registers={"IDR0": 0xFFFF_FFFF, "IDR1": 0xFFFF_FFFF, "IDR3": 0xFFFF})

    assert IDR0.decode(machine.read_register(0)).ATOS == 0
    assert IDR1.decode(machine.read_register(4)).ECMDQ == 0
    assert IDR3.decode(machine.read_register(0xC)).MPAM == 0


def test_the_secure_bank_and_gatos_read_as_zero_and_keep_nothing(off: Programmed) -> None:
    for offset in (0x100, 0x108, 0x118, 0x8000, 0x8020, 0x803C):
        off.machine.write_register(offset, 0xFFFF_FFFF)
        assert off.machine.read_register(offset) == 0


@pytest.mark.parametrize("value", [0, 1, 0b1010, 0b11111])
def test_what_is_written_to_cr0_is_acknowledged(off: Programmed, value: int) -> None:
    off.program("CR0", value)

    assert off.register("CR0") == off.register("CR0ACK") == value


def test_cr0_keeps_no_enable_of_what_is_absent() -> None:
    smmu = Programmed(on=False, identity={("IDR0", "PRI"): 0, ("IDR0", "ATS"): 0, ("IDR0", "VMW"): 0})

    smmu.program("CR0", 0xFFFF_FFFE)

    assert smmu.register("CR0") == int(CR0(EVTQEN=1, CMDQEN=1))


def test_what_is_written_to_irq_ctrl_is_acknowledged(off: Programmed) -> None:
    off.program("IRQ_CTRL", 0xFF)

    assert off.register("IRQ_CTRL") == off.register("IRQ_CTRLACK") == 7


def test_gbpa_changes_only_with_update_which_is_done_at_once(off: Programmed) -> None:
    off.program("GBPA", GBPA(ABORT=1))
    assert off.register("GBPA") == 0

    off.program("GBPA", GBPA(ABORT=1, UPDATE=1))
    assert off.register("GBPA") == int(GBPA(ABORT=1))


def test_gbpa_governs_accesses_until_the_smmu_is_enabled(off: Programmed) -> None:
    passed = off.machine.translate(STREAM, 0x1234)
    off.program("GBPA", GBPA(ABORT=1, UPDATE=1))
    aborted = off.machine.translate(STREAM, 0x1234)
    off.bring_up()
    enabled = off.miss(0x1234)

    assert isinstance(passed, Translation)
    assert passed.untranslated
    assert isinstance(aborted, Fault)
    assert off.machine.report(aborted).outcome == "abort"
    assert off.machine.report(enabled).reason == "C_BAD_STE"


def test_switching_off_brings_bypass_back_even_for_what_was_cached() -> None:
    smmu = Programmed()
    smmu.page(smmu.address_space(), 0x5000, 0x9000)
    assert smmu.reach(0x5000) == 0x9000

    smmu.change("CR0", SMMUEN=0)
    assert smmu.reach(0x5000) == 0x5000
    smmu.change("CR0", SMMUEN=1)
    assert smmu.reach(0x5000) == 0x9000


@pytest.mark.parametrize(
    ("name", "enable"),
    [
        ("STRTAB_BASE", "SMMUEN"), ("STRTAB_BASE_CFG", "SMMUEN"), ("CR2", "SMMUEN"), ("CMDQ_BASE", "CMDQEN"),
        ("CMDQ_CONS", "CMDQEN"), ("EVENTQ_BASE", "EVTQEN"), ("EVENTQ_PROD", "EVTQEN"), ("PRIQ_BASE", "PRIQEN"),
        ("PRIQ_PROD", "PRIQEN"),
    ],
)  # fmt: skip
def test_what_hardware_relies_on_changes_only_while_it_is_off(name: str, enable: str) -> None:
    smmu = Programmed()
    _, layout = REGISTERS[name]
    every_bit = (1 << layout.width) - 1 & ~layout.reserved_mask
    before = smmu.register(name)

    smmu.program(name, every_bit)
    guarded = smmu.register(name)
    smmu.change("CR0", **{enable: 0})
    smmu.program(name, every_bit)

    assert guarded == before
    assert smmu.register(name) == every_bit


def test_cr1_keeps_the_attributes_of_what_is_on() -> None:
    smmu = Programmed()
    smmu.change("CR0", SMMUEN=0)
    smmu.program("CR1", 0xFFF)
    tables_alone = smmu.register("CR1")
    smmu.program("CR0", 0)
    smmu.program("CR1", 0xFFF)

    assert tables_alone == int(CR1(TABLE_IC=3, TABLE_OC=3, TABLE_SH=3))
    assert smmu.register("CR1") == 0xFFF


@pytest.mark.parametrize(("name", "preset"), [("STRTAB_BASE", "TABLES_PRESET"), ("CMDQ_BASE", "QUEUES_PRESET")])
def test_preset_addresses_are_read_only(name: str, preset: str) -> None:
    smmu = Programmed(on=False, identity={("IDR1", preset): 1})

    smmu.program(name, 0x1000)

    assert smmu.register(name) == 0


@pytest.mark.parametrize("source", ["GERROR", "EVENTQ", "PRIQ"])
def test_a_message_is_set_up_while_its_interrupt_is_off(off: Programmed, source: str) -> None:
    off.program(f"{source}_IRQ_CFG0", 0x1000)
    off.program("IRQ_CTRL", IRQ_CTRL(GERROR_IRQEN=1, EVENTQ_IRQEN=1, PRIQ_IRQEN=1))
    off.program(f"{source}_IRQ_CFG0", 0x2000)

    assert off.register(f"{source}_IRQ_CFG0") == 0x1000


def test_without_messages_there_is_nowhere_to_send_them() -> None:
    smmu = Programmed(on=False, identity={("IDR0", "MSI"): 0})

    smmu.program("EVENTQ_IRQ_CFG0", 0x1000)

    assert smmu.register("EVENTQ_IRQ_CFG0") == 0


def test_what_hardware_says_of_itself_cannot_be_written(off: Programmed) -> None:
    for name in ("IDR0", "IDR5", "AIDR", "CR0ACK", "IRQ_CTRLACK", "GERROR", "CIDR0", "STATUSR"):
        before = off.register(name)
        off.program(name, ~before & 0xFFFF_FFFF)
        assert off.register(name) == before


def test_a_wide_register_is_written_in_halves_too(off: Programmed) -> None:
    off.machine.write_register(0x80, 0x1234_5000, 4)
    off.machine.write_register(0x84, 0x4000_0001, 4)

    assert off.register("STRTAB_BASE") == int(STRTAB_BASE(ADDR=0x1_1234_5000, RA=1))


def test_both_ends_of_a_queue_may_be_written_as_one(off: Programmed) -> None:
    off.machine.write_register(0x98, 3 << 32 | 3, 8)

    assert (off.register("CMDQ_PROD"), off.register("CMDQ_CONS")) == (3, 3)


def test_a_wide_write_of_a_running_queue_moves_hardwares_end_by_hardware_alone() -> None:
    smmu = Programmed()
    smmu.machine.write_register(0x98, 9 << 32 | 0, 8)

    assert smmu.consumer.RD == 0
    assert not smmu.active_errors()


def test_registers_of_a_capture_set_nothing_off() -> None:
    smmu = Programmed()
    values = {name: smmu.register(name) for name in REGISTERS} | {"CMDQ_PROD": 3, "GERROR": 1}
    told: list[str] = []

    machine = Machine("smmuv3_cmdqv", smmu.memory, values, observers=[lambda event, _: told.append(event)])

    assert not told
    assert machine.read_register(0x9C) == smmu.register("CMDQ_CONS")
    assert machine.read_register(0x24) == smmu.register("CR0")


def test_software_reads_a_queue_base_as_it_wrote_it(off: Programmed) -> None:
    written = int(CMDQ_BASE(ADDR=0x8000_1020, LOG2SIZE=8, RA=1))

    off.program("CMDQ_BASE", written)

    assert off.register("CMDQ_BASE") == written
