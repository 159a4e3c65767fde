"""Which invalidation descriptors hardware refuses, and with which error."""

from __future__ import annotations

import pytest

from plugins.vtd.tests.attached import cc, iotlb, p_iotlb, pasid_cache, scalable
from plugins.vtd.tests.programming import Software
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.spec.commands import (
    COMMANDS,
    WIDE,
    InterruptEntryCacheInvalidate,
    Invalidation,
    InvalidationType,
    InvalidationWait,
)
from viommu_vtd.spec.queue_registers import QueueError


def reserved_bits(kind: InvalidationType, width: int) -> list[int]:
    """A few reserved bits of each word: the lowest and the highest of it."""
    mask = (COMMANDS if width == 128 else WIDE)[kind].reserved_mask & ~0xE00
    words = [(mask >> 64 * word & (1 << 64) - 1) << 64 * word for word in range(width // 64)]
    return [bit for word in words if word for bit in ((word & -word).bit_length() - 1, word.bit_length() - 1)]


VALID = {
    InvalidationType.CONTEXT_CACHE: cc(G=1),
    InvalidationType.IOTLB: iotlb(G=1),
    InvalidationType.PASID_IOTLB: p_iotlb(G=2),
}


@pytest.mark.parametrize("kind", list(InvalidationType))
def test_a_reserved_bit_of_a_descriptor_is_refused(kind: InvalidationType) -> None:
    for bit in reserved_bits(kind, 256):
        software, _, _ = scalable(1)
        command = int(VALID.get(kind, Invalidation(Type=kind)))

        software.submit(command.to_bytes(32, "little"))
        assert software.fsts.IQE == 0
        software.submit((command | 1 << bit).to_bytes(32, "little"))

        assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.RESERVED), bit
        assert software.read("IQH") == 32


@pytest.mark.parametrize(
    "command",
    [
        cc(G=0),
        iotlb(G=0),
        iotlb(G=3, AM=19),
        p_iotlb(G=0),
        p_iotlb(G=1),
        pasid_cache(G=2),
        InterruptEntryCacheInvalidate(Type=4, G=1, IM=16),
    ],
)
def test_a_value_that_does_not_exist_is_refused_as_reserved(command: Invalidation) -> None:
    software, _, _ = scalable(1)

    software.submit(command)

    assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.RESERVED)


@pytest.mark.parametrize(
    ("lacks", "command"),
    [("PSI", iotlb(G=3)), ("PDS", InvalidationWait(Type=5, PD=1))],
)
def test_a_field_needs_its_capability(lacks: str, command: Invalidation) -> None:
    cap = FULL_CAP.replace(PSI=lacks != "PSI")
    software, _, _ = scalable(1, cap=cap, ecap=FULL_ECAP.replace(PDS=lacks != "PDS"))

    software.submit(command)

    assert software.queue_error.IQEI == QueueError.RESERVED


@pytest.mark.parametrize(
    ("lacks", "kind"),
    [("DT", 3), ("DT", 8), ("IR", 4), ("PRS", 9)],
)
def test_a_type_needs_its_capability(lacks: str, kind: int) -> None:
    software = Software.make(ecap=FULL_ECAP.replace(**{lacks: 0}))
    software.guest.mode = 1
    software.set_root()
    software.enable_queue()

    software.submit(Invalidation(Type=kind))

    assert software.queue_error.IQEI == QueueError.TYPE


@pytest.mark.parametrize("kind", [0, 10, 15, 1 | 1 << 9, 5 | 7 << 9])
@pytest.mark.parametrize("mode", [0, 1])
def test_a_type_that_nobody_knows_is_refused(kind: int, mode: int) -> None:
    software = Software.make()
    software.guest.mode = mode
    software.set_root()
    software.enable_queue()

    software.submit(kind.to_bytes(16, "little"))

    assert (software.fsts.IQE, software.queue_error.IQEI) == (1, QueueError.TYPE)


@pytest.mark.parametrize("kind", list(InvalidationType))
@pytest.mark.parametrize(("mode", "last"), [(0, 5), (1, 9), (3, 9)])
def test_legacy_mode_has_the_first_five_types(kind: InvalidationType, mode: int, last: int) -> None:
    software = Software.make()
    software.guest.mode = mode
    software.set_root()
    software.enable_queue()

    software.submit(VALID.get(kind, Invalidation(Type=kind)))

    assert (0 if kind <= last else QueueError.TYPE) == software.queue_error.IQEI
