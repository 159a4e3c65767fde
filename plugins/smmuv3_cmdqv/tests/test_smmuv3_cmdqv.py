"""The CMDQV block by itself: aliases, who may run what, errors, indices in memory, hostile writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from plugins.smmuv3_cmdqv.tests.programmed import PAGE, STREAM, TARGET, Programmed
from viommu import Access, Fault
from viommu.devices import Held
from viommu.errors import BadRegister
from viommu.machine import Machine
from viommu_smmuv3_cmdqv.identity import GRACE_CMDQV, GUEST_CMDQV
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import VcmdqError
from viommu_smmuv3_cmdqv.spec.commands import (
    ATC_INV,
    CFGI_STE,
    COMMANDS,
    SYNC,
    TLBI_NH_ALL,
    TLBI_NH_ASID,
    TLBI_NH_VA,
    Command,
    CommandOpcode,
    CompletionSignal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.layout import Descriptor

LG2 = 4
IOVA = 0x10_0000
SYNC_COMMAND = SYNC(Opcode=CommandOpcode.SYNC)
NH_VA = TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, Address=IOVA)
ENABLED, COMMAND_ERROR, COPY_ERROR, INIT_ERROR = 1, 1, 2, 4


@define
class Queues(Programmed):
    """An SMMU with a CMDQV whose VINTF 1 is a guest's (VMID 0 or another) or the host's."""

    param: int = GRACE_CMDQV
    ring: int = 0
    written: int = 0
    page_table: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.page_table = self.address_space(ASID=1)

    def _identity(self) -> dict[str, int]:
        return super()._identity() | {"CMDQV_PARAM": self.param}

    def read(self, place: int, size: int = 4) -> int:
        return self.machine.read_register(spec.PLACE + place, size)

    def write(self, place: int, value: int, size: int = 4) -> None:
        self.machine.write_register(spec.PLACE + place, value, size)

    def bank(self, vintf: int) -> int:
        return spec.VINTF_BANK + vintf * spec.VINTF_BANK_STRIDE

    def vintf_page0(self, vintf: int, logical: int = 0) -> int:
        return spec.VINTF_PAGE0 + vintf * spec.VINTF_STRIDE + logical * spec.VCMDQ_STRIDE

    def open(self, *, vintf: int = 1, physical: int = 2, logical: int = 0, vmid: int = 0, host: bool = False) -> int:
        """Give an interface a queue that runs; its page 0."""
        self.write(self.bank(vintf), vmid << 1 | host << 17 | 1)
        self.write(spec.CMDQ_ALLOC + 4 * physical, 1 | logical << 1 | vintf << 15)
        self.ring = self.take(max(32, 16 << LG2))
        page0 = self.vintf_page0(vintf, logical)
        self.write(page0 + 0x10000, self.ring | LG2, 8)
        self.write(page0 + spec.VCMDQ_CONFIG_AT, ENABLED)
        return page0

    def submit(self, page0: int, *commands: Descriptor | bytes) -> None:
        for command in commands:
            raw = command if isinstance(command, bytes) else command.encode()
            self.memory.write(self.ring + 16 * (self.written & (1 << LG2) - 1), raw)
            self.written = self.written + 1 & (2 << LG2) - 1
        self.write(page0 + spec.PROD_AT, self.written)

    def state(self, page0: int) -> tuple[int, VcmdqError, int]:
        """(RD, ERR, active errors)."""
        cons = self.read(page0 + spec.CONS_AT)
        active = self.read(page0 + spec.GERROR_AT) ^ self.read(page0 + spec.GERRORN_AT)
        return cons & 0xFFFFF, VcmdqError(cons >> 24 & 0x7F), active

    def cached(self) -> Callable[[], bool]:
        """Cache a page's translation, then take the page away; whether it is still cached."""
        entry = self.page(self.page_table, IOVA, extra=1 << 11)
        self.reach(IOVA)
        self.memory.write(entry, bytes(8))
        return lambda: not isinstance(self.machine.translate(STREAM, IOVA), Fault)


def test_commands_of_a_hosts_queue_are_executed_as_they_are() -> None:
    queues = Queues()
    page0, held = queues.open(host=True), queues.cached()
    assert held()
    queues.submit(page0, CFGI_STE(Opcode=CommandOpcode.CFGI_STE, SID=5), NH_VA.replace(ASID=1), SYNC_COMMAND)
    assert not held()
    assert queues.state(page0) == (3, VcmdqError.CERROR_NONE, 0)


