"""Threads that program and use one machine at the same time: a VMM's, beside the devices' DMA."""

from __future__ import annotations

import faulthandler
import random
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import define, field

from viommu import Iotlb, Machine
from viommu.faults import Access
from viommu.kernel_errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas

DRIVERS = ("vtd", "smmuv3_cmdqv", "amd_viommu")
RIDS = (0x0108, 0x0110)
BASE, PAGE, LARGE = 1 << 30, 0x1000, 2 << 20
PLACES, ROWS = 64, 64
STUCK_AFTER = 240
"""Seconds until a deadlock is told with the stacks of all threads."""


@define(eq=False)
class World:
    """Two address spaces with two tables each, two devices, and memory that all map."""

    machine: Machine
    devices: list[Device]
    spaces: list[Ioas]
    tables: list[Hwpt]
    memory: NDArray[np.uint8]
    wrong: list[BaseException] = field(factory=list)
    done: dict[str, int] = field(factory=dict)

    @classmethod
    def make(cls, driver: str) -> World:
        machine = Machine(driver, memory="32M", iotlb=Iotlb(entries=64))
        iommu = machine.open_iommufd()
        devices = [iommu.bind(machine.add_device(rid)) for rid in RIDS]
        spaces = [iommu.ioas_alloc() for _ in range(2)]
        tables = [ioas.hwpt_alloc(devices[0]) for ioas in spaces * 2]
        return cls(machine, devices, spaces, tables, machine.buffer(2 * LARGE))

    def map(self, chance: random.Random) -> None:
        first, pages = chance.randrange(PLACES), chance.choice((1, 3, 512))
        part = self.memory[first * PAGE : (first + pages) * PAGE]
        chance.choice(self.spaces).map(part, BASE + first * PAGE, write=chance.random() < 0.8)

    def unmap(self, chance: random.Random) -> None:
        chance.choice(self.spaces).unmap(BASE, chance.choice((1, 8, 600)) * PAGE)

    def copy(self, chance: random.Random) -> None:
        source, target = chance.sample(self.spaces, 2)
        iova = BASE + chance.randrange(PLACES) * PAGE
        target.copy(source, iova, PAGE, iova)

    def govern(self, chance: random.Random) -> None:
        device = chance.choice(self.devices)
        act = chance.choice((device.attach, device.replace, lambda _: device.detach()))
        act(chance.choice(self.tables))

    def access(self, chance: random.Random) -> None:
        """Where DMA goes through, it goes to the page that is meant, whoever unmaps it a moment later."""
        pages = np.array([chance.randrange(PLACES + 8) for _ in range(ROWS)], np.uint64)
        kinds = [chance.choice((Access.READ, Access.WRITE)) for _ in pages]
        found = self.machine.translate_many(chance.choice(RIDS), BASE + pages * np.uint64(PAGE), kinds)
        through = found.kind == 0
        offsets = found.pa[through] - pages[through] * np.uint64(PAGE)
        assert len(np.unique(offsets)) <= 1, offsets

    def write(self, chance: random.Random) -> None:
        self.machine.dma_write(chance.choice(RIDS), BASE + chance.randrange(PLACES) * PAGE, b"x" * 16)


def repeat(world: World, name: str, until: float, seed: int) -> None:
    chance = random.Random(seed)
    act: Callable[[random.Random], None] = getattr(world, name)
    try:
        while time.monotonic() < until:
            world.done[name] = world.done.get(name, 0) + 1
            try:
                act(chance)
            except KernelError:
                continue
    except BaseException as error:  # noqa: BLE001 - it is told by the test's own thread
        world.wrong.append(error)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "seconds", [pytest.param(1.5, id="a moment"), pytest.param(60, id="a minute", marks=pytest.mark.long)]
)
def test_threads_that_map_attach_and_access_break_nothing(driver: str, seconds: float) -> None:
    world = World.make(driver)
    names = ("map", "map", "unmap", "copy", "govern", "access", "access", "write")
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=repeat, args=(world, name, until, seed), name=name) for seed, name in enumerate(names)
    ]
    faulthandler.dump_traceback_later(seconds + STUCK_AFTER, exit=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    faulthandler.cancel_dump_traceback_later()
    assert not world.wrong
    assert all(world.done.get(name, 0) > 1 for name in names)
    for space in world.spaces:
        space.unmap_all()
    for rid in RIDS:
        found = world.machine.translate_many(
            rid, [BASE + page * PAGE for page in range(PLACES)], [Access.READ] * PLACES
        )
        assert found.fault_count == PLACES
    world.machine.close()
