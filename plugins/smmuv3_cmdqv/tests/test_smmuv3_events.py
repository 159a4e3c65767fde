"""What is recorded of a refused access: which event, which fields, and when nothing is."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import (
    AF,
    HOLE,
    IPA,
    PAGE_OR_TABLE,
    RAM,
    S2_LEAF,
    S2_READ,
    STAGE1_CD,
    STREAM,
    USER_PAGE,
    VALID,
    Guest,
    ipa_of,
)
from viommu.faults import Access
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.events import (
    BadSubstreamRecord,
    EventId,
    EventRecord,
    OperationClass,
    StreamRecord,
    TranslationRecord,
    WalkAbortRecord,
)
from viommu_smmuv3_cmdqv.spec.registers import IDR1
from viommu_smmuv3_cmdqv.spec.stream_table import StreamConfig

R, W, X, P = Access.READ, Access.WRITE, Access.EXECUTE, Access.PRIVILEGED
CD_CLASS, TT, IN = OperationClass.CD, OperationClass.TT, OperationClass.IN


def record_of(guest: Guest, iova: int, access: Access = R, ssid: int | None = None) -> TranslationRecord:
    report = guest.report(iova, access, ssid)
    assert report.record is not None
    assert EventId(report.record[0]).name == report.reason
    return TranslationRecord.decode(report.record)


def single_stage(guest: Guest, **cd: int) -> int:
    root = guest.take(0x1000)
    guest.stage1(TTB0=root, **cd)
    return root


def nested(guest: Guest, cd: dict[str, int] | None = None, /, **ste: int) -> tuple[int, int]:
    """Gives the PA of stage 1's root table and the root of stage 2."""
    table = guest.take(0x1000)
    return table, guest.nested({"TTB0": ipa_of(table)} | (cd or {}), **ste)


@pytest.mark.parametrize(
    ("access", "rnw", "ind", "pnu"),
    [(R, 1, 0, 0), (W, 0, 0, 0), (X, 1, 1, 0), (R | P, 1, 0, 1), (X | P, 1, 1, 1), (R | W, 0, 0, 0)],
)
def test_a_record_tells_who_wanted_what_where(guest: Guest, access: Access, rnw: int, ind: int, pnu: int) -> None:
    single_stage(guest)

    record = record_of(guest, 0x5678, access)

    assert (record.ID, record.SID, record.SSV, record.SSID) == (EventId.F_TRANSLATION, STREAM, 0, 0)
    assert (record.RnW, record.InD, record.PnU) == (rnw, ind, pnu)
    assert (record.S2, record.CLASS, record.InputAddr, record.IPA) == (0, IN, 0x5678, 0)


def test_the_input_address_is_told_as_it_came_in(guest: Guest) -> None:
    single_stage(guest, TBI0=1)

    assert record_of(guest, 0xAB00_0000_0000_5678).InputAddr == 0xAB00_0000_0000_5678


def test_a_substream_is_told_with_its_valid_bit(guest: Guest) -> None:
    table = guest.take(CD.size * 4)
    guest.put(table + 3 * CD.size, CD(**STAGE1_CD))
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=table, S1CDMax=2)

    record = record_of(guest, 1 << 63, ssid=3)

    assert (record.SSV, record.SSID) == (1, 3)


@pytest.mark.parametrize(
    ("leaf", "cd", "event"),
    [
        (0, {}, EventId.F_TRANSLATION),
        (0x5000 | USER_PAGE & ~AF, {}, EventId.F_ACCESS),
        (0x5000 | USER_PAGE | 1 << 7, {}, EventId.F_PERMISSION),
        (1 << 44 | USER_PAGE, {"IPS": 4}, EventId.F_ADDR_SIZE),
    ],
)
def test_each_way_to_fail_in_stage_1_has_its_event(guest: Guest, leaf: int, cd: dict[str, int], event: EventId) -> None:
    root = single_stage(guest, **cd)
    guest.map(root, 0x3000, leaf)

    record = record_of(guest, 0x3000, W)

    assert (event, 0, IN) == (record.ID, record.S2, record.CLASS)


