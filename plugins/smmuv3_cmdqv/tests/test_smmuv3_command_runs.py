"""Runs of any commands through the queue: where it stops, with which error, and what was counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugins.smmuv3_cmdqv.tests.programmed import Programmed
from viommu_smmuv3_cmdqv.spec.commands import SYNC, CommandOpcode
from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError

EL3, MPAM = {0x18, 0x1A}, {0x07}
"""Commands of a state and a feature that are absent."""
LEGAL = {opcode.value: opcode.name for opcode in CommandOpcode if opcode.value not in EL3 | MPAM}
LG2 = 5
NOTHING = SYNC(Opcode=CommandOpcode.SYNC)

commands = st.builds(
    lambda opcode, low, high: bytes([opcode]) + low + high,
    st.sampled_from(sorted(LEGAL)),
    st.integers(0, (1 << 56) - 1).map(lambda word: (word & ~(1 << 2)).to_bytes(7, "little")),  # SSec is 0
    st.binary(min_size=8, max_size=8),
)
runs = st.lists(st.one_of(*[commands] * 12, st.binary(min_size=16, max_size=16)), max_size=30)


def is_legal(raw: bytes) -> bool:
    """With every feature there is: the opcode, SSec (bit 10), SYNC.CS (13:12) and PRI_RESP.Resp (77:76)."""
    if raw[0] not in LEGAL or raw[1] & 4:
        return False
    if raw[0] == CommandOpcode.SYNC:
        return raw[1] >> 4 & 3 != 3
    return raw[0] != CommandOpcode.PRI_RESP or raw[9] >> 4 & 3 != 3


@given(run=runs, before=st.integers(0, 40))
def test_the_queue_stops_at_the_first_illegal_command_and_counts_what_was_done(run: list[bytes], before: int) -> None:
    smmu = Programmed(command_lg2=LG2)
    for _ in range(before):
        smmu.send(NOTHING)
    smmu.told.clear()
    counted = smmu.machine.command_counts.copy()
    start = smmu.consumer.RD
    good = next((index for index, raw in enumerate(run) if not is_legal(raw)), len(run))

    prod = start
    for raw in run:
        assert smmu.memory.write(smmu.command_queue + 16 * (prod & (1 << LG2) - 1), raw)
        prod = prod + 1 & (2 << LG2) - 1
    smmu.program("CMDQ_PROD", prod)

    stopped_at = start + good & (2 << LG2) - 1
    error = CommandError.CERROR_NONE if good == len(run) else CommandError.CERROR_ILL
    assert (stopped_at, error) == (smmu.consumer.RD, smmu.consumer.ERR)
    assert ("CMDQ_ERR" in smmu.active_errors()) == (good != len(run))
    names = [LEGAL[raw[0]] for raw in run[:good]]
    assert smmu.machine.command_counts - counted == {name: names.count(name) for name in names}
