"""What a CPU's TLB broadcast makes an SMMU forget, as translations show it."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import STAGE1_CD, STAGE2_STE
from plugins.smmuv3_cmdqv.tests.programmed import PAGE, Programmed
from plugins.smmuv3_cmdqv.tests.test_smmuv3_invalidation import ALL, BASE, fresh, mapped, stage2_alone
from viommu import Machine
from viommu.platform import TlbBroadcast
from viommu_smmuv3_cmdqv.spec.registers import IDR0

ASID, VMID = STAGE1_CD["ASID"], STAGE2_STE["S2VMID"]


@pytest.fixture
def smmu() -> Programmed:
    return Programmed()


@pytest.mark.parametrize(
    ("message", "forgotten"),
    [
        (TlbBroadcast(0), ALL),
        (TlbBroadcast(1), set()),
        (TlbBroadcast(0, stage2=True), ALL),
        (TlbBroadcast(0, asid=ASID), ALL),
        (TlbBroadcast(0, asid=ASID + 1), set()),
        (TlbBroadcast(0, ASID, BASE + 3 * PAGE, BASE + 5 * PAGE - 1), {3, 4}),
        (TlbBroadcast(0, ASID, BASE + 3 * PAGE, BASE + 5 * PAGE - 1, leaf_only=True), {3, 4}),
        (TlbBroadcast(0, ASID + 1, BASE, BASE + 5 * PAGE - 1), set()),
        (TlbBroadcast(0, None, BASE, BASE + PAGE - 1), {0}),
        (TlbBroadcast(0, ASID, 0xAB << 56 | BASE, 0xAB << 56 | BASE + PAGE - 1), {0}),
    ],
    ids=str,
)
def test_a_broadcast_drops_what_it_names(smmu: Programmed, message: TlbBroadcast, forgotten: set[int]) -> None:
    mapped(smmu)
    smmu.machine.broadcast_tlbi(message)
    assert fresh(smmu) == forgotten


@pytest.mark.parametrize(
    ("message", "forgotten"),
    [
        (TlbBroadcast(VMID), set()),
        (TlbBroadcast(VMID, stage2=True), ALL),
        (TlbBroadcast(VMID + 1, stage2=True), set()),
        (TlbBroadcast(VMID, start=BASE + PAGE, last=BASE + 3 * PAGE - 1, stage2=True), {1, 2}),
    ],
    ids=str,
)
def test_a_broadcast_of_a_vmid_reaches_its_stage_2(
    smmu: Programmed, message: TlbBroadcast, forgotten: set[int]
) -> None:
    stage2_alone(smmu)
    smmu.machine.broadcast_tlbi(message)
    assert fresh(smmu) == forgotten


def test_an_smmu_hears_nothing_while_software_says_so(smmu: Programmed) -> None:
    mapped(smmu)
    smmu.change("CR0", SMMUEN=0)
    smmu.change("CR2", PTM=1)
    smmu.change("CR0", SMMUEN=1)
    smmu.machine.broadcast_tlbi(TlbBroadcast(0))
    assert fresh(smmu) == set()


def test_an_smmu_without_btm_has_no_ears() -> None:
    smmu = Programmed(identity={("IDR0", "BTM"): 0})
    mapped(smmu)
    smmu.machine.broadcast_tlbi(TlbBroadcast(0))
    assert fresh(smmu) == set()


def test_the_whole_model_has_ears() -> None:
    assert IDR0.decode(Machine("smmuv3_cmdqv").read_register(0)).BTM


def test_a_group_of_vmids_hears_as_one(smmu: Programmed) -> None:
    mapped(smmu)
    smmu.change("CR0", SMMUEN=0)
    smmu.change("CR0", VMW=2)
    smmu.change("CR0", SMMUEN=1)
    smmu.machine.broadcast_tlbi(TlbBroadcast(3))
    assert fresh(smmu) == ALL
