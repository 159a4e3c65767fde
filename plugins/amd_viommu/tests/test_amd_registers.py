"""Registers: what sticks, what starts and stops, and what takes effect without an invalidation (AMD 48882, 3.4)."""

from __future__ import annotations

import pytest

from plugins.amd_viommu.tests.programmed import DEVICE, FEATURES, HOST_PAGE, RAM, TABLES, Programmed
from viommu import Machine, PhysicalMemory, Registers
from viommu.board import Board
from viommu.hookspecs import LiveHardware
from viommu_amd_viommu import driver
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.registers import Control, DeviceTableBase, DeviceTableSegmentBase, ExclusionBase

ONES = (1 << 64) - 1

PRINTED_OFFSETS = {
    "DEVTAB": 0x0,
    "CMDBASE": 0x8,
    "EVTBASE": 0x10,
    "CONTROL": 0x18,
    "EXCLBASE": 0x20,
    "EXCLLIMIT": 0x28,
    "EFR": 0x30,
    "PPRBASE": 0x38,
    "HWEVTHI": 0x40,
    "HWEVTLO": 0x48,
    "HWEVTSTATUS": 0x50,
    "SMIFILTER0": 0x60,
    "SMIFILTER15": 0xD8,
    "GABASE": 0xE0,
    "GATAILADDR": 0xE8,
    "PPRBBASE": 0xF0,
    "EVTBBASE": 0xF8,
    "DEVTAB_SEG1": 0x100,
    "DEVTAB_SEG7": 0x130,
    "DSFX": 0x138,
    "DSCX": 0x140,
    "DSSX": 0x148,
    "MSIVECTOR0": 0x150,
    "MSIVECTOR1": 0x154,
    "MSICAP": 0x158,
    "MSIADDRLO": 0x15C,
    "MSIADDRHI": 0x160,
    "MSIDATA": 0x164,
    "MSIMAP": 0x168,
    "PERFOPT": 0x16C,
    "XTEVTINT": 0x170,
    "XTPPRINT": 0x178,
    "XTGAINT": 0x180,
    "VIOMMUSTATUS": 0x190,
    "EFR2": 0x1A0,
    "MARC0BASE": 0x200,
    "MARC3LENGTH": 0x258,
    "CMDHEAD": 0x2000,
    "CMDTAIL": 0x2008,
    "EVTHEAD": 0x2010,
    "EVTTAIL": 0x2018,
    "STATUS": 0x2020,
    "PPRHEAD": 0x2030,
    "PPRTAIL": 0x2038,
    "GAHEAD": 0x2040,
    "GATAIL": 0x2048,
    "PPRBHEAD": 0x2050,
    "PPRBTAIL": 0x2058,
    "EVTBHEAD": 0x2070,
    "EVTBTAIL": 0x2078,
    "PPRAUTORSP": 0x2080,
    "PPREARLY": 0x2088,
    "PPREARLYB": 0x2090,
    "COUNTERCFG": 0x4000,
}


def test_registers_lie_where_the_specification_prints_them() -> None:
    assert {name: REGISTERS[name].offset for name in PRINTED_OFFSETS} == PRINTED_OFFSETS


def test_no_two_registers_share_a_byte() -> None:
    bytes_of = [(register.offset + n) for register in REGISTERS.values() for n in range(register.size)]

    assert len(bytes_of) == len(set(bytes_of))


@pytest.mark.parametrize("name", sorted(set(REGISTERS) - {"CONTROL", "STATUS"}))
def test_a_register_keeps_what_its_fields_hold_and_nothing_else(name: str) -> None:
    machine, register = Programmed(), REGISTERS[name]
    before = machine.read(name)

    machine.write(name, ONES & (1 << register.size * 8) - 1)

    sets = ~register.layout.reserved_mask if register.writable is None else register.writable
    assert machine.read(name) == before | sets & register.mask


def test_a_register_is_written_in_halves_too() -> None:
    machine = Programmed()

    machine.machine.write_register(0x8, 0x1234_5000)
    machine.machine.write_register(0xC, 0x0900_0001)

    assert machine.read("CMDBASE") == 0x0900_0001_1234_5000
    assert machine.machine.read_register(0xC) == 0x0900_0001


def test_control_bits_of_features_that_hardware_lacks_do_not_stick() -> None:
    everything, nothing = Programmed(), Programmed(features={})

    everything.write("CONTROL", ONES)
    nothing.write("CONTROL", ONES)

    assert (everything.control.GTEn, everything.control.PPREn, everything.control.DevTblSegEn) == (1, 1, 3)
    assert (nothing.control.GTEn, nothing.control.PPREn, nothing.control.DevTblSegEn) == (0, 0, 0)
    assert (nothing.control.IommuEn, nothing.control.CmdBufEn, nothing.control.InvTimeOut) == (1, 1, 7)
    for machine in (everything, nothing):
        assert (machine.control.vIommuEn, machine.control.vCmdEn, machine.control.GstBufferTRPMode) == (0, 0, 0)


