"""Guests, their devices and their host at the same time: each is served, and nobody hears of what is not so."""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import threading
import time
from typing import TYPE_CHECKING

from attrs import define, field

from tests.plugins.amd_viommu.guest import BASE, GUEST_SIZE
from tests.plugins.amd_viommu.program import FIXED_RW, HARDWARE, PAGE, Program
from tests.plugins.amd_viommu.vm import EVERYTHING, IOVA, RUNNING, VID, Vm, pages
from viommu import Iotlb
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu_amd_viommu.spec.commands import CompletionWait, InvalidateIotlbPages, Opcode
from viommu_amd_viommu.spec.events import IoPageFault

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("VIOMMU_HAMMER_SECONDS", "1.5"))
STUCK_AFTER = 240
CLEAR = 0xFFFF
"""Every bit of Status that software clears."""


@define(eq=False)
class Busy:
    """One guest with a device; ``word``: where its completion waits store, ``waits`` how many there were."""

    vm: Vm
    word: int = field(init=False)
    waits: int = 0

    def __attrs_post_init__(self) -> None:
        self.word = self.vm.guest.page()

    def submit(self, chance: random.Random) -> None:
        """Invalidate, and find it done when the doorbell was rung."""
        vm = self.vm
        self.waits += 1
        vm.give(
            *(pages(pasid=chance.choice([0, 5])) for _ in range(chance.randrange(1, 20))),
            InvalidateIotlbPages(Opcode=Opcode.INVALIDATE_IOTLB_PAGES, DeviceID=VID, S=1, Address=EVERYTHING),
            CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, Address=self.word, Data=self.waits),
        )
        assert vm.guest.load(self.word) == self.waits

    def use(self, chance: random.Random) -> None:
        """DMA that goes through, DMA that does not, ATS, and a page request."""
        vm, ats = self.vm, self.vm.endpoint.ats
        assert ats is not None
        pasid = chance.choice([None, 5])
        assert vm.look(pasid) == b"old"
        assert vm.program.reaches(IOVA + PAGE * chance.randrange(1, 9), Access.READ, pasid, vm.requester) == (
            "IO_PAGE_FAULT"
        )
        ats.translate(IOVA)
        ats.request_page(IOVA, Access.READ, 5, group=chance.randrange(500))

    def take(self, _: random.Random) -> None:
        """Read both logs, and start them anew where they overflowed."""
        vm = self.vm
        assert all(event.DeviceID == VID for event in vm.events if isinstance(event, IoPageFault))
        assert all(request.DeviceID == VID for request in vm.requests)
        if not (vm.status.EventLogRun and vm.status.PPRRun):
            vm.switch(RUNNING.replace(EventLogEn=0, PPRLogEn=0))
            vm.store(0x20, CLEAR)
            vm.switch(RUNNING)
        time.sleep(0.001)


@define(eq=False)
class Host:
    """The VMM of all: it maps and unmaps, and lets other nested domains take the place of those that there are."""

    program: Program
    vms: list[Vm]

    def act(self, chance: random.Random) -> None:
        vm, at = chance.choice(self.vms), BASE + GUEST_SIZE + PAGE * chance.randrange(16)
        spare = self.program.room()
        fields = {"user_va": spare.address, "length": PAGE, "iova": at}
        self.program.must(uapi.IoasMap.of(flags=FIXED_RW, ioas_id=vm.guest.ioas, **fields))
        self.program.unmap(vm.guest.ioas, at)
        made = self.program.nested(vm.device, vm.viommu, vm.guest.dte(PPR=1, DomainID=chance.choice([1, 1, 2])))
        vm.device.replace(made)
        self.program.must(uapi.Destroy.of(id=vm.hwpt))
        vm.hwpt = made


def at_once(acts: list[Callable[[random.Random], None]]) -> list[BaseException]:
    """Let each be done again and again, in a thread of its own; what went wrong."""
    end, wrong = time.monotonic() + SECONDS, list[BaseException]()

    def run(number: int) -> None:
        chance = random.Random(number)
        try:
            while time.monotonic() < end:
                acts[number](chance)
        except BaseException as error:  # noqa: BLE001 # told in the thread of the test
            wrong.append(error)

    interval = sys.getswitchinterval()
    faulthandler.dump_traceback_later(STUCK_AFTER, exit=True)
    sys.setswitchinterval(1e-4)
    try:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        faulthandler.cancel_dump_traceback_later()
    return wrong


def test_guests_devices_and_their_host_do_not_disturb_one_another() -> None:
    program = Program.make(HARDWARE, sanitize=False, iotlb=Iotlb(entries=256))
    busy = [Busy(Vm(program, 0x0100 + 8 * number)) for number in range(3)]
    host = Host(program, [one.vm for one in busy])

    wrong = at_once([host.act, *(act for one in busy for act in (one.submit, one.use, one.use, one.take))])

    assert not wrong, wrong
    assert not program.unit.events
    assert all(one.waits > 3 for one in busy)
    assert program.machine.command_counts["COMPLETION_WAIT"] > 10