@pytest.mark.parametrize(
    "command",
    [NH_VA.replace(ASID=1, VMID=0x77), TLBI_NH_ASID(Opcode=CommandOpcode.TLBI_NH_ASID, ASID=1, VMID=0x77)],
    ids=["VA", "ASID"],
)
@pytest.mark.parametrize(("vmid", "reached"), [(0, True), (5, False)])
def test_a_guests_commands_have_the_interfaces_vmid(command: Descriptor, vmid: int, reached: bool) -> None:
    queues = Queues()
    page0, held = queues.open(vmid=vmid), queues.cached()
    queues.submit(page0, command, SYNC_COMMAND)
    assert held() != reached
    assert queues.state(page0) == (2, VcmdqError.CERROR_NONE, 0)


def test_a_guests_streams_are_replaced_and_those_it_does_not_have_are_refused() -> None:
    queues = Queues()
    page0, device = queues.open(), queues.machine.device(STREAM)
    queues.write(queues.bank(1) + spec.SID_MATCH_AT + 4, 0x30 << 1 | 1)
    queues.write(queues.bank(1) + spec.SID_REPLACE_AT + 4, STREAM)
    device.tlb.keep(None, IOVA, Held(TARGET, 12, Access.READ))
    queues.submit(page0, ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=0x30, Size=52))
    assert len(device.tlb) == 0
    queues.submit(page0, ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=STREAM, Size=52))
    assert queues.state(page0) == (1, VcmdqError.CERROR_ILL_ACCESS, COMMAND_ERROR)


@pytest.mark.parametrize(
    "opcode",
    [code for code in COMMANDS if code.name not in {"TLBI_NH_VA", "TLBI_NH_ASID", "ATC_INV", "SYNC"}],
    ids=lambda code: code.name,
)
def test_a_guest_may_give_no_other_command(opcode: CommandOpcode) -> None:
    queues = Queues()
    page0, held = queues.open(), queues.cached()
    queues.submit(page0, COMMANDS[opcode](Opcode=opcode), NH_VA.replace(ASID=1))
    assert queues.state(page0) == (0, VcmdqError.CERROR_ILL_ACCESS, COMMAND_ERROR)
    assert held()


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (bytes(16), VcmdqError.CERROR_ILL_OPCODE),
        (b"\xff" + bytes(15), VcmdqError.CERROR_ILL_OPCODE),
        (b"\x12\x04" + bytes(14), VcmdqError.CERROR_ILL_OPCODE),
        (SYNC_COMMAND.replace(CS=CompletionSignal.IRQ, MSIAddress=0x1000).encode(), VcmdqError.CERROR_ILL_ACCESS),
        (SYNC_COMMAND.replace(CS=3).encode(), VcmdqError.CERROR_ILL_OPCODE),
    ],
    ids=["zeros", "unknown", "secure", "message", "reserved signal"],
)
def test_what_is_no_command_for_a_guest_stops_its_queue(raw: bytes, error: VcmdqError) -> None:
    queues = Queues()
    page0 = queues.open()
    queues.submit(page0, NH_VA, raw, NH_VA)
    assert queues.state(page0) == (1, error, COMMAND_ERROR)


def test_a_stopped_queue_goes_on_once_it_is_mended_and_acknowledged() -> None:
    queues = Queues()
    page0, held = queues.open(), queues.cached()
    queues.submit(page0, bytes(16), NH_VA.replace(ASID=1))
    queues.write(page0 + spec.GERRORN_AT, COMMAND_ERROR)
    assert queues.state(page0) == (0, VcmdqError.CERROR_ILL_OPCODE, COMMAND_ERROR)  # not mended: it stops again
    queues.memory.write(queues.ring, SYNC_COMMAND.encode())
    queues.write(page0 + spec.GERRORN_AT, 0)
    assert queues.state(page0)[::2] == (2, 0)
    assert not held()


def test_an_interrupt_handler_that_only_acknowledges_does_not_hang_the_queue() -> None:
    queues = Queues()
    page0 = queues.open()
    queues.handler = lambda _: queues.write(page0 + spec.GERRORN_AT, queues.read(page0 + spec.GERROR_AT))
    queues.submit(page0, bytes(16))
    assert queues.state(page0)[0] == 0


