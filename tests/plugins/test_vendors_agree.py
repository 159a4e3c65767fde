"""One history on machines of every vendor: what is mapped, unmapped, attached and replaced translates the same.

A plain array of pages for each address space says what that has to be.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from attrs import define, field

from tests.plugins.plain_spaces import BASE, LARGE, LENGTHS, NOWHERE, PAGE, SPAN_PAGES, Accesses, Plain
from viommu import Iotlb, Machine
from viommu._engine import NO_PASID
from viommu.faults import Access
from viommu.kernel_errors import KernelError
from viommu.policies import MAINLINE, Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.plugins.plain_spaces import Answer
    from viommu._engine import Batch
    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas
    from viommu.translation import Translations

ALL = ("vtd", "smmuv3_cmdqv", "amd_viommu")
POLICIES = {"amd_viommu": Policy(invalidate_by_viommu=True)}
"""Linux 7.2 attaches nothing but SVA domains to AMD's PASIDs; ahead of it, AMD's driver does as the others do."""
LONG_STEPS = int(os.environ.get("VIOMMU_LONG_STEPS", "1000000"))
LONGEST = 10000
"""Steps of one history."""
RID, PASID = 0x0108, 5
ACCESSES = [int(access) for access in (Access.READ, Access.WRITE, Access.READ | Access.WRITE)]
BATCH = 16

Step: TypeAlias = "Callable[[Bench | Plain], Answer]"


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

    def access(self, pasid: int | None, asked: Accesses) -> Answer:
        """Where accesses end, as offsets into the memory; `NOWHERE` for those that are refused."""
        iovas, rows = BASE + asked.pages * PAGE, len(asked.pages)
        found: Translations | Batch
        if asked.told:
            found = self.machine.translate_many(RID, iovas, asked.rights, pasid)
        else:
            pasids = np.full(rows, NO_PASID if pasid is None else pasid, np.uint32)
            found = self.machine.translator.translate_many(np.full(rows, RID, np.uint32), iovas, asked.rights, pasids)
        return tuple(np.where(found.kind == 0, found.pa.astype(np.int64) - self.base, NOWHERE).tolist())

    @staticmethod
    def _told(act: Callable[[], object]) -> Answer:
        try:
            return ("done", act())
        except KernelError as error:
            return ("refused", error.errno)


def step(chance: random.Random, pasids: tuple[int | None, ...], plain: Plain) -> Step:
    """Choose what happens next, the same on every machine. Most of what can be mapped is."""
    kind, space, length = chance.randrange(20), chance.randrange(2), chance.choice(LENGTHS)
    page, pasid = chance.randrange(SPAN_PAGES) // length * length, chance.choice(pasids)
    if kind < 7:
        if kind:  # else it may be taken
            page, length = plain.room(space, page, length)
        offset, write = chance.choice([page, chance.randrange(SPAN_PAGES)]), chance.random() < 0.8
        return lambda bench: bench.map(space, page, length, offset, write=write)
    if kind < 9:
        length = length if chance.random() < 0.1 else LENGTHS[0]  # else too little stays mapped
        return lambda bench: bench.unmap(space, page, length)
    if kind < 10:
        target, other = chance.choice([None, *[0, 1] * 8]), chance.random() < 0.1
        replace = ((pasid or 0) in plain.governs) != other
        return lambda bench: bench.govern(pasid, target, replace=replace)
    pages = np.array([chance.randrange(SPAN_PAGES) for _ in range(BATCH)], np.uint64)
    rights = np.array(chance.choices(ACCESSES, k=BATCH), np.uint8)
    asked = Accesses(pages, rights, told=not chance.randrange(10))
    return lambda bench: bench.access(pasid, asked)


def compare(seed: int, steps: int, pasids: tuple[int | None, ...]) -> int:
    """Run one history; how many accesses went through."""
    chance, plain = random.Random(seed), Plain()
    benches = {driver: Bench.make(driver) for driver in ALL}
    through = 0
    for number in range(steps):
        act = step(chance, pasids, plain)
        expected = act(plain)
        answers = {driver: act(bench) for driver, bench in benches.items()}
        assert set(answers.values()) == {expected}, (seed, number, expected, answers)
        if len(expected) == BATCH:
            through += sum(one != NOWHERE for one in expected)
    return through


@pytest.mark.parametrize("pasids", [(None,), (None, PASID)], ids=["RID", "with PASIDs"])
@pytest.mark.parametrize("seed", [1, 3])
def test_a_short_history_translates_the_same_on_every_vendor(seed: int, pasids: tuple[int | None, ...]) -> None:
    assert compare(seed, 400, pasids) > 100


@pytest.mark.long
def test_a_long_history_translates_the_same_on_every_vendor() -> None:
    for start in range(0, LONG_STEPS, LONGEST):
        compare(1000 + start, min(LONGEST, LONG_STEPS - start), (None, PASID))
