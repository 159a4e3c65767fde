"""Runs of any descriptors through the queue: where it stops, with which error, and what was counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugins.vtd.tests.attached import scalable
from viommu_vtd.spec.commands import InvalidationType
from viommu_vtd.spec.queue_registers import QueueError

USED = {
    1: (0x0003_FFFF_FFFF_003F, 0),
    2: (0x0000_0000_FFFF_00FF, 0xFFFF_FFFF_FFFF_F07F),
    3: (0xFFF0_FFFF_001F_F00F, 0xFFFF_FFFF_FFFF_F001),
    4: (0x0000_FFFF_F800_001F, 0),
    5: (0xFFFF_FFFF_0000_00FF, 0xFFFF_FFFF_FFFF_FFFC),
    6: (0x000F_FFFF_FFFF_003F, 0xFFFF_FFFF_FFFF_F07F),
    7: (0x000F_FFFF_FFFF_003F, 0),
    8: (0xFFFF_FFFF_FFFF_F1FF, 0xFFFF_FFFF_FFFF_F801),
    9: (0x000F_FFFF_FFFF_F01F, 0x0FF8),
}
"""By type, the bits of each word that mean something (6.5.2)."""

INTERRUPTS = 1 << 4
"""IF of a wait: it is left out, since it ends a run."""


def refusal(raw: bytes) -> QueueError | None:
    """Of a unit that has everything."""
    low, high = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:16], "little")
    kind = low & 0xF | low >> 5 & 0x70
    if kind not in USED:
        return QueueError.TYPE
    granularity = low >> 4 & 3
    wrong = {
        1: granularity == 0,
        2: granularity == 0 or (granularity == 3 and high & 0x3F > 18),
        4: bool(low >> 4 & 1 and low >> 27 & 0x1F > 15),
        6: granularity < 2,
        7: granularity == 2,
    }
    reserved = low & ~USED[kind][0] or high & ~USED[kind][1] or any(raw[16:])
    return QueueError.RESERVED if reserved or wrong.get(kind) else None


@st.composite
def descriptors(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(sorted(USED)))
    low, high = (draw(st.integers(0, (1 << 64) - 1)) & used for used in USED[kind])
    low = low & ~0xF & ~(INTERRUPTS if kind == 5 else 0) | kind
    raw = low | high << 64
    if draw(st.integers(0, 20)) == 20:
        raw ^= 1 << draw(st.integers(0, 255))
    return raw.to_bytes(32, "little")


@given(run=st.lists(descriptors(), max_size=20))
def test_the_queue_stops_at_the_first_descriptor_that_is_refused_and_counts_what_was_done(run: list[bytes]) -> None:
    run = [raw for raw in run if raw[0] & 0xF != 5 or not raw[0] & INTERRUPTS]
    software, _, _ = scalable(2)
    counted = software.machine.command_counts.copy()
    errors = [refusal(raw) for raw in run]
    good = next((index for index, error in enumerate(errors) if error is not None), len(run))

    software.submit(*run)

    error = errors[good] if good < len(run) else None
    assert software.read("IQH") == 32 * good
    assert (error is not None) == software.fsts.IQE
    assert (error or 0) == software.queue_error.IQEI
    names = [InvalidationType(raw[0] & 0xF).name.lower() for raw in run[:good]]
    assert software.machine.command_counts - counted == {name: names.count(name) for name in names}
