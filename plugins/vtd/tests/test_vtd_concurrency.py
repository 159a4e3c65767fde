"""Devices and software at the same time: an invalidation that has returned is seen by every access that follows."""

from __future__ import annotations

from threading import Event, Thread

from plugins.vtd.tests.guest import R
from plugins.vtd.tests.programming import Software
from viommu.translation import Translation
from viommu_vtd.spec.commands import ContextCacheInvalidate, IotlbInvalidate
from viommu_vtd.spec.root_context import ContextEntry

RID = 0x0108
IOVA = 0x40_0000
TURNS = 150


def test_no_access_after_an_invalidation_uses_what_was_before_it() -> None:
    software = Software.make()
    guest = software.guest
    tables = [guest.page(), guest.page()]
    pages = [guest.page(), guest.page()]
    for number in (0, 1):
        guest.map(tables[number], 4, IOVA, pages[number] | R)
    entries = [ContextEntry(P=1, AW=2, DID=5 + number, SSPTPTR=tables[number]) for number in (0, 1)]
    at = guest.legacy(RID, entries[0])
    software.enable()
    software.enable_queue()
    stop = Event()

    def devices() -> None:
        while not stop.is_set():
            software.machine.translate(RID, IOVA)

    threads = [Thread(target=devices) for _ in range(2)]
    for thread in threads:
        thread.start()
    seen = []
    for turn in range(TURNS):
        guest.put(at, entries[turn & 1])
        software.submit(ContextCacheInvalidate(Type=1, G=2, DID=6 - (turn & 1)), IotlbInvalidate(Type=2, G=1))
        found = software.machine.translate(RID, IOVA)
        assert isinstance(found, Translation)
        seen.append(found.pa)
    stop.set()
    for thread in threads:
        thread.join()

    assert seen == [pages[turn & 1] for turn in range(TURNS)]
