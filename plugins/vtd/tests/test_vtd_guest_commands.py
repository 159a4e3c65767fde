"""A guest's invalidation descriptors: judged as hardware judges them, and rewritten so that they reach nobody else."""

from __future__ import annotations

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from viommu_vtd.hardware.live.command_rules import Abilities, judged, type_of
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.host.guest_commands import REWRITERS, GuestAbilities, NoSuchDevice, decode, rewrite, wait_error
from viommu_vtd.spec.commands import (
    COMMANDS,
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InvalidationWait,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from viommu_vtd.spec.queue_registers import QueueError

ABLE = GuestAbilities(psi=True, most_pages_lg2=FULL_CAP.MAMV, device_tlbs=True, drain=True)


@frozen
class View:
    """Guest DID 5 is two nested domains, 0x11 and 0x12; device 0x0010 is 0x0108."""

    known: dict[int | None, list[int]] = field(factory=lambda: {5: [0x11, 0x12], None: [0x11, 0x12, 0x13]})

    def domains(self, guest_domain: int | None) -> list[int]:
        return self.known.get(guest_domain, [])

    def source(self, virtual: int) -> int | None:
        return 0x0108 if virtual == 0x0010 else None


VIEW = View()


def known_types() -> list[int]:
    """Types that a vIOMMU takes; interrupt entries (4) and page group responses (9) it does not."""
    return [kind for kind in COMMANDS if kind not in (4, 9)]


descriptors = st.builds(
    lambda kind, low, high, upper: (low & ~0xE0F | kind) | high << 64 | upper << 128,
    st.sampled_from(known_types()),
    st.integers(0, (1 << 64) - 1) | st.integers(0, 63).map(lambda bit: 1 << bit),
    st.integers(0, (1 << 64) - 1) | st.integers(0, 63).map(lambda bit: 1 << bit),
    st.sampled_from([0, 0, 0, 1, 1 << 127]),
)


@given(descriptors | st.integers(0, (1 << 256) - 1))
def test_what_hardware_would_refuse_is_refused_for_the_same_reason(value: int) -> None:
    raw = value.to_bytes(32, "little")
    told = judged(raw, Abilities(FULL_CAP, FULL_ECAP, scalable=True))
    refused = told if isinstance(told, QueueError) else 0
    expected = refused if type_of(value) in known_types() else QueueError.TYPE
    found = decode(raw)
    if isinstance(found, InvalidationWait):
        found = wait_error(found, ABLE) or found
    elif not isinstance(found, QueueError):
        rewritten = rewrite(found, VIEW, ABLE)
        found = rewritten if isinstance(rewritten, QueueError) else found
    assert (int(found) if isinstance(found, QueueError) else 0) == expected


@pytest.mark.parametrize(
    ("guest", "host"),
    [
        (ContextCacheInvalidate(Type=1, G=3, DID=5, SID=0x10), []),
        (PasidCacheInvalidate(Type=7, G=1, DID=5, PASID=9), [(7, 0x11, 9), (7, 0x12, 9)]),
        (PasidCacheInvalidate(Type=7, G=0, DID=5), [(7, 0x11, 0), (7, 0x12, 0)]),
        (PasidCacheInvalidate(Type=7, G=3), [(7, 0x11, 0), (7, 0x12, 0), (7, 0x13, 0)]),
        (IotlbInvalidate(Type=2, G=1), [(2, 0x11, 0), (2, 0x12, 0), (2, 0x13, 0)]),
        (IotlbInvalidate(Type=2, G=3, DID=5, AM=3, ADDR=0x8000), [(2, 0x11, 0), (2, 0x12, 0)]),
        (IotlbInvalidate(Type=2, G=2, DID=6), []),
        (PasidIotlbInvalidate(Type=6, G=3, DID=5, PASID=9, ADDR=0x8000), [(6, 0x11, 9), (6, 0x12, 9)]),
        (PasidIotlbInvalidate(Type=6, G=2, DID=0x11, PASID=9), []),
    ],
    ids=repr,
)
def test_a_guests_did_is_that_of_its_nested_domains_and_of_nobody_else(
    guest: IotlbInvalidate, host: list[tuple[int, int, int]]
) -> None:
    found = rewrite(guest, VIEW, ABLE)
    assert isinstance(found, list)
    assert [(one.Type, one.DID, getattr(one, "PASID", 0)) for one in found] == host  # type: ignore[attr-defined]


def test_all_of_a_guest_never_means_all_of_the_host() -> None:
    for guest in (IotlbInvalidate(Type=2, G=1), PasidCacheInvalidate(Type=7, G=3)):
        found = rewrite(guest, VIEW, ABLE)
        assert isinstance(found, list)
        assert all(getattr(one, "G") in {0, 2} for one in found)  # noqa: B009 - of two layouts


@pytest.mark.parametrize(
    "guest",
    [
        DeviceTlbInvalidate(Type=3, SID=0x10, PFSID=0x33, MIP=4, S=1, ADDR=0x7000),
        PasidDeviceTlbInvalidate(Type=8, SID=0x10, PFSID=0x33, PASID=9, S=1, ADDR=0x7000),
    ],
    ids=["type 3", "type 8"],
)
def test_a_source_id_becomes_the_vdevices(guest: DeviceTlbInvalidate) -> None:
    assert rewrite(guest, VIEW, ABLE) == [guest.replace(SID=0x0108, PFSID=0)]
    assert rewrite(guest.replace(SID=0x0108), VIEW, ABLE) == NoSuchDevice(0x0108)


def test_without_device_tlbs_a_guest_has_no_such_descriptor() -> None:
    able = GuestAbilities(psi=True, most_pages_lg2=18, device_tlbs=False, drain=True)
    assert rewrite(DeviceTlbInvalidate(Type=3, SID=0x10), VIEW, able) is QueueError.TYPE


def test_every_type_is_taken_waited_for_or_left_to_the_vmm() -> None:
    left = {COMMANDS[kind] for kind in COMMANDS if kind in (4, 9)}
    assert set(COMMANDS.values()) == set(REWRITERS) | {InvalidationWait} | left
