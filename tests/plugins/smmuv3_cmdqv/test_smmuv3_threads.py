"""Devices, guests and the host at once: nothing waits for ever, nobody reaches what is not his any more."""

from __future__ import annotations

import faulthandler
import time
from itertools import cycle
from threading import Event, Thread
from typing import TYPE_CHECKING

from tests.plugins.smmuv3_cmdqv.guest import BASE, NG, VSID, Guest
from tests.plugins.smmuv3_cmdqv.program import NEST, PAGE, SID, Program
from tests.plugins.smmuv3_cmdqv.test_smmuv3_vqueue import NH_VA, SYNC_COMMAND, guest_with_vintf, queue_of
from viommu import Iotlb, Machine
from viommu.faults import Fault
from viommu_smmuv3_cmdqv.spec.commands import CFGI_CD, CommandOpcode
from viommu_smmuv3_cmdqv.spec.events import EventId

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.endpoint import Endpoint

IOVA = 0x7000_0000
SPARE = BASE + (64 << 20)
SECONDS = 1.0


def all_at_once(*steps: Callable[[], object]) -> None:
    """Take steps over and over, each in a thread of its own; what one of them raises is raised here."""
    done, errors = Event(), list[BaseException]()

    def run(step: Callable[[], object]) -> None:
        try:
            while not done.is_set():
                step()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must tell
            errors.append(error)
            done.set()

    faulthandler.dump_traceback_later(30, exit=True)
    threads = [Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    done.wait(SECONDS)
    done.set()
    for thread in threads:
        thread.join(20)
    faulthandler.cancel_dump_traceback_later()
    assert not errors, errors[0]
    assert not any(thread.is_alive() for thread in threads)


def test_dma_events_vcmdqs_and_the_host_go_on_together() -> None:
    program = Program.on(Machine("smmuv3_cmdqv", iotlb=Iotlb(entries=256)))
    guest, mapping = guest_with_vintf(program)
    queue, events = queue_of(guest, mapping), guest.events(depth=8)
    device = program.machine.endpoints[0]
    entry, page = guest.leaf(IOVA + PAGE), guest.page()
    spare = program.buffer(PAGE)

    def access() -> None:
        assert device.dma_read(IOVA, 6) == b"before"
        device.translate(IOVA + PAGE)
        device.translate(IOVA + 2 * PAGE)  # never mapped: an event each time

    def change() -> None:
        guest.store(entry, page | 0x743 | NG)
        guest.store(entry, 0)
        queue.submit(NH_VA.replace(Address=IOVA + PAGE), SYNC_COMMAND)
        assert queue.consumed[0] == queue.written

    def configure() -> None:
        guest.invalidate(CFGI_CD(Opcode=CommandOpcode.CFGI_CD, SID=VSID))
        time.sleep(0.001)

    def host() -> None:
        program.map(guest.ioas, SPARE, spare)
        program.unmap(guest.ioas, SPARE, PAGE)

    all_at_once(access, access, change, configure, host, events.read)
    queue.submit(NH_VA.replace(Address=IOVA + PAGE), SYNC_COMMAND)
    assert isinstance(device.translate(IOVA + PAGE), Fault)


def test_devices_are_attached_and_detached_while_they_send() -> None:
    program = Program.on(Machine("smmuv3_cmdqv", iotlb=Iotlb(entries=256)))
    ioases = [program.ioas() for _ in range(2)]
    for ioas, text in zip(ioases, (b"one", b"two"), strict=True):
        buffer = program.buffer()
        buffer[:3] = list(text)
        program.map(ioas, IOVA, buffer)
    devices = [program.machine.add_device(SID + 8 * n) for n in range(2)]
    bound = [program.bind(device) for device in devices]
    hwpts = [program.hwpt(bound[0], ioas) for ioas in ioases]
    seen = set[object]()

    def send(device: Endpoint) -> None:
        found = device.dma_read(IOVA, 3)
        seen.add("refused" if isinstance(found, Fault) else found)

    def change() -> None:
        for device in bound:
            device.attach(hwpts[0])
            device.replace(hwpts[1])
            device.detach()

    all_at_once(lambda: send(devices[0]), lambda: send(devices[1]), change)
    change()
    assert seen <= {b"one", b"two", "refused"}
    assert {b"one", b"two"} & seen
    for device in devices:
        assert isinstance(device.dma_read(IOVA, 3), Fault)


def test_devices_that_send_while_stages_change_places_never_meet_half_an_entry() -> None:
    """Stage 1, stage 2 and nested take turns: DMA is the one's or the other's, or refused while there is none."""
    program = Program.on(Machine("smmuv3_cmdqv", iotlb=Iotlb(entries=256)))
    device = program.machine.add_device(SID)
    guest = Guest.make(program, program.bind(device))
    guest.map(IOVA, b"gue")
    guest.vdevice(guest.device)
    nested = guest.nested(guest.ste())
    places = [nested]
    for text, flags in ((b"one", 0), (b"two", NEST)):
        ioas, buffer = program.ioas(), program.buffer()
        buffer[:3] = list(text)
        program.map(ioas, IOVA, buffer)
        places.append(program.hwpt(guest.device, ioas, flags))
    guest.device.attach(nested)
    seen, turns = set[object](), cycle(places)

    def send() -> None:
        found = device.dma_read(IOVA, 3)
        seen.add("refused" if isinstance(found, Fault) else found)

    all_at_once(send, send, lambda: guest.device.replace(next(turns)))
    guest.device.replace(places[1])
    assert device.dma_read(IOVA, 3) == b"one"
    assert seen <= {b"one", b"two", b"gue", "refused"}
    assert {EventId(record.ID) for record in program.smmu.log} <= {EventId.C_BAD_STE}  # of V=0