def test_a_table_that_cannot_be_read_is_told_with_its_address(guest: Guest) -> None:
    root = single_stage(guest)
    guest.put(root, HOLE | VALID | PAGE_OR_TABLE)

    report = guest.report(0x4000_0000, W)

    assert report.reason == "F_WALK_EABT"
    assert report.record is not None
    record = WalkAbortRecord.decode(report.record)
    assert (record.S2, record.CLASS, record.RnW) == (0, TT, 0)
    assert (record.InputAddr, record.FetchAddr) == (0x4000_0000, HOLE + 8)


def test_a_stage_2_fault_of_the_access_itself_tells_the_ipa(guest: Guest) -> None:
    table, _ = nested(guest)
    guest.map(ipa_of(table), 0x3000, 0x7000_5000 | USER_PAGE, nested=True)

    record = record_of(guest, 0x3678, W)

    assert (record.ID, record.S2, record.CLASS, record.RnW) == (EventId.F_TRANSLATION, 1, IN, 0)
    assert (record.InputAddr, record.IPA) == (0x3678, 0x7000_5000)


def test_a_stage_2_fault_of_a_table_fetch_tells_the_entrys_ipa(guest: Guest) -> None:
    table, _ = nested(guest)
    guest.put(table, 0x7000_0000 | VALID | PAGE_OR_TABLE)

    record = record_of(guest, 0x3678, W)

    assert (record.ID, record.S2, record.CLASS, record.RnW) == (EventId.F_TRANSLATION, 1, TT, 0)
    assert (record.InputAddr, record.IPA) == (0x3678, 0x7000_0000)


def test_the_fetch_of_the_table_that_a_cd_names_is_told_as_a_read(guest: Guest) -> None:
    guest.nested({"TTB0": 0x7000_0000})

    record = record_of(guest, 0x3678, W)

    assert (record.S2, record.CLASS, record.RnW, record.IPA) == (1, TT, 1, 0x7000_0000)


def test_a_next_table_beyond_the_output_size_is_of_the_table_class_behind_stage_2_alone(guest: Guest) -> None:
    table, _ = nested(guest, {"IPS": 4})
    guest.put(table, 1 << 44 | VALID | PAGE_OR_TABLE)
    behind_stage2 = record_of(guest, 0x3000)
    guest.stage1(TTB0=table, IPS=4)
    alone = record_of(guest, 0x3000)

    assert (behind_stage2.ID, behind_stage2.S2, behind_stage2.CLASS) == (EventId.F_ADDR_SIZE, 0, TT)
    assert (alone.ID, alone.S2, alone.CLASS) == (EventId.F_ADDR_SIZE, 0, IN)


@pytest.mark.parametrize(("update", "ttrnw"), [(False, 1), (True, 0)])
def test_a_permission_fault_of_a_table_access_tells_whether_it_was_a_read(
    guest: Guest, update: bool, ttrnw: int
) -> None:
    table, root2 = nested(guest, {"HA": 1})
    hidden = guest.take(0x20_0000)
    rights = S2_READ if update else 0
    guest.map(root2, 0x7000_0000, hidden | S2_LEAF & ~0xC0 | rights, at=2, start=1)
    guest.put(table, 0x7000_0000 | VALID | PAGE_OR_TABLE)
    guest.put(hidden, IPA | USER_PAGE & ~(AF | PAGE_OR_TABLE))

    record = record_of(guest, 0x3000)

    # Level 1 holds the 1G block whose access flag is to be set.
    assert (record.ID, record.S2, record.CLASS) == (EventId.F_PERMISSION, 1, TT)
    assert record.TTRnW == ttrnw


def test_the_direction_of_a_table_access_is_told_of_permission_faults_alone(guest: Guest) -> None:
    table, _ = nested(guest)
    guest.put(table, 0x7000_0000 | VALID | PAGE_OR_TABLE)

    assert record_of(guest, 0x3000).TTRnW == 0


def test_a_stage_2_table_that_cannot_be_read_is_told_for_whose_sake(guest: Guest) -> None:
    root2 = guest.stage2()
    guest.put(root2, HOLE | VALID | PAGE_OR_TABLE)

    report = guest.report(0x20_0000)

    assert report.record is not None
    record = WalkAbortRecord.decode(report.record)
    assert (record.ID, record.S2, record.CLASS, record.FetchAddr) == (EventId.F_WALK_EABT, 1, IN, HOLE + 8)