def test_errors_are_told_by_maps_and_one_interrupt_each() -> None:
    queues = Queues()
    page0 = queues.open(vintf=3, physical=9, logical=1)
    queues.submit(page0, bytes(16))
    assert [interrupt.source for interrupt in queues.interrupts] == ["CMDQV"]
    assert queues.read(spec.VINTF_ERR_MAP_AT) == 1 << 3
    assert queues.read(spec.CMDQ_ERR_MAP) == 1 << 9
    assert queues.read(queues.bank(3) + spec.LVCMDQ_ERR_MAP_AT, 8) == 1 << 1
    assert queues.read(queues.bank(3) + spec.VINTF_STATUS_AT) & 0xF == 1 | 1 << 1
    queues.memory.write(queues.ring, SYNC_COMMAND.encode())
    queues.write(page0 + spec.GERRORN_AT, COMMAND_ERROR)
    assert queues.read(spec.VINTF_ERR_MAP_AT) == 0
    assert queues.read(queues.bank(3) + spec.VINTF_STATUS_AT) & 0xF == 1


def test_interrupts_of_an_interface_can_be_masked() -> None:
    queues = Queues()
    page0 = queues.open(vintf=33)
    queues.write(spec.VINTF_INT_MASK_AT + 4, 1 << 1)
    queues.submit(page0, bytes(16))
    assert not queues.interrupts
    assert queues.read(spec.VINTF_ERR_MAP_AT + 4) == 1 << 1


def test_a_queue_is_seen_directly_and_by_its_interface() -> None:
    queues = Queues()
    page0 = queues.open(physical=7)
    direct0, direct1 = spec.DIRECT_PAGE0 + 7 * 0x80, spec.DIRECT_PAGE1 + 7 * 0x80
    queues.submit(page0, NH_VA, SYNC_COMMAND)
    for offset in range(0, 0x18, 4):
        assert queues.read(direct0 + offset) == queues.read(page0 + offset)
    assert queues.read(direct1, 8) == queues.ring | LG2 == queues.read(page0 + 0x10000, 8)
    queues.write(spec.CMDQ_ALLOC + 4 * 7, 1 << 15)  # assigned, but not allocated any more
    assert queues.read(page0 + spec.CONS_AT) == 0
    assert queues.read(direct0 + spec.CONS_AT) == 2
    assert queues.read(direct0 + spec.VCMDQ_STATUS_AT) == 0


def test_a_queue_runs_only_with_its_interface_and_its_block() -> None:
    queues = Queues()
    page0 = queues.open()
    status = page0 + spec.VCMDQ_STATUS_AT
    assert queues.read(status) == 1
    config = queues.read(queues.bank(1))
    queues.write(queues.bank(1), config & ~1)
    assert queues.read(status) == queues.read(queues.bank(1) + spec.VINTF_STATUS_AT) & 1 == 0
    queues.submit(page0, NH_VA)
    assert queues.state(page0)[0] == 0
    queues.write(queues.bank(1), config)
    assert queues.state(page0)[0] == 1
    block = queues.read(spec.CONFIG_AT)
    queues.write(spec.CONFIG_AT, block & ~1)
    assert queues.read(spec.STATUS_AT) == queues.read(status) == 0
    queues.write(spec.CONFIG_AT, block)
    assert queues.read(spec.STATUS_AT) == queues.read(status) == 1


def test_base_and_consumer_stay_while_the_queue_is_switched_on() -> None:
    queues = Queues()
    page0 = queues.open()
    before = queues.read(page0 + 0x10000, 8)
    queues.write(page0 + 0x10000, 0x1234_0000, 8)
    queues.write(page0 + spec.CONS_AT, 7)
    assert (queues.read(page0 + 0x10000, 8), queues.state(page0)[0]) == (before, 0)
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 0)
    queues.write(page0 + 0x10004, 1)
    queues.write(page0 + spec.CONS_AT, 7)
    assert queues.read(page0 + 0x10000, 8) == before & 0xFFFF_FFFF | 1 << 32
    assert queues.state(page0)[0] == 7


def test_a_queue_that_is_larger_than_the_smmu_allows_is_not_started() -> None:
    queues = Queues(identity={("IDR1", "CMDQS"): 8})
    page0 = queues.open()
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 0)
    queues.write(page0 + 0x10000, queues.ring | 9, 8)
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 1)
    assert queues.read(page0 + spec.VCMDQ_STATUS_AT) == 0
    assert queues.state(page0)[2] == INIT_ERROR


def test_a_queue_in_no_memory_stops_with_an_abort() -> None:
    queues = Queues()
    page0 = queues.open()
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 0)
    queues.write(page0 + 0x10000, 0x7FFF_0000_0000 | LG2, 8)
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 1)
    queues.write(page0 + spec.PROD_AT, 3)
    assert queues.state(page0) == (0, VcmdqError.CERROR_ABT, COMMAND_ERROR)


