"""Devices with a TLB of their own: translation requests, translated accesses, invalidation, page requests."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import PAGE_OR_TABLE, S2_LEAF, STAGE1_CD, STAGE2_STE, VALID
from plugins.smmuv3_cmdqv.tests.programmed import HOLE, PAGE, STREAM, TARGET, Programmed
from viommu import Access, Fault, Translation
from viommu.addresses import Pasid, RequesterId
from viommu.platform import Completion, PageResponse, ResponseCode
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.queue_registers import PRIQ_BASE, PRIQ_CONS, PRIQ_PROD, CommandError
from viommu_smmuv3_cmdqv.spec.stream_table import StreamConfig

IOVA = 0x4000_0000
SUCCESS, FAILURE, INVALID = ResponseCode.SUCCESS, ResponseCode.FAILURE, ResponseCode.INVALID


def ats(smmu: Programmed, **ste: int) -> int:
    """A stream of stage 1 that may ask for translations, with 4 substreams; gives the table that all have."""
    table, root = smmu.take(4 * CD.size), smmu.take(PAGE)
    for n in range(4):
        smmu.put(table + n * CD.size, CD(**STAGE1_CD | {"TTB0": root, "ASID": n}))
    stream = {"Config": StreamConfig.STAGE1, "S1ContextPtr": table, "S1CDMax": 2, "S1DSS": 2, "EATS": 1}
    smmu.stream(**(stream | ste))
    return root


def answer(group: int, code: ResponseCode, pasid: int | None = None) -> PageResponse:
    return PageResponse(RequesterId(STREAM), None if pasid is None else Pasid(pasid), group, code)


def do(smmu: Programmed, opcode: CommandOpcode, **fields: int) -> None:
    smmu.send(COMMANDS[opcode](Opcode=opcode, **fields))


# Translation requests.


def test_a_device_keeps_what_it_was_told_until_it_is_invalidated() -> None:
    smmu = Programmed()
    root = ats(smmu)
    smmu.page(root, IOVA, TARGET)
    device = smmu.machine.device(STREAM)
    first = device.translate(IOVA + 4)
    smmu.put(smmu.page(root, IOVA), 0)
    do(smmu, CommandOpcode.TLBI_NSNH_ALL)
    stale = device.translate(IOVA)
    do(smmu, CommandOpcode.ATC_INV, SID=STREAM, Size=52)

    assert isinstance(first, Translation)
    assert (first.pa, first.page_size) == (TARGET + 4, PAGE)
    assert isinstance(stale, Translation)
    assert device.translate(IOVA) is Completion.NO_ACCESS


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"Size": 52}, 0),
        ({"Size": 63}, 0),
        ({"Size": 0, "Address": IOVA + PAGE}, 9),
        ({"Size": 1, "Address": IOVA + PAGE}, 6),
        ({"Size": 0, "Address": IOVA, "SSV": 1, "SSID": 2}, 11),
        ({"Size": 0, "Address": IOVA, "SSV": 1, "SSID": 2, "Global": 1}, 9),
        ({"Size": 52, "SSV": 1, "SSID": 1}, 8),
    ],
)
def test_an_invalidation_reaches_what_it_spans(fields: dict[str, int], left: int) -> None:
    smmu = Programmed()
    root = ats(smmu)
    device = smmu.machine.device(STREAM)
    for n in range(4):
        smmu.page(root, IOVA + n * PAGE, TARGET + n * PAGE)
        for pasid in (None, 1, 2):
            device.translate(IOVA + n * PAGE, pasid=pasid)
    assert len(device.tlb) == 12

    do(smmu, CommandOpcode.ATC_INV, SID=STREAM, **fields)

    assert len(device.tlb) == left


def test_a_device_that_does_not_answer_stops_the_queue_at_the_next_sync() -> None:
    smmu = Programmed()
    ats(smmu)
    device = smmu.machine.device(STREAM)
    device.answers = False
    sync = COMMANDS[CommandOpcode.SYNC](Opcode=CommandOpcode.SYNC, CS=1)
    invalidation = COMMANDS[CommandOpcode.ATC_INV](Opcode=CommandOpcode.ATC_INV, SID=STREAM, Size=52)

    smmu.send(sync, invalidation, COMMANDS[CommandOpcode.CFGI_STE](Opcode=CommandOpcode.CFGI_STE), sync, sync)
    stopped = smmu.consumer
    completed = [interrupt.source for interrupt in smmu.interrupts].count("CMD_SYNC")
    smmu.acknowledge()

    assert (stopped.RD, stopped.ERR, completed) == (3, CommandError.CERROR_ATC_INV_SYNC, 1)
    assert smmu.consumer.RD == 5
    assert [interrupt.source for interrupt in smmu.interrupts].count("CMD_SYNC") == 3


@pytest.mark.parametrize(
    ("ste", "events"),
    [
        ({"EATS": 0}, ["F_BAD_ATS_TREQ"]),
        ({"EATS": 3}, ["F_BAD_ATS_TREQ"]),
        ({"Config": StreamConfig.BYPASS}, ["F_BAD_ATS_TREQ"]),
        ({"Config": StreamConfig.ABORT}, ["F_BAD_ATS_TREQ"]),
    ],
)
def test_a_stream_that_may_not_ask_is_told_so(ste: dict[str, int], events: list[str]) -> None:
    smmu = Programmed()
    smmu.page(ats(smmu, **ste), IOVA)

    assert smmu.machine.request_translation(STREAM, IOVA) is Completion.UNSUPPORTED_REQUEST
    assert smmu.event_names() == events


def test_an_smmu_that_is_off_or_has_no_ats_answers_no_request() -> None:
    off, without = Programmed(), Programmed(identity={("IDR0", "ATS"): 0})
    for smmu in (off, without):
        smmu.page(ats(smmu), IOVA)
    off.change("CR0", SMMUEN=0)

    assert off.machine.request_translation(STREAM, IOVA) is Completion.UNSUPPORTED_REQUEST
    assert off.event_names() == []
    assert without.machine.request_translation(STREAM, IOVA) is Completion.UNSUPPORTED_REQUEST
    assert without.event_names() == ["F_BAD_ATS_TREQ"]


def test_a_refused_page_is_an_answer_and_no_event_and_never_stalls() -> None:
    smmu = Programmed()
    table = smmu.take(PAGE)
    cd = smmu.put(smmu.take(CD.size), CD(**STAGE1_CD, TTB0=table, S=1))
    smmu.stream(Config=StreamConfig.STAGE1, S1ContextPtr=cd, EATS=1)
    smmu.page(table, IOVA, TARGET, extra=1 << 7)

    assert smmu.machine.request_translation(STREAM, IOVA + PAGE) is Completion.NO_ACCESS
    assert smmu.machine.request_translation(STREAM, IOVA, Access.WRITE) is Completion.NO_ACCESS
    assert smmu.events() == []
    assert not smmu.machine.stalled


@pytest.mark.parametrize(("record", "events"), [(0, []), (1, ["C_BAD_CD"])])
def test_bad_configuration_aborts_the_request_and_is_recorded_where_software_asks_for_it(
    record: int, events: list[str]
) -> None:
    smmu = Programmed()
    smmu.change("CR0", SMMUEN=0)
    smmu.change("CR2", REC_CFG_ATS=record)
    smmu.change("CR0", SMMUEN=1)
    smmu.stream(Config=StreamConfig.STAGE1, S1ContextPtr=smmu.take(64), EATS=1)

    assert smmu.machine.request_translation(STREAM, IOVA) is Completion.COMPLETER_ABORT
    assert smmu.event_names() == events


def test_a_table_that_cannot_be_read_aborts_the_request() -> None:
    smmu = Programmed()
    root = ats(smmu)
    smmu.put(root, HOLE | VALID | PAGE_OR_TABLE)

    assert smmu.machine.request_translation(STREAM, 0) is Completion.COMPLETER_ABORT
    assert smmu.events() == []


def test_stage_1_that_is_bypassed_answers_with_the_address_itself() -> None:
    smmu = Programmed()
    ats(smmu, S1DSS=1)

    found = smmu.machine.request_translation(STREAM, 0x1234)

    assert isinstance(found, Translation)
    assert found.pa == 0x1234


# Translated accesses.


@pytest.mark.parametrize(
    ("check", "ste", "events"),
    [
        (0, {"EATS": 0}, None),
        (1, {"EATS": 1}, None),
        (1, {"EATS": 0}, ["F_TRANSL_FORBIDDEN"]),
        (1, {"Config": StreamConfig.BYPASS}, ["F_TRANSL_FORBIDDEN"]),
        (1, {"Config": StreamConfig.ABORT}, []),
        (1, {"V": 0}, ["C_BAD_STE"]),
    ],
)
def test_an_address_that_ats_gave_is_checked_where_software_asks_for_it(
    check: int, ste: dict[str, int], events: list[str] | None
) -> None:
    smmu = Programmed()
    smmu.change("CR0", ATSCHK=check)
    ats(smmu, **ste)

    found = smmu.machine.send_translated(STREAM, TARGET)

    assert isinstance(found, Translation if events is None else Fault)
    assert smmu.event_names() == (events or [])


def test_an_smmu_that_is_off_treats_translated_accesses_as_any() -> None:
    smmu = Programmed(on=False)
    passed = smmu.machine.send_translated(STREAM, TARGET)
    smmu.program("GBPA", 1 << 31 | 1 << 20)

    assert isinstance(passed, Translation)
    assert isinstance(smmu.machine.send_translated(STREAM, TARGET), Fault)


def test_split_stage_addresses_are_translated_by_stage_2() -> None:
    smmu = Programmed(identity={("IDR0", "NS1ATS"): 0})
    root = smmu.take(0x2000)
    smmu.stream(**(STAGE2_STE | {"Config": StreamConfig.NESTED, "S2TTB": root, "EATS": 2}))
    smmu.map(root, IOVA, TARGET | S2_LEAF | 2, start=1)

    found = smmu.machine.send_translated(STREAM, IOVA)

    assert isinstance(found, Translation)
    assert found.pa == TARGET
    assert smmu.machine.request_translation(STREAM, IOVA) is Completion.UNSUPPORTED_REQUEST


# Page requests.


@pytest.mark.parametrize(
    ("access", "fields"),
    [
        (Access.READ, (1, 0, 0, 0)),
        (Access.WRITE | Access.READ, (1, 1, 0, 0)),
        (Access.EXECUTE | Access.PRIVILEGED, (0, 0, 1, 1)),
    ],
)
@pytest.mark.parametrize("pasid", [None, 0, 3])
def test_a_page_request_is_queued_as_it_came(access: Access, fields: tuple[int, ...], pasid: int | None) -> None:
    smmu = Programmed()
    device = smmu.machine.device(STREAM)

    device.request_page(IOVA + 0x123, access, pasid, group=0x155, last=False)

    (request,) = smmu.requests()
    assert (request.Read, request.Write, request.Exec, request.Priv) == fields
    assert (STREAM, pasid is not None, pasid or 0) == (request.SID, request.SSID_V, request.SSID)
    assert (request.PRGIndex, request.Last, request.Address) == (0x155, 0, IOVA)
    assert not device.responses


@pytest.mark.parametrize(("code", "told"), [(0, FAILURE), (1, INVALID), (2, SUCCESS)])
@pytest.mark.parametrize("pasid", [None, 3])
def test_software_answers_a_group(code: int, told: ResponseCode, pasid: int | None) -> None:
    smmu = Programmed()
    device = smmu.machine.device(STREAM)
    device.request_page(IOVA, Access.READ, pasid, group=5)

    valid = {} if pasid is None else {"SSV": 1, "SSID": pasid}
    do(smmu, CommandOpcode.PRI_RESP, SID=STREAM, PRGIndex=5, Resp=code, **valid)

    assert list(device.responses) == [answer(5, told, pasid)]


@pytest.mark.parametrize("lg2", range(5))
def test_groups_that_find_a_full_queue_are_answered_so_that_the_device_asks_again(lg2: int) -> None:
    smmu = Programmed(request_lg2=lg2)
    device = smmu.machine.device(STREAM)
    for n in range(1 << lg2):
        device.request_page(n * PAGE, Access.READ, group=n)
    assert not device.responses

    device.request_page(IOVA, Access.READ, group=100, last=False)
    device.request_page(IOVA, Access.READ, group=100, last=True)

    assert list(device.responses) == [answer(100, SUCCESS)]
    assert PRIQ_PROD.decode(smmu.register("PRIQ_PROD")).OVFLG == 1
    assert [request.Address for request in smmu.requests()] == [n * PAGE for n in range(1 << lg2)]
    for n in range(1 << lg2):
        device.request_page(n * PAGE, Access.READ, group=n)
    assert len(smmu.requests()) == 1 << lg2


def test_a_queue_that_lost_requests_takes_none_before_that_is_acknowledged() -> None:
    smmu = Programmed(request_lg2=0)
    device = smmu.machine.device(STREAM)
    for group in range(2):
        device.request_page(IOVA, Access.READ, group=group)
    smmu.program("PRIQ_CONS", PRIQ_CONS(RD=1))
    device.request_page(IOVA, Access.READ, group=2)

    assert [response.group for response in device.responses] == [1, 2]
    assert smmu.requests() == []


def test_a_queue_that_is_off_fails_groups() -> None:
    smmu = Programmed()
    device = smmu.machine.device(STREAM)
    smmu.change("CR0", PRIQEN=0)

    device.request_page(IOVA, Access.READ, group=1, last=False)
    device.request_page(IOVA, Access.READ, group=1)

    assert list(device.responses) == [answer(1, FAILURE)]


def test_a_queue_that_cannot_be_written_fails_groups_until_acknowledged() -> None:
    smmu = Programmed()
    device = smmu.machine.device(STREAM)
    smmu.change("CR0", PRIQEN=0)
    smmu.program("PRIQ_BASE", PRIQ_BASE(ADDR=HOLE, LOG2SIZE=4))
    smmu.change("CR0", PRIQEN=1)
    device.request_page(IOVA, Access.READ, group=1)
    errors = smmu.active_errors()
    smmu.change("CR0", PRIQEN=0)
    smmu.program("PRIQ_BASE", PRIQ_BASE(ADDR=smmu.request_queue, LOG2SIZE=smmu.request_lg2))
    smmu.change("CR0", PRIQEN=1)
    device.request_page(IOVA, Access.READ, group=2)
    smmu.acknowledge()
    device.request_page(IOVA, Access.READ, group=3)

    assert errors == {"PRIQ_ABT_ERR"}
    assert [(response.group, response.code) for response in device.responses] == [(1, FAILURE), (2, FAILURE)]
    assert [request.PRGIndex for request in smmu.requests()] == [3]


@pytest.mark.parametrize(("ppar", "pasid"), [(0, None), (1, 3)])
def test_an_answer_that_software_did_not_give_has_a_pasid_where_the_ste_says_so(ppar: int, pasid: int | None) -> None:
    smmu = Programmed()
    ats(smmu, PPAR=ppar)
    device = smmu.machine.device(STREAM)
    smmu.change("CR0", PRIQEN=0)

    device.request_page(IOVA, Access.READ, 3, group=1)

    assert list(device.responses) == [answer(1, FAILURE, pasid)]