def test_more_segments_than_hardware_has_are_not_kept() -> None:
    machine = Programmed(features=FEATURES | {"DevTblSeg": 1})

    machine.write("CONTROL", int(Control(DevTblSegEn=7)))

    assert machine.control.DevTblSegEn == 1


@pytest.mark.parametrize(
    ("enable", "run"),
    [("CmdBufEn", "CmdBufRun"), ("EventLogEn", "EventLogRun"), ("PPRLogEn", "PPRRun"), ("GALogEn", "GALogRun")],
)
def test_a_queue_runs_while_it_and_the_iommu_are_enabled(enable: str, run: str) -> None:
    machine = Programmed()
    seen = []

    for bits in ({enable: 1}, {"IommuEn": 1}, {enable: 0}, {enable: 1}, {"IommuEn": 0}):
        machine.switch(**bits)
        seen.append(getattr(machine.status, run))

    assert seen == [0, 1, 0, 1, 0]


def test_status_is_cleared_by_ones_and_run_bits_are_hardware_s() -> None:
    machine = Programmed().start()
    machine.device(TV=0)
    machine.fault(0x1000)
    assert machine.status.EventLogInt

    machine.write("STATUS", 0)
    assert machine.status.EventLogInt
    machine.write("STATUS", ONES)

    assert not machine.status.EventLogInt
    assert machine.status.EventLogRun
    assert machine.status.CmdBufRun


def test_without_the_iommu_everything_passes_and_nothing_is_forgotten() -> None:
    machine = Programmed().start()
    table = machine.host()
    machine.store(table + 8, 0x5000 | HOST_PAGE)
    assert machine.pa(0x1234) == 0x5234
    machine.store(table + 8, 0x6000 | HOST_PAGE)

    machine.switch(IommuEn=0)
    assert machine.pa(0x1234) == 0x1234
    machine.switch(IommuEn=1)

    assert machine.pa(0x1234) == 0x5234


def test_a_new_device_table_is_read_where_the_old_one_is_not_cached() -> None:
    machine = Programmed().start()
    for requester in (DEVICE, DEVICE + 1):
        machine.device(requester)
    assert machine.pa(0x1000) == 0x1000  # and cached, of this device alone

    machine.write("DEVTAB", int(DeviceTableBase(Base=TABLES, Size=0xFF)))
    for requester in (DEVICE, DEVICE + 1):
        assert machine.memory.write(TABLES + requester * DTE.size, DTE(V=1).encode())

    assert machine.pa(0x1000) == 0x1000
    machine.fault(0x1000, requester=DEVICE + 1)


def test_segments_are_found_through_registers() -> None:
    machine = Programmed()
    machine.write("DEVTAB_SEG1", int(DeviceTableSegmentBase(Base=TABLES, Size=0)))
    machine.start(DevTblSegEn=1)
    assert machine.memory.write(TABLES + 2 * 32, DTE(V=1, TV=1, DomainID=3).encode())

    fault = machine.fault(0x1000, requester=0x8002)

    assert fault.driver_bits & 0xFFFF == 3
    assert machine.fault(0x1000, requester=0x8080).kind.name == "CONFIGURATION"


def test_the_exclusion_range_counts_from_the_store_on() -> None:
    machine = Programmed().start()
    machine.host(EX=1)
    machine.fault(0x1000)

    machine.write("EXCLBASE", int(ExclusionBase(Enable=1, Base=0x1000)))
    machine.write("EXCLLIMIT", 0x1000)
    assert machine.pa(0x1FFF) == 0x1FFF
    machine.fault(0x2000)
    machine.write("EXCLBASE", 0)

    machine.fault(0x1000)


def test_a_model_made_from_a_recording_acts_on_nothing() -> None:
    memory = PhysicalMemory()
    memory.place(RAM, bytearray(0x1000))
    said: list[object] = []
    values = {"CONTROL": ONES & 0x1FFFF, "CMDBASE": RAM | 8 << 56, "CMDTAIL": 0x100, "STATUS": 0x1F}

    made = driver.viommu_hardware(memory, Registers(values), Board(memory, on_interrupt=said.append))

    assert isinstance(made, LiveHardware)
    assert (made.read(0x2000, 8), made.read(0x2020, 8), said) == (0, 0x1F, [])


def test_what_software_enabled_runs_where_a_recording_has_no_status() -> None:
    machine = Machine("amd_viommu", registers={"CONTROL": int(Control(IommuEn=1, EventLogEn=1))})

    assert machine.read_register(0x2020) == 1 << 3


def test_control_changes_are_told_to_observers() -> None:
    machine = Programmed().start()

    event, facts = machine.observed[0]

    assert event == "amd.control"
    assert facts["after"] == int(machine.control)
