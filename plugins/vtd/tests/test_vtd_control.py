"""Global commands, the root pointer, register-based invalidation, protected memory."""

from __future__ import annotations

import pytest

from plugins.vtd.tests import attached
from plugins.vtd.tests.guest import R, W
from plugins.vtd.tests.programming import Software
from viommu.faults import Access, Fault
from viommu.machine import Machine
from viommu.memory import PhysicalMemory
from viommu.translation import Translation
from viommu_vtd.hardware.live.register_map import ABSENT, FULL_CAP, FULL_ECAP, declared
from viommu_vtd.spec.queue_registers import CCMD, IOTLB, IVA
from viommu_vtd.spec.registers import GCMD, RTADDR
from viommu_vtd.spec.root_context import ContextEntry

RID = 0x0108
IOVA = 0x40_0000
MIB = 1 << 20


def mapped(software: Software, rights: int = R | W, **fields: int) -> tuple[int, int]:
    """Map a page at IOVA in domain 5; gives the page and the address of its leaf."""
    guest = software.guest
    table, page = guest.page(), guest.page()
    guest.legacy(RID, ContextEntry(P=1, AW=2, DID=5, SSPTPTR=table).replace(**fields))
    return page, guest.map(table, 4, IOVA, page | rights)


def goes_to(software: Software, iova: int = IOVA, access: Access = Access.READ) -> int | None:
    found = software.machine.translate(RID, iova, access)
    return found.pa if isinstance(found, Translation) else None


def test_a_unit_that_is_told_nothing_can_do_everything() -> None:
    machine = Machine("vtd", PhysicalMemory())

    assert machine.read_register(0x08, 8) == int(FULL_CAP)
    assert machine.read_register(0x10, 8) == int(FULL_ECAP)
    assert machine.read_register(0x38) == 1 << 31  # interrupts are masked after a reset


@pytest.mark.parametrize(
    ("command", "status"),
    [("TE", "TES"), ("QIE", "QIES"), ("IRE", "IRES"), ("CFI", "CFIS"), ("SRTP", "RTPS"), ("SIRTP", "IRTPS")],
)
def test_each_command_is_told_by_its_status_bit(command: str, status: str) -> None:
    software = Software.make()

    software.command(**{command: 1})

    assert getattr(software.gsts, status) == 1
    assert software.read("GCMD") == 0


@pytest.mark.parametrize(("command", "status"), [("TE", "TES"), ("QIE", "QIES"), ("IRE", "IRES"), ("CFI", "CFIS")])
def test_a_switch_is_thrown_back_by_writing_zero_and_touches_no_other(command: str, status: str) -> None:
    software = Software.make()
    software.command(SRTP=1)
    for switch in ("TE", "QIE", "IRE", "CFI"):
        software.command(**{switch: 1})

    before = software.gsts
    software.command(**{command: 0})

    assert software.gsts == before.replace(**{status: 0})


@pytest.mark.parametrize("command", ["WBF", "SFL", "EAFL"])
def test_commands_of_what_there_is_not_do_nothing(command: str) -> None:
    software = Software.make()

    software.command(**{command: 1})

    assert int(software.gsts) == 0


def test_two_commands_at_once_are_done_pointers_first_and_told_to_be_undefined() -> None:
    software = Software.make()
    mapped(software)
    software.write("RTADDR", RTADDR(RTA=software.guest.root))

    software.write("GCMD", GCMD(TE=1, SRTP=1))

    assert goes_to(software) is not None
    assert ("vtd.global_command", {"commands": ["SRTP", "TE"], "defined": False}) in software.observed


def test_the_queue_cannot_be_enabled_where_there_is_none() -> None:
    software = Software.make(ecap=FULL_ECAP.replace(QI=0))

    software.command(QIE=1)

    assert software.gsts.QIES == 0


def test_the_root_in_force_is_the_latched_one() -> None:
    software = Software.make()
    page, _ = mapped(software)
    software.enable()
    assert goes_to(software) == page

    software.write("RTADDR", RTADDR(RTA=software.guest.page()))
    assert goes_to(software) == page
    software.machine.translator.invalidate_contexts()
    assert goes_to(software) == page

    software.command(SRTP=1)
    assert goes_to(software) is None


@pytest.mark.parametrize("esrtps", [0, 1])
def test_a_new_root_ends_what_is_cached_only_with_esrtps(esrtps: int) -> None:
    software = Software.make(cap=FULL_CAP.replace(ESRTPS=esrtps))
    page, leaf = mapped(software)
    software.enable()
    assert goes_to(software) == page
    software.guest.put(leaf, 0)

    software.command(SRTP=1)

    assert goes_to(software) == (None if esrtps else page)