def test_the_index_is_copied_to_memory_where_that_is_switched_on() -> None:
    queues = Queues()
    page0 = queues.open()
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 0)
    place = queues.take(PAGE)
    queues.write(page0 + 0x10008, place, 8)
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 1)
    queues.submit(page0, NH_VA)
    assert queues.memory.read(place, 4) == bytes(4)
    queues.write(spec.CONFIG_AT, queues.read(spec.CONFIG_AT) | 1 << 20)
    queues.submit(page0, NH_VA, NH_VA)
    assert queues.memory.read(place, 4) == b"\x03\0\0\0"
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 0)
    queues.write(page0 + 0x10008, 0x7FFF_0000_0000, 8)
    queues.write(page0 + spec.VCMDQ_CONFIG_AT, 1)
    queues.submit(page0, NH_VA)
    assert queues.state(page0) == (4, VcmdqError.CERROR_NONE, COPY_ERROR)


def test_a_device_that_does_not_answer_shows_at_the_sync_of_its_queue() -> None:
    queues = Queues()
    page0 = queues.open(host=True)
    queues.machine.device(STREAM).answers = False
    queues.submit(page0, ATC_INV(Opcode=CommandOpcode.ATC_INV, SID=STREAM, Size=52), NH_VA, SYNC_COMMAND)
    assert queues.state(page0) == (2, VcmdqError.CERROR_ATC_INV_SYNC, COMMAND_ERROR)
    queues.send(SYNC_COMMAND)
    assert not queues.active_errors()


def test_what_a_guest_sees_has_one_interface_that_is_no_hypervisors() -> None:
    queues = Queues(param=GUEST_CMDQV)
    assert queues.read(spec.PARAM_AT) == 0x4011
    assert queues.read(spec.CONFIG_AT) == 0x0002_0083
    page0, held = queues.open(vintf=0, physical=1, logical=1, host=True), queues.cached()
    assert not queues.read(queues.bank(0)) >> 17 & 1
    queues.submit(page0, NH_VA.replace(ASID=1), TLBI_NH_ALL(Opcode=CommandOpcode.TLBI_NH_ALL))
    assert queues.state(page0) == (1, VcmdqError.CERROR_ILL_ACCESS, COMMAND_ERROR)
    assert not held()
    assert queues.read(queues.vintf_page0(1)) == 0


def test_without_a_param_there_is_no_block() -> None:
    queues = Queues(param=0)
    queues.write(spec.CONFIG_AT, 1)
    assert [queues.read(offset) for offset in range(0, 0x40, 4)] == [0] * 16


@pytest.mark.parametrize("param", [1 << 32, 0x4081, 0x4771, 0x5011, 0x4211], ids=hex)
def test_a_param_that_describes_no_block_is_refused(param: int) -> None:
    with pytest.raises(BadRegister, match="CMDQV_PARAM"):
        Machine("smmuv3_cmdqv", registers={"CMDQV_PARAM": param})


PLACES = st.one_of(
    st.integers(0, 0x1400),
    st.integers(0x1_0000, 0x1_0200),
    st.integers(0x2_0000, 0x2_0200),
    st.integers(spec.VINTF_PAGE0, spec.VINTF_PAGE0 + 3 * spec.VINTF_STRIDE),
    st.integers(0, 1 << 26),
)
WORDS = st.one_of(st.integers(0, 7), st.integers(0, (1 << 64) - 1))


@given(st.lists(st.tuples(PLACES, st.sampled_from([4, 8]), WORDS), max_size=40), st.binary(max_size=256))
def test_no_write_hangs_or_raises(writes: list[tuple[int, int, int]], commands: bytes) -> None:
    queues = Queues()
    page0 = queues.open(physical=0)
    queues.memory.write(queues.ring, commands)
    for place, size, value in writes:
        queues.write(place & ~3, value, size)
        queues.write(page0 + spec.PROD_AT, value & 0xFFFFF)
        queues.read(place, size)


@given(st.lists(st.sampled_from([NH_VA.encode(), SYNC_COMMAND.encode(), Command(Opcode=0x10).encode(), bytes(16)])))
def test_the_consumer_stops_at_the_first_wrong_command_whatever_comes_before(history: list[bytes]) -> None:
    queues = Queues()
    page0 = queues.open()
    good = next((n for n, raw in enumerate(history) if raw[0] in (0, 0x10)), len(history))
    for raw in history[:15]:
        queues.submit(page0, raw)
    rd, _, active = queues.state(page0)
    assert rd == min(good, len(history[:15]))
    assert bool(active) == (good < len(history[:15]))