@pytest.mark.parametrize(("r", "s", "recorded", "stalled"), [(1, 0, 1, 0), (0, 0, 0, 0), (0, 1, 1, 1), (1, 1, 1, 1)])
def test_the_cd_decides_whether_stage_1_faults_are_recorded(
    guest: Guest, r: int, s: int, recorded: int, stalled: int
) -> None:
    single_stage(guest, R=r, S=s)

    report = guest.report(0x3000)

    assert report.reason == "F_TRANSLATION"
    assert report.outcome == ("stall" if stalled else "fault" if recorded else "abort")
    assert (report.record is not None) == bool(recorded)
    assert report.record is None or stalled == TranslationRecord.decode(report.record).STALL


@pytest.mark.parametrize(("r", "recorded"), [(1, True), (0, False)])
def test_the_ste_decides_whether_stage_2_faults_are_recorded(guest: Guest, r: int, recorded: bool) -> None:
    guest.stage2(S2R=r)

    assert guest.report(0x7000_0000).outcome == ("fault" if recorded else "abort")


def test_each_stage_keeps_to_its_own_bit(guest: Guest) -> None:
    table, _ = nested(guest, {"R": 0})
    guest.map(ipa_of(table), 0x3000, 0x7000_5000 | USER_PAGE, nested=True)

    assert guest.report(0x3000).outcome == "fault"
    assert guest.report(0x4000).outcome == "abort"


def test_walk_aborts_and_bad_structures_are_recorded_always(guest: Guest) -> None:
    root = single_stage(guest, R=0)
    guest.put(root, HOLE | VALID | PAGE_OR_TABLE)
    walk_abort = guest.report(0x3000)
    guest.stage1(R=0, V=0)

    assert (walk_abort.outcome, walk_abort.reason) == ("fault", "F_WALK_EABT")
    assert (guest.report(0x3000).outcome, guest.report(0x3000).reason) == ("fault", "C_BAD_CD")


def test_no_bit_silences_the_size_check_of_a_bypassed_stage_1(guest: Guest) -> None:
    guest.stage2(S2R=0)

    report = guest.report(1 << 52)

    assert report.record is not None
    record = TranslationRecord.decode(report.record)
    assert (record.ID, record.S2, record.CLASS) == (EventId.F_ADDR_SIZE, 0, IN)


def test_a_bad_structure_is_told_with_stream_and_substream(guest: Guest) -> None:
    table = guest.take(CD.size * 4)
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=table, S1CDMax=2)

    report = guest.report(0x3000, ssid=2)

    assert report.record == StreamRecord(ID=EventId.C_BAD_CD, SID=STREAM, SSV=1, SSID=2).encode()


def test_a_bad_substream_is_told_without_a_valid_bit(guest: Guest) -> None:
    guest.stage1()

    report = guest.report(0x3000, ssid=2)

    assert report.record == BadSubstreamRecord(ID=EventId.C_BAD_SUBSTREAMID, SID=STREAM, SSID=2).encode()


def test_a_disabled_stream_is_told_by_its_number_alone(guest: Guest) -> None:
    guest.stream(Config=StreamConfig.STAGE1, S1ContextPtr=RAM, S1CDMax=2)

    assert guest.report(0x3000).record == EventRecord(ID=EventId.F_STREAM_DISABLED, SID=STREAM).encode()


def test_a_report_is_of_the_configuration_that_was_in_force(guest: Guest) -> None:
    single_stage(guest, R=0)
    fault = guest.fault(0x3000)
    single_stage(guest, R=1)

    assert guest.hardware.report(fault).outcome == "abort"


@pytest.mark.parametrize(
    ("access", "privcfg", "instcfg", "pnu", "ind"), [(R, 3, 3, 1, 1), (X | P, 2, 2, 0, 0), (W, 0, 3, 0, 0)]
)
@pytest.mark.parametrize("cd_is_there", [True, False])
def test_a_record_tells_what_the_overrides_made_of_the_access(
    guest: Guest, access: Access, privcfg: int, instcfg: int, pnu: int, ind: int, cd_is_there: bool
) -> None:
    guest.set(IDR1, ATTR_PERMS_OVR=1)
    elsewhere = {} if cd_is_there else {"S1ContextPtr": 0x7000_0000}
    nested(guest, PRIVCFG=privcfg, INSTCFG=instcfg, **elsewhere)

    record = record_of(guest, 0x3000, access)

    assert (record.PnU, record.InD) == (pnu, ind)
