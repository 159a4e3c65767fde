"""One history on machines of every vendor: what is mapped, unmapped, attached and replaced translates the same."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from attrs import define, field

from viommu import Iotlb, Machine
from viommu.faults import Access
from viommu.kernel_errors import KernelError
from viommu.policies import MAINLINE, Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas

ALL = ("vtd", "smmuv3_cmdqv", "amd_viommu")
POLICIES = {"amd_viommu": Policy(invalidate_by_viommu=True)}
"""Linux 7.2 attaches nothing but SVA domains to AMD's PASIDs; ahead of it, AMD's driver does as the others do."""
LONG_STEPS = int(os.environ.get("VIOMMU_LONG_STEPS", "1000000"))
RID, PASID = 0x0108, 5
BASE = 1 << 30
PAGE, LARGE = 0x1000, 1 << 21
SPAN_PAGES = 3 * LARGE // PAGE
"""Pages of the IOVAs that a history uses; memory has one large page more."""
LENGTHS = (1, 5, 17, 100, LARGE // PAGE)
ACCESSES = (Access.READ, Access.WRITE, Access.READ | Access.WRITE)
BATCH = 16
NOWHERE = -1

Answer: TypeAlias = "tuple[object, ...]"
Step: TypeAlias = "Callable[[Bench], Answer]"


@define(eq=False)
class Bench:
    """One vendor's machine: two address spaces, each with a page table, and a device."""

    machine: Machine
    device: Device
    spaces: list[Ioas]
    tables: list[Hwpt]
    memory: NDArray[np.uint8]
    base: int = field(init=False)
    """The physical address of the memory."""

    @classmethod
    def make(cls, driver: str) -> Bench:
        machine = Machine(driver, memory="32M", iotlb=Iotlb(), policy=POLICIES.get(driver, MAINLINE))
        iommu = machine.open_iommufd()
        device = iommu.bind(machine.add_device(RID, pasid_bits=16))
        spaces = [iommu.ioas_alloc() for _ in range(2)]
        tables = [ioas.hwpt_alloc(device, pasid=True) for ioas in spaces]
        return cls(machine, device, spaces, tables, machine.buffer(4 * LARGE))

    def __attrs_post_init__(self) -> None:
        """Find out where the memory is, by a mapping that goes again."""
        self.spaces[0].map(self.memory[:PAGE], BASE)
        self.device.attach(self.tables[0])
        self.base = int(self.machine.translate_many(RID, [BASE], [Access.READ]).pa[0])
        self.device.detach()
        self.spaces[0].unmap_all()

    def map(self, space: int, page: int, length: int, offset: int, *, write: bool) -> Answer:
        part = self.memory[offset * PAGE : (offset + length) * PAGE]
        return self._told(lambda: self.spaces[space].map(part, BASE + page * PAGE, write=write))

    def unmap(self, space: int, page: int, length: int) -> Answer:
        return self._told(lambda: self.spaces[space].unmap(BASE + page * PAGE, length * PAGE))

    def govern(self, pasid: int | None, space: int | None, *, replace: bool) -> Answer:
        """Attach, replace or (no space) detach."""
        number = pasid or 0
        if space is None:
            return self._told(lambda: self.device.detach(pasid=number))
        act = self.device.replace if replace else self.device.attach
        return self._told(lambda: bool(act(self.tables[space], pasid=number)))

    def access(self, pasid: int | None, pages: list[int], accesses: list[Access]) -> Answer:
        """Where accesses end, as offsets into the memory; `NOWHERE` for those that are refused."""
        iovas = BASE + np.array(pages, np.uint64) * PAGE
        found = self.machine.translate_many(RID, iovas, [int(one) for one in accesses], pasid)
        return tuple(np.where(found.kind == 0, found.pa.astype(np.int64) - self.base, NOWHERE).tolist())

    @staticmethod
    def _told(act: Callable[[], object]) -> Answer:
        try:
            return ("done", act())
        except KernelError as error:
            return ("refused", error.errno)


def step(chance: random.Random, pasids: tuple[int | None, ...]) -> Step:
    """Choose what happens next, the same on every machine."""
    kind, space = chance.randrange(20), chance.randrange(2)
    page, length = chance.randrange(SPAN_PAGES), chance.choice(LENGTHS)
    pasid = chance.choice(pasids)
    if length >= LARGE // PAGE:
        page -= page % length
    if kind < 6:
        offset, write = chance.choice([page, chance.randrange(3 * LARGE // PAGE)]), chance.random() < 0.7
        return lambda bench: bench.map(space, page, length, offset, write=write)
    if kind < 8:
        return lambda bench: bench.unmap(space, page, length * 8)  # whole areas alone go
    if kind < 10:
        target, replace = chance.choice([None, 0, 0, 1, 1, 1]), chance.random() < 0.8
        return lambda bench: bench.govern(pasid, target, replace=replace)
    pages = [chance.randrange(SPAN_PAGES) for _ in range(BATCH)]
    accesses = [chance.choice(ACCESSES) for _ in pages]
    return lambda bench: bench.access(pasid, pages, accesses)


def compare(seed: int, steps: int, pasids: tuple[int | None, ...]) -> int:
    """Run one history; how many accesses went through."""
    chance = random.Random(seed)
    benches = {driver: Bench.make(driver) for driver in ALL}
    through = 0
    for number in range(steps):
        act = step(chance, pasids)
        answers = {driver: act(bench) for driver, bench in benches.items()}
        assert len(set(answers.values())) == 1, (seed, number, answers)
        if len(answers[ALL[0]]) == BATCH:
            through += sum(one != NOWHERE for one in answers[ALL[0]])
    return through


@pytest.mark.parametrize("pasids", [(None,), (None, PASID)], ids=["RID", "with PASIDs"])
@pytest.mark.parametrize("seed", [1, 3])
def test_a_short_history_translates_the_same_on_every_vendor(seed: int, pasids: tuple[int | None, ...]) -> None:
    assert compare(seed, 400, pasids) > 100


@pytest.mark.long
@pytest.mark.parametrize("pasids", [(None,), (None, PASID)], ids=["RID", "with PASIDs"])
def test_a_long_history_translates_the_same_on_every_vendor(pasids: tuple[int | None, ...]) -> None:
    for start in range(0, LONG_STEPS, 10000):
        compare(1000 + start, min(10000, LONG_STEPS - start), pasids)
