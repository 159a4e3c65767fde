"""What a machine's summary says of a guest's invalidations, and what they would have cost on a Grace."""

from __future__ import annotations

import pytest

from tests.plugins.smmuv3_cmdqv.guest import VSID
from tests.plugins.smmuv3_cmdqv.program import Program
from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import NH_VA, SYNC_COMMAND, guest_with_vintf, queue_of
from viommu_smmuv3_cmdqv.costs import TWO_THREADS, Costs
from viommu_smmuv3_cmdqv.spec.commands import CFGI_CD, CommandOpcode

FORGET = CFGI_CD(Opcode=CommandOpcode.CFGI_CD, SID=VSID, Leaf=1)

PAGES = {4096: 1, 16 << 10: 4, 64 << 10: 16, 128 << 10: 32, 256 << 10: 64}
TRAPPED = {1: (35.7, 41.8, 68.9, 109.0, 187.1), 2: (96.9, 97.8, 151.5, 257.8, 443.0)}
VCMDQ = {1: (5.3, 6.8, 9.9, 12.6, 18.0), 2: (6.8, 7.5, 10.7, 12.7, 17.9)}
"""Microseconds for one map and unmap on a Grace, by threads and length, as the kernel series tells them."""


@pytest.mark.parametrize(("threads", "costs"), [(1, Costs()), (2, TWO_THREADS)])
def test_the_defaults_are_within_a_sixth_of_what_was_published(threads: int, costs: Costs) -> None:
    for way, published in ((costs.trapped, TRAPPED[threads]), (costs.vcmdq, VCMDQ[threads])):
        for pages, microseconds in zip(PAGES.values(), published, strict=True):
            assert way.of(1, pages) == pytest.approx(microseconds, rel=0.17)


def test_a_summary_says_what_vcmdqs_saved() -> None:
    program = Program.make()
    queue = queue_of(*guest_with_vintf(program))
    for _ in range(10):
        queue.submit(NH_VA, NH_VA, SYNC_COMMAND)
    account = Costs().account(program.machine.activity)
    assert (account.syncs, account.commands) == (10, 20)
    assert account.saved == pytest.approx(10 * (32.0 - 6.0) + 20 * (2.42 - 0.19))
    told = str(program.machine.summary())
    assert "by vCMDQs: 20 commands and 10 SYNCs, no exit, no ioctl, 64 us; trapped: 10 exits, 10 to 20 ioctls" in told
    assert "version 9" in told


def test_what_was_trapped_is_told_with_what_it_cost() -> None:
    program = Program.make()
    guest, _ = guest_with_vintf(program)
    guest.invalidate(FORGET, FORGET, FORGET)
    guest.invalidate(FORGET)
    account = Costs().account(program.machine.activity)
    assert (account.ioctls, account.requests) == (2, 4)
    assert account.avoidable == pytest.approx(2 * (32.0 - 6.0) + 4 * (2.42 - 0.19))
    assert "trapped: 4 commands, 2 exits, 2 ioctls, 74 us; by vCMDQs 13 us" in str(program.machine.summary())


def test_other_costs_may_be_given() -> None:
    program = Program.make()
    queue = queue_of(*guest_with_vintf(program))
    queue.submit(NH_VA, SYNC_COMMAND)
    assert TWO_THREADS.account(program.machine.activity).spent == pytest.approx(7.1 + 0.17)


def test_a_machine_on_which_nothing_was_invalidated_has_no_costs() -> None:
    assert Program.make().machine.summary().costs == []


def test_hosts_commands_are_none_of_the_guests() -> None:
    program = Program.make()
    queue = queue_of(*guest_with_vintf(program))
    hosts = program.machine.summary().host_commands
    queue.submit(NH_VA, SYNC_COMMAND)
    after = program.machine.summary()
    assert after.host_commands == hosts
    assert dict(after.activity.guest_commands) == {"TLBI_NH_VA": 1, "SYNC": 1}
