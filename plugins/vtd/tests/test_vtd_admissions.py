"""A device that was let through once is let through for as long as memory and registers say what they said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins.vtd.tests.programming import Software
from viommu.faults import Access, Fault
from viommu.platform import Completion, RequestKind, ResponseCode
from viommu.translation import Translation
from viommu_vtd.hardware.live.admissions import MOST
from viommu_vtd.hardware.live.unit import LiveUnit
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.root_context import RootEntry, ScalableContextEntry

if TYPE_CHECKING:
    from viommu.devices import Device

RID, PASID = 0x0108, 7
IOVA = 0x40_0000


def admitted(**context: int) -> tuple[Software, Device]:
    """A device whose translated requests and page requests have gone through once; its PASID passes all."""
    software = Software.make()
    software.guest.pasid(RID, PASID, PasidTableEntry(P=1, PGTT=4, DID=5), **{"DTE": 1, "PRE": 1, **context})
    software.enable()
    device = software.machine.device(RID)
    assert isinstance(sent(software), Translation)
    device.request_page(IOVA, Access.READ, PASID, group=1)
    assert not device.responses
    return software, device


def sent(software: Software, pasid: int = PASID) -> object:
    return software.machine.send_translated(RID, IOVA, Access.READ, pasid)


def change(software: Software, **fields: int) -> None:
    """Change the device's context entry, and invalidate nothing."""
    memory, at = software.guest.memory, place(software)
    entry = ScalableContextEntry.decode(memory.read(at, ScalableContextEntry.size) or b"")
    memory.write(at, entry.replace(**fields).encode())


def place(software: Software) -> int:
    """Where the device's context entry lies."""
    memory = software.guest.memory
    root = int.from_bytes(memory.read(software.guest.root + (RID >> 8) * RootEntry.size, 8) or b"", "little")
    return (root & -0x1000) + (RID & 0x7F) * ScalableContextEntry.size


@pytest.mark.parametrize("fields", [{"P": 0}, {"DTE": 0}, {"PASIDE": 0}])
def test_a_device_is_refused_as_soon_as_its_entry_says_so_and_let_through_again(fields: dict[str, int]) -> None:
    software, _ = admitted()

    change(software, **fields)
    assert isinstance(sent(software), Fault)
    change(software, **dict.fromkeys(fields, 1))
    assert isinstance(sent(software), Translation)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"P": 0}, ResponseCode.FAILURE), ({"PRE": 0}, ResponseCode.INVALID), ({"PASIDE": 0}, ResponseCode.FAILURE)],
)
def test_page_requests_are_refused_as_soon_as_the_entry_says_so(fields: dict[str, int], code: ResponseCode) -> None:
    software, device = admitted()

    change(software, **fields)
    device.request_page(IOVA, Access.READ, PASID, group=2)
    change(software, **dict.fromkeys(fields, 1))
    device.request_page(IOVA, Access.READ, PASID, group=3)

    assert [(answer.group, answer.code) for answer in device.responses] == [(2, code)]


def test_ats_and_page_requests_are_allowed_apart() -> None:
    software, device = admitted()

    change(software, PRE=0)
    assert isinstance(sent(software), Translation)
    change(software, PRE=1, DTE=0)
    device.request_page(IOVA, Access.READ, PASID, group=2)

    assert not device.responses
    assert isinstance(sent(software), Fault)


def test_what_holds_for_one_pasid_is_not_believed_of_another() -> None:
    software, _ = admitted(PDTS=0)

    assert isinstance(sent(software, 1 << 13), Fault)


def test_nobody_is_let_through_once_translation_is_off() -> None:
    software, device = admitted()

    software.command(TE=0)

    assert isinstance(sent(software), Fault)
    assert device.translate(IOVA, Access.READ, PASID) is Completion.UNSUPPORTED_REQUEST


def test_fpd_that_appears_silences_what_comes_then() -> None:
    software, _ = admitted()

    change(software, FPD=1, DTE=0)
    assert isinstance(sent(software), Fault)

    assert software.fsts.PPF == 0


def test_another_root_table_is_asked_anew() -> None:
    software, _ = admitted()

    software.guest.root = software.guest.page()
    software.set_root()

    assert isinstance(sent(software), Fault)


def test_what_fpd_silences_is_silenced_each_time() -> None:
    software, _ = admitted(FPD=1)

    for _ in range(2):
        assert isinstance(software.machine.send_translated(RID, 1 << 56, Access.READ, PASID), Fault)

    assert software.fsts.PPF == 0


def test_more_pasids_than_are_kept_are_let_through_all_the_same() -> None:
    software, _ = admitted(PDTS=7)
    live = software.machine.hardware.live
    assert isinstance(live, LiveUnit)

    for pasid in range(2 * MOST + 1):
        assert isinstance(sent(software, pasid), Translation)
        assert len(live.admissions) <= MOST


def test_who_asks_again_is_told_the_same_fetches() -> None:
    software, _ = admitted()
    live = software.machine.hardware.live
    assert live is not None

    told: list[list[tuple[type, int]]] = []
    for _ in range(2):
        log = Log()
        assert live.admit(RID, PASID, RequestKind.TRANSLATION_REQUEST, log) is None
        told.append(log.made)

    assert told[0] == told[1]
    assert isinstance(live, LiveUnit)
    assert len(live.admissions) == 1
    assert told[0][1] == (ScalableContextEntry, place(software))


class Log:
    """Keeps what was fetched."""

    def __init__(self) -> None:
        self.made: list[tuple[type, int]] = []

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:  # noqa: ARG002
        self.made.append((structure, address))

    def note(self, text: str) -> None:
        """Notes are not compared."""
