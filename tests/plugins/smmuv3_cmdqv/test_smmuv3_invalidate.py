"""A guest's commands through HWPT_INVALIDATE: which are taken, how they are rewritten, what they reach."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.plugins.smmuv3_cmdqv.guest import NG, VSID, Guest
from tests.plugins.smmuv3_cmdqv.program import PAGE, SID, Program
from viommu.faults import Access, Fault
from viommu_smmuv3_cmdqv.host.command_queue import BATCH
from viommu_smmuv3_cmdqv.spec.commands import (
    ATC_INV,
    CFGI_CD,
    CFGI_CD_ALL,
    COMMANDS,
    SYNC,
    TLBI_NH_ALL,
    TLBI_NH_ASID,
    TLBI_NH_VA,
    TLBI_NH_VAA,
    TLBI_NSNH_ALL,
    CommandOpcode,
)

if TYPE_CHECKING:
    from viommu.endpoint import Endpoint
    from viommu.layout import Descriptor

IOVA = 0x7000_0000
NH_VA = TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, ASID=1, Address=IOVA, Leaf=1)
REACHING: dict[str, Descriptor] = {
    "TLBI_NSNH_ALL": TLBI_NSNH_ALL(Opcode=CommandOpcode.TLBI_NSNH_ALL),
    "TLBI_NH_ALL": TLBI_NH_ALL(Opcode=CommandOpcode.TLBI_NH_ALL, VMID=0x7777),
    "TLBI_NH_ASID": TLBI_NH_ASID(Opcode=CommandOpcode.TLBI_NH_ASID, ASID=1, VMID=0x7777),
    "TLBI_NH_VA": NH_VA,
    "TLBI_NH_VAA": TLBI_NH_VAA(Opcode=CommandOpcode.TLBI_NH_VAA, Address=IOVA),
    "a range": TLBI_NH_VA(
        Opcode=CommandOpcode.TLBI_NH_VA, ASID=1, Address=IOVA - 2 * PAGE, TG=1, NUM=3, SCALE=0, TTL=3
    ),
}
ELSEWHERE: dict[str, Descriptor] = {
    "another ASID": TLBI_NH_ASID(Opcode=CommandOpcode.TLBI_NH_ASID, ASID=2),
    "another address": NH_VA.replace(Address=IOVA + PAGE),
    "another ASID's address": NH_VA.replace(ASID=2),
}


@pytest.fixture
def guest() -> Guest:
    program = Program.make()
    guest = Guest.make(program, program.bind(program.machine.add_device(SID, ats=True)))
    guest.map(IOVA, b"before")
    guest.attach(guest.ste(EATS=1))
    return guest


def endpoint(guest: Guest) -> Endpoint:
    return guest.program.machine.endpoints[0]


def remap(guest: Guest) -> None:
    """Let a page be cached, then lead to another without telling."""
    assert endpoint(guest).dma_read(IOVA, 6) == b"before"
    page = guest.page()
    guest.put(page, b"after ")
    guest.store(guest.leaf(IOVA), page | 0x743 | NG)
    assert endpoint(guest).dma_read(IOVA, 6) == b"before"


@pytest.mark.parametrize("command", REACHING.values(), ids=REACHING)
def test_what_a_guest_invalidates_is_forgotten(guest: Guest, command: Descriptor) -> None:
    remap(guest)
    guest.invalidate(command)
    assert endpoint(guest).dma_read(IOVA, 6) == b"after "


@pytest.mark.parametrize("command", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_it_does_not_name_stays(guest: Guest, command: Descriptor) -> None:
    remap(guest)
    guest.invalidate(command)
    assert endpoint(guest).dma_read(IOVA, 6) == b"before"


def test_a_guest_cannot_reach_another_guests_translations(guest: Guest) -> None:
    program = guest.program
    other = Guest.make(program, program.bind(program.machine.add_device(SID + 8)))
    remap(guest)
    vmid = program.master(endpoint(guest)).ste.S2VMID
    for command in REACHING.values():
        other.invalidate(command.replace(VMID=vmid) if "VMID" in type(command).fields else command)
    assert endpoint(guest).dma_read(IOVA, 6) == b"before"


def test_a_cd_is_read_again_once_the_guest_says_so(guest: Guest) -> None:
    device, root = endpoint(guest), guest.page()
    guest.map(IOVA, b"other", root)
    for command in (
        CFGI_CD(Opcode=CommandOpcode.CFGI_CD, SID=VSID, Leaf=1),
        CFGI_CD_ALL(Opcode=CommandOpcode.CFGI_CD_ALL, SID=VSID),
    ):
        guest.put(guest.cd, guest.descriptor(guest.root))
        guest.invalidate(command)
        assert device.dma_read(IOVA, 6) == b"before"
        guest.put(guest.cd, guest.descriptor(root, asid=9))
        assert device.dma_read(IOVA, 6) == b"before"
        guest.invalidate(command)
        assert device.dma_read(IOVA, 5) == b"other"


def test_a_device_tlb_is_reached_by_the_guests_stream_id(guest: Guest) -> None:
    ats = endpoint(guest).ats
    assert ats is not None
    ats.translate(IOVA, Access.READ)
    assert len(ats.tlb) == 1
    guest.invalidate(ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=VSID, Address=IOVA, Size=0))
    assert len(ats.tlb) == 0


def test_a_device_that_does_not_answer_stops_nobody(guest: Guest) -> None:
    ats = endpoint(guest).ats
    assert ats is not None
    ats.answers = False
    guest.invalidate(ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=VSID, Size=52), NH_VA)
    remap(guest)
    guest.invalidate(NH_VA)
    assert endpoint(guest).dma_read(IOVA, 6) == b"after "


ALLOWED = {"TLBI_NSNH_ALL", "TLBI_NH_ALL", "TLBI_NH_ASID", "TLBI_NH_VA", "TLBI_NH_VAA", "ATC_INV", "CFGI_CD"} | {
    "CFGI_CD_ALL"
}


@pytest.mark.parametrize("opcode", [code for code in COMMANDS if code.name not in ALLOWED], ids=lambda code: code.name)
def test_other_commands_are_an_io_error(guest: Guest, opcode: CommandOpcode) -> None:
    assert guest.program.fails(guest.invalidate_command(COMMANDS[opcode](Opcode=opcode))) == errno.EIO


@pytest.mark.parametrize("raw", [bytes(16), b"\xff".ljust(16, b"\0"), b"\x50".ljust(16, b"\0")], ids=["0", "ff", "50"])
def test_what_is_no_command_is_an_io_error(guest: Guest, raw: bytes) -> None:
    assert guest.program.fails(guest.invalidate_command(raw)) == errno.EIO


@pytest.mark.parametrize("opcode", [CommandOpcode.ATC_INV, CommandOpcode.CFGI_CD, CommandOpcode.CFGI_CD_ALL])
def test_a_stream_that_the_guest_does_not_have_is_an_io_error(guest: Guest, opcode: CommandOpcode) -> None:
    command = COMMANDS[opcode](Opcode=opcode, SID=SID)
    assert guest.program.fails(guest.invalidate_command(command)) == errno.EIO


def test_reserved_bits_of_a_guests_command_are_the_hardwares_to_judge(guest: Guest) -> None:
    remap(guest)
    guest.invalidate(bytes.fromhex("10000000ff000000ffffffffffffffff"))
    assert endpoint(guest).dma_read(IOVA, 6) == b"after "


def test_a_secure_command_is_replaced_by_the_host_and_the_rest_goes_on(guest: Guest) -> None:
    """SSec makes it illegal: hardware stops there, and the host puts a SYNC in its place."""
    remap(guest)
    secure = NH_VA.encode()[:1] + b"\x04" + NH_VA.encode()[2:]
    guest.invalidate(secure)
    assert endpoint(guest).dma_read(IOVA, 6) == b"before"
    guest.invalidate(secure, NH_VA)
    assert endpoint(guest).dma_read(IOVA, 6) == b"after "
    assert sum(guest.program.smmu.queue.errors.values()) == 2


def test_the_number_of_commands_before_a_wrong_one_is_told(guest: Guest) -> None:
    sync = SYNC(Opcode=CommandOpcode.SYNC)
    after = guest.program.call(guest.invalidate_command(NH_VA, NH_VA, sync, NH_VA))
    assert (guest.program.result, after.entry_num) == (-errno.EIO, 2)


@pytest.mark.parametrize(("before", "reached"), [(BATCH - 1, False), (BATCH, True)])
def test_commands_before_a_wrong_one_have_reached_hardware_by_whole_batches(
    guest: Guest, before: int, reached: bool
) -> None:
    remap(guest)
    filler = NH_VA.replace(Address=IOVA + PAGE)
    sync = SYNC(Opcode=CommandOpcode.SYNC)
    after = guest.program.call(guest.invalidate_command(NH_VA, *[filler] * (before - 1), sync))
    assert (guest.program.result, after.entry_num) == (-errno.EIO, before)
    assert endpoint(guest).dma_read(IOVA, 6) == (b"after " if reached else b"before")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"data_type": 0}, errno.EINVAL),
        ({"data_type": 2}, errno.EINVAL),
        ({"entry_num": 0}, errno.EINVAL),
        ({"entry_len": 0}, errno.EINVAL),
        ({"data_uptr": 0}, errno.EINVAL),
        ({"data_uptr": 16}, errno.EFAULT),
        ({"entry_len": 24, "entry_num": 2}, errno.E2BIG),
        ({"entry_num": (1 << 19) + 1}, errno.EINVAL),
        ({"entry_len": 4097}, errno.EINVAL),
    ],
    ids=str,
)
def test_the_array_is_checked_as_the_kernel_checks_it(guest: Guest, more: dict[str, int], error: int) -> None:
    command = guest.invalidate_command(NH_VA, NH_VA, NH_VA, **more)
    after = guest.program.call(command)
    assert (guest.program.result, after.entry_num) == (-error, 0)


def test_short_entries_are_filled_with_zeros(guest: Guest) -> None:
    remap(guest)
    all_of_it = TLBI_NSNH_ALL(Opcode=CommandOpcode.TLBI_NSNH_ALL).encode()[:8]
    guest.program.must(guest.invalidate_command(all_of_it, entry_len=8))
    assert endpoint(guest).dma_read(IOVA, 6) == b"after "


def test_a_long_array_is_executed_whole(guest: Guest) -> None:
    remap(guest)
    guest.invalidate(*[NH_VA.replace(Address=IOVA + PAGE * n) for n in range(300, 0, -1)], NH_VA)
    assert endpoint(guest).dma_read(IOVA, 6) == b"after "
    assert guest.program.machine.command_counts["TLBI_NH_VA"] == 301


def test_a_destroyed_vdevice_matches_no_command(guest: Guest) -> None:
    program = guest.program
    command = CFGI_CD_ALL(Opcode=CommandOpcode.CFGI_CD_ALL, SID=VSID)
    guest.invalidate(command)
    vdevice = guest.device.vdevice
    assert vdevice is not None
    assert program.destroy(vdevice.id) == 0
    assert program.fails(guest.invalidate_command(command)) == errno.EIO


def test_nothing_is_left_to_fault_after_detaching(guest: Guest) -> None:
    guest.device.detach()
    assert isinstance(endpoint(guest).dma_read(IOVA, 1), Fault)
    guest.program.clean()
