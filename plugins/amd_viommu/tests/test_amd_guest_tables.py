"""Guest (v2) tables through GCR3 tables; alone, and over host tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from viommu.faults import Access, FaultClass, FaultKind, Stage
from viommu.translation import Translation
from viommu_amd_viommu.spec.gcr3 import GCR3Entry

if TYPE_CHECKING:
    from plugins.amd_viommu.tests.conftest import Amd

PASID = 0x12345
HOST_PAGE = 1 | 3 << 61
GUEST_PAGE = 0b111
GUEST_OFFSET = 0x20_0000_0000
NO_EXECUTE = 1 << 63


def guest_link(address: int, _level: int) -> int:
    return address | GUEST_PAGE


def gcr3_link(address: int, _level: int) -> int:
    return address | 1


def gcr3(amd: Amd, levels: int, pasid: int, root: int) -> int:
    """GCR3 tables that lead from one PASID to ``root``. Gives their address."""
    table = amd.page()
    amd.map(table, levels, pasid << 12, root | 1, link=gcr3_link)
    return table


def alone(amd: Amd, *, levels: int = 4, glx: int = 2, pasid: int = PASID, **fields: int) -> int:
    """A device with guest tables and no host tables. Gives the guest root."""
    root = amd.page()
    table = gcr3(amd, glx + 1, pasid, root)
    amd.device(**{"GV": 1, "GLX": glx, "GCR3": table, "GuestPagingMode": levels - 4} | fields)
    return root


class Nested:
    """A device with guest tables over host tables. Guest pages lie at `GUEST_OFFSET` above their real place."""

    def __init__(self, amd: Amd, *, through_host: int, glx: int = 0, pasid: int = 5, **fields: int) -> None:
        self.amd = amd
        self.host = amd.page()
        self.root = self.page()
        amd.control["GCR3TRPMode"] = through_host
        table = self.page() if through_host else amd.page()
        new, really = (self.page, self.really) if through_host else (amd.page, lambda page: page)
        self.gcr3_slot = amd.map_through(table, glx + 1, pasid << 12, self.root | 1, 1, gcr3_link, new, really)
        amd.device(**{"Mode": 4, "HostPageTableRoot": self.host, "GV": 1, "GLX": glx, "GCR3": table} | fields)

    def page(self) -> int:
        """A page of the guest, by the address the guest knows."""
        return self.expose(self.amd.page())

    def expose(self, page: int, rights: int = HOST_PAGE) -> int:
        self.amd.map(self.host, 4, page + GUEST_OFFSET, page | rights)
        return page + GUEST_OFFSET

    @staticmethod
    def really(guest: int) -> int:
        return guest - GUEST_OFFSET

    def map(self, address: int, leaf: int, at_level: int = 1) -> int:
        return self.amd.map_through(self.root, 4, address, leaf, at_level, guest_link, self.page, self.really)


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize(("glx", "pasid"), [(0, 0), (0, 0x1FF), (1, 0x3_FFFF), (2, 0xF_FFFF), (2, PASID)])
def test_a_pasid_finds_its_guest_tables(amd: Amd, levels: int, glx: int, pasid: int) -> None:
    root = alone(amd, levels=levels, glx=glx, pasid=pasid)
    top = (1 << 12 + 9 * levels - 1) - 0x1000
    amd.map(root, levels, top, 0x5000 | GUEST_PAGE, link=guest_link)

    assert amd.pa(top + 0x123, pasid=pasid, access=Access.WRITE) == 0x5123


def test_gcr3_tables_are_indexed_nine_bits_at_a_time(amd: Amd) -> None:
    alone(amd)

    read = [(layout, address & 0xFFF) for layout, address, _ in amd.told(PASID).structures[1:]]

    assert read == [(GCR3Entry, 8 * 0x0), (GCR3Entry, 8 * 0x91), (GCR3Entry, 8 * 0x145)]


def test_contexts_are_tagged_with_domain_and_pasid(amd: Amd) -> None:
    alone(amd, DomainID=0xBEEF)

    context = amd.configure(PASID)

    assert (getattr(context, "stage1_tag", 0), getattr(context, "stage2_tag", 0)) == (PASID, 0xBEEF)


def test_a_pasid_without_guest_tables_is_refused(amd: Amd) -> None:
    amd.device(GV=0)

    assert amd.refusal(pasid=1).reason == "IO_PAGE_FAULT"


@pytest.mark.parametrize(("glx", "pasid"), [(0, 0x200), (1, 0x4_0000)])
def test_a_pasid_beyond_the_gcr3_table_is_refused(amd: Amd, glx: int, pasid: int) -> None:
    alone(amd, glx=glx, pasid=0)

    assert amd.refusal(pasid=pasid).reason == "IO_PAGE_FAULT"


def test_hardware_limits_the_width_of_pasids(amd: Amd) -> None:
    alone(amd, glx=0, pasid=0xFF)
    amd.features["PASmax"] = 7
    amd.configure(0xFF)
    assert amd.fault(0x1000, pasid=0xFF).refusal is None
    assert "0xff" in amd.refusal(pasid=0x100).detail


def test_a_gcr3_entry_that_is_not_valid_is_a_page_fault(amd: Amd) -> None:
    alone(amd, glx=0, pasid=7)

    assert amd.refusal(pasid=8).reason == "IO_PAGE_FAULT"


def test_gcr3_tables_in_a_hole_are_a_page_table_error(amd: Amd) -> None:
    amd.device(GV=1, GCR3=0x7000_0000)

    refusal = amd.refusal(pasid=3)

    assert (refusal.reason, refusal.address) == ("PAGE_TAB_HW_ERROR", 0x7000_0018)


@pytest.mark.parametrize(
    ("registers", "fields"),
    [
        ({"GTEn": 0}, {}),
        ({"GT": 0}, {}),
        ({}, {"GLX": 3}),
        ({"GLX": 1}, {"GLX": 2}),
        ({}, {"GuestPagingMode": 2}),
        ({}, {"GuestPagingMode": 3}),
        ({"GATS": 0}, {"GuestPagingMode": 1}),
    ],
)
def test_guest_tables_that_hardware_cannot_walk_make_the_entry_illegal(
    amd: Amd, registers: dict[str, int], fields: dict[str, int]
) -> None:
    alone(amd, **fields)
    for name, value in registers.items():
        (amd.control if name == "GTEn" else amd.features)[name] = value

    assert amd.refusal(pasid=PASID).reason == "ILLEGAL_DEV_TABLE_ENTRY"
    assert amd.refusal().reason == "ILLEGAL_DEV_TABLE_ENTRY"


def test_without_giov_a_request_without_pasid_bypasses_the_guest_tables(amd: Amd) -> None:
    alone(amd, pasid=0)

    assert amd.pa(0x1234) == 0x1234


def test_with_giov_a_request_without_pasid_uses_pasid_0(amd: Amd) -> None:
    root = alone(amd, pasid=0, GIOV=1)
    amd.map(root, 4, 0x1000, 0x5000 | GUEST_PAGE, link=guest_link)

    assert amd.pa(0x1040) == 0x5040


def test_only_addresses_with_a_pasid_are_sign_extended(amd: Amd) -> None:
    root = alone(amd, pasid=0, GIOV=1)
    top = 0xFFFF_FFFF_FFFF_F000
    amd.map(root, 4, top, 0x5000 | GUEST_PAGE, link=guest_link)

    assert amd.pa(top, pasid=0) == 0x5000
    assert amd.fault(top).kind is FaultKind.INPUT_SIZE
    assert amd.fault(1 << 47).kind is FaultKind.INPUT_SIZE
    assert amd.fault(1 << 47, pasid=0).kind is FaultKind.INPUT_SIZE


@pytest.mark.parametrize(
    ("leaf", "access", "kind"),
    [
        (0b101, Access.READ, None),
        (0b101, Access.WRITE, FaultKind.PERMISSION),
        (0b011, Access.READ, FaultKind.PERMISSION),
        (0b011, Access.READ | Access.PRIVILEGED, None),
        (0b101, Access.WRITE | Access.PRIVILEGED, FaultKind.PERMISSION),
        (0b111 | NO_EXECUTE, Access.EXECUTE, FaultKind.PERMISSION),
        (0b111, Access.EXECUTE, None),
        (0b110, Access.READ, FaultKind.TRANSLATION),
    ],
)
def test_guest_rights(amd: Amd, leaf: int, access: Access, kind: FaultKind | None) -> None:
    root = alone(amd)
    amd.map(root, 4, 0x1000, 0x5000 | leaf, link=guest_link)

    outcome = amd.translate(0x1000, access, pasid=PASID)

    assert (None if isinstance(outcome, Translation) else outcome.kind) is kind


def test_no_execute_means_nothing_to_hardware_without_it(amd: Amd) -> None:
    amd.features["NX"] = 0
    root = alone(amd)
    amd.map(root, 4, 0x1000, 0x5000 | GUEST_PAGE | NO_EXECUTE, link=guest_link)

    assert amd.pa(0x1000, access=Access.EXECUTE, pasid=PASID) == 0x5000


def test_the_root_rights_bound_guest_tables_too(amd: Amd) -> None:
    root = alone(amd, IW=0)
    amd.map(root, 4, 0x1000, 0x5000 | GUEST_PAGE, link=guest_link)

    assert amd.pa(0x1000, pasid=PASID) == 0x5000
    assert amd.fault(0x1000, pasid=PASID, access=Access.WRITE).stage is Stage.NONE


@pytest.mark.parametrize(("no_accessed", "no_dirty", "updated"), [(0, 0, 0x60), (0, 1, 0x20), (1, 0, 0x40), (1, 1, 0)])
def test_each_guest_flag_is_set_unless_software_disabled_it(
    amd: Amd, no_accessed: int, no_dirty: int, updated: int
) -> None:
    amd.control |= {"GAUpdateDis": no_accessed, "GDUpdateDis": no_dirty}
    root = alone(amd)
    slot = amd.map(root, 4, 0x1000, 0x5000 | GUEST_PAGE, link=guest_link)

    amd.pa(0x1000, access=Access.WRITE, pasid=PASID)

    assert amd.load(slot) == 0x5000 | GUEST_PAGE | updated


@pytest.mark.parametrize("through_host", [0, 1])
@pytest.mark.parametrize("glx", [0, 1, 2])
def test_guest_tables_over_host_tables(amd: Amd, through_host: int, glx: int) -> None:
    nested = Nested(amd, through_host=through_host, glx=glx)
    data = amd.page()
    nested.map(0x1000, nested.expose(data) | GUEST_PAGE)

    outcome = amd.translate(0x1234, Access.WRITE, pasid=5)

    assert isinstance(outcome, Translation)
    assert (outcome.ipa, outcome.pa, outcome.page_size) == (data + GUEST_OFFSET + 0x234, data + 0x234, 0x1000)


def test_a_nested_page_is_as_small_as_the_smaller_stage(amd: Amd) -> None:
    nested = Nested(amd, through_host=1)
    nested.map(0, GUEST_OFFSET + 0x4000_0000 | GUEST_PAGE | 1 << 7, at_level=2)
    amd.map(nested.host, 4, GUEST_OFFSET + 0x4000_0000, 0x1234_1000 | 7 << 9 | HOST_PAGE, at_level=1)
    amd.map(nested.host, 4, GUEST_OFFSET + 0x4000_1000, 0x1234_1000 | 7 << 9 | HOST_PAGE, at_level=1)

    outcome = amd.translate(0x1678, pasid=5)

    assert isinstance(outcome, Translation)
    assert (outcome.pa, outcome.page_size) == (0x1234_1678, 0x4000)


def test_both_stages_must_grant(amd: Amd) -> None:
    nested = Nested(amd, through_host=1)
    data = amd.page()
    nested.map(0x1000, nested.expose(data, rights=1 | 1 << 61) | GUEST_PAGE)

    assert amd.pa(0x1000, pasid=5) == data
    fault = amd.fault(0x1000, pasid=5, access=Access.WRITE)
    assert (fault.kind, fault.stage, fault.ipa) == (FaultKind.PERMISSION, Stage.STAGE2, data + GUEST_OFFSET)


def test_a_guest_table_that_the_host_does_not_map_faults_in_the_host_tables(amd: Amd) -> None:
    nested = Nested(amd, through_host=1)
    top = nested.really(nested.root)
    amd.store(top, 0x55_0000_0000 | GUEST_PAGE)

    fault = amd.fault(0x1000, pasid=5)

    assert (fault.kind, fault.stage, fault.fault_class) == (FaultKind.TRANSLATION, Stage.STAGE2, FaultClass.TABLE)
    assert fault.ipa == 0x55_0000_0008 & ~0xFFF


def test_a_gcr3_table_that_the_host_does_not_map_refuses_with_the_walk(amd: Amd) -> None:
    nested = Nested(amd, through_host=1)
    entry = amd.device(Mode=4, HostPageTableRoot=nested.host, GV=1, GCR3=0x66_0000_0000)

    refusal = amd.refusal(pasid=5)

    assert entry.GCR3 == 0x66_0000_0000
    assert refusal.reason == "IO_PAGE_FAULT"
    assert refusal.walk is not None
    assert FaultKind(refusal.walk.kind) is FaultKind.TRANSLATION
    assert refusal.walk.iova == 0x66_0000_0000 + 5 * 8


def test_reading_gcr3_tables_leaves_the_host_tables_as_they_are(amd: Amd) -> None:
    nested = Nested(amd, through_host=1, HAD=3)
    slot = amd.map(nested.host, 4, nested.gcr3_slot + GUEST_OFFSET, nested.gcr3_slot & ~0xFFF | HOST_PAGE)

    amd.configure(5)

    assert amd.load(slot) == nested.gcr3_slot & ~0xFFF | HOST_PAGE


def test_a_request_without_pasid_is_guest_physical(amd: Amd) -> None:
    nested = Nested(amd, through_host=1)
    data = amd.page()
    nested.expose(data)

    assert amd.pa(data + GUEST_OFFSET + 4) == data + 4


def test_host_levels_beyond_hardware_refuse_guest_requests_too(amd: Amd) -> None:
    Nested(amd, through_host=0, Mode=5)
    amd.features["HATS"] = 0

    assert amd.refusal(pasid=5).reason == "IO_PAGE_FAULT"