def test_translation_that_is_switched_off_passes_everything_and_comes_back_as_it_was() -> None:
    software = Software.make()
    page, leaf = mapped(software)
    software.enable()
    assert goes_to(software) == page
    software.guest.put(leaf, 0)

    software.command(TE=0)
    assert goes_to(software) == IOVA
    software.command(TE=1)

    assert goes_to(software) == page  # the IOTLB outlived it: only software invalidates


@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (CCMD(ICC=1, CIRG=1), True),
        (CCMD(ICC=1, CIRG=2, DID=5), True),
        (CCMD(ICC=1, CIRG=2, DID=6), False),
        (CCMD(ICC=1, CIRG=3, DID=5, SID=RID), True),
        (CCMD(ICC=1, CIRG=3, SID=RID ^ 4), False),
        (CCMD(ICC=1, CIRG=3, SID=RID ^ 4, FM=1), True),
        (CCMD(ICC=1, CIRG=3, SID=RID ^ 2, FM=1), False),
        (CCMD(ICC=1, CIRG=3, SID=RID ^ 2, FM=2), True),
        (CCMD(ICC=1, CIRG=3, SID=RID ^ 1, FM=2), False),
        (CCMD(ICC=1, CIRG=3, SID=RID ^ 7, FM=3), True),
        (CCMD(ICC=1, CIRG=3, SID=RID ^ 8, FM=3), False),
    ],
)
def test_ccmd_drops_contexts_and_tells_what_it_did(command: CCMD, gone: bool) -> None:
    software = Software.make()
    page, _ = mapped(software)
    software.enable()
    assert goes_to(software) == page
    software.guest.legacy(RID, ContextEntry())

    software.write("CCMD", command)

    assert (goes_to(software) is None) == gone
    done = CCMD.decode(software.read("CCMD"))
    assert (done.ICC, done.CAIG) == (0, command.CIRG)


@pytest.mark.parametrize(
    ("command", "address", "gone", "told"),
    [
        (IOTLB(IVT=1, IIRG=1), IVA(), True, 1),
        (IOTLB(IVT=1, IIRG=2, DID=5), IVA(), True, 2),
        (IOTLB(IVT=1, IIRG=2, DID=6), IVA(), False, 2),
        (IOTLB(IVT=1, IIRG=3, DID=5), IVA(ADDR=IOVA), True, 3),
        (IOTLB(IVT=1, IIRG=3, DID=5, DW=1, DR=1), IVA(ADDR=IOVA, IH=1), True, 3),
        (IOTLB(IVT=1, IIRG=3, DID=5), IVA(ADDR=IOVA + 0x1000), False, 3),
        (IOTLB(IVT=1, IIRG=3, DID=5), IVA(ADDR=IOVA + 0x1000, AM=1), True, 3),
        (IOTLB(IVT=1, IIRG=3, DID=5), IVA(ADDR=IOVA, AM=19), False, 0),  # beyond MAMV
        (IOTLB(IVT=1, IIRG=0, DID=5), IVA(ADDR=IOVA), False, 0),
    ],
)
def test_the_iotlb_register_drops_translations_and_tells_what_it_did(
    command: IOTLB, address: IVA, gone: bool, told: int
) -> None:
    software = Software.make()
    page, leaf = mapped(software)
    software.enable()
    assert goes_to(software) == page
    software.guest.put(leaf, 0)

    software.write("IVA", address)
    software.write("IOTLB", command)

    assert (goes_to(software) is None) == gone
    done = IOTLB.decode(software.read("IOTLB"))
    assert (0, told) == (done.IVT, done.IAIG)


@pytest.mark.parametrize(("domain", "gone"), [(5, True), (6, False)])
def test_pages_of_second_stage_take_nested_translations_of_the_domain_along(domain: int, gone: bool) -> None:
    software, leaf, _ = attached.scalable(3, cap=FULL_CAP.replace(ESRTPS=0))
    software.guest.put(leaf, 0)
    software.command(QIE=0)

    mode, software.guest.mode = software.guest.mode, 0  # the registers work in legacy mode alone
    software.set_root()
    software.write("IVA", IVA(ADDR=0))
    software.write("IOTLB", IOTLB(IVT=1, IIRG=3, DID=domain))
    software.guest.mode = mode
    software.set_root()

    assert attached.reaches(software, attached.PASID) != gone


def test_a_64_bit_command_register_may_be_written_in_halves() -> None:
    software = Software.make()
    _, leaf = mapped(software)
    software.enable()
    goes_to(software)
    software.guest.put(leaf, 0)
    offset = declared(FULL_CAP, FULL_ECAP)["IOTLB"].offset

    software.machine.write_register(offset, 0)
    software.machine.write_register(offset + 4, int(IOTLB(IVT=1, IIRG=1)) >> 32)

    assert goes_to(software) is None


@pytest.mark.parametrize("reason", ["the queue is in use", "scalable mode"])
def test_invalidation_through_registers_is_refused_where_there_is_none(reason: str) -> None:
    software = Software.make()
    if reason == "scalable mode":
        software.guest.mode = 1
        software.set_root()
    else:
        software.enable_queue()

    software.write("CCMD", CCMD(ICC=1, CIRG=1))
    software.write("IOTLB", IOTLB(IVT=1, IIRG=1))

    assert CCMD.decode(software.read("CCMD")) == CCMD(CIRG=1)
    assert IOTLB.decode(software.read("IOTLB")) == IOTLB(IIRG=1)


def test_protected_memory_is_out_of_reach_of_what_is_not_translated() -> None:
    software = Software.make()
    software.write("PLMBASE", 16 * MIB)
    software.write("PLMLIMIT", 17 * MIB)  # the limit's MiB is protected too
    software.write("PHMBASE", 1 << 40)
    software.write("PHMLIMIT", 1 << 40)
    assert goes_to(software, 16 * MIB) == 16 * MIB

    software.write("PMEN", 1 << 31)

    assert software.read("PMEN") == 1 << 31 | 1
    allowed = {
        16 * MIB - 1: True,
        16 * MIB: False,
        18 * MIB - 1: False,
        18 * MIB: True,
        1 << 40: False,
        (1 << 64) - 1: True,
    }
    assert {at: goes_to(software, at) == at for at in allowed} == allowed
    assert software.fsts.PPF == 0  # nothing is recorded

    software.write("PMEN", 0)
    assert software.read("PMEN") == 0
    assert goes_to(software, 16 * MIB) == 16 * MIB


def test_protected_memory_binds_pass_through_but_no_page_table() -> None:
    software = Software.make()
    page, _ = mapped(software)
    software.write("PHMBASE", page & -MIB)
    software.write("PHMLIMIT", page & -MIB)
    software.write("PMEN", 1 << 31)
    software.enable()
    assert goes_to(software) == page

    software.guest.legacy(RID, ContextEntry(P=1, AW=3, TT=2, DID=1))
    software.write("CCMD", CCMD(ICC=1, CIRG=1))

    assert goes_to(software, page) is None
    assert goes_to(software, (page & -MIB) - 1) == (page & -MIB) - 1
    assert software.fsts.PPF == 0
    assert goes_to(software, 1 << 57) is None
    assert (software.fsts.PPF, software.record().FR) == (1, 4)


@pytest.mark.parametrize("lacks", ["PLMR", "PHMR"])
def test_a_region_that_hardware_lacks_protects_nothing(lacks: str) -> None:
    software = Software.make(cap=FULL_CAP.replace(**{lacks: 0}))
    software.write("PHMBASE", MIB)
    software.write("PHMLIMIT", MIB)
    software.write("PMEN", 1 << 31)

    assert (goes_to(software, MIB) is None) == (lacks == "PLMR")
    assert (goes_to(software, 0) is None) == (lacks == "PHMR")


def test_a_write_without_pasid_to_the_interrupt_range_is_an_interrupt_and_not_translated() -> None:
    software = Software.make()
    mapped(software)
    software.enable()

    found = software.machine.translate(RID, 0xFEE0_1000, Access.WRITE)

    assert isinstance(found, Translation)
    assert (found.pa, found.untranslated) == (0xFEE0_1000, True)


@pytest.mark.parametrize("name", ["VER", "CAP", "ECAP", "GSTS", "IQH", "IQERCD"])
def test_read_only_registers_keep_their_values(name: str) -> None:
    software = Software.make()
    before = software.read(name)

    software.write(name, (1 << 32) - 1)

    assert software.read(name) == before


def test_what_is_no_register_or_not_modelled_reads_as_zero() -> None:
    machine = Machine("vtd", PhysicalMemory())

    assert {machine.read_register(offset) for offset in (0x58, 0x100, 0x300, 0x400, 0x430, 0x2000)} == {0}
    assert all(ABSENT.values())


def test_a_fault_is_not_cached() -> None:
    software = Software.make()
    page, leaf = mapped(software)
    software.guest.put(leaf, 0)
    software.enable()
    assert isinstance(software.machine.translate(RID, IOVA), Fault)

    software.guest.put(leaf, page | R)

    assert goes_to(software) == page
