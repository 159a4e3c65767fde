"""Software that means harm: random registers, tables, commands and accesses against a live hardware model.

Run as a program: `python -m tests.fuzz.hardware_fuzz DRIVER [--seconds N] [--seed N]`. Everything follows from the
seed, which is printed; a world that fails is run again by giving its own seed with `--worlds 1`.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random
from typing import TYPE_CHECKING

from attrs import define, field

from viommu import Access, Iotlb, Machine, PhysicalMemory
from viommu.addresses import Iova, Pasid, RequesterId
from viommu.drivers import BoundDriver, bind
from viommu.errors import BadRegister
from viommu.platform import PageRequest
from viommu_amd_viommu.hardware.register_map import REGISTERS as AMD_REGISTERS
from viommu_smmuv3_cmdqv.hardware.register_rules import DECLARED
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP, declared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.registers import Register

RAM, PAGES = 0x10_0000, 32
WORLD_STEPS = 60
SLOWEST_STEP = 20.0
"""Seconds that no single step may take, on a machine that does other things too."""


def _smmuv3() -> tuple[Mapping[str, Register], dict[str, int]]:
    return DECLARED, {}  # without IDRs it is all that the model can be


def _amd() -> tuple[Mapping[str, Register], dict[str, int]]:
    return AMD_REGISTERS, {"EFR": 0x25_77EF_2225_4ADA, "EFR2": 0x3FF}


def _vtd() -> tuple[Mapping[str, Register], dict[str, int]]:
    return declared(FULL_CAP, FULL_ECAP), {"CAP": int(FULL_CAP), "ECAP": int(FULL_ECAP)}


MODELS: Mapping[str, Callable[[], tuple[Mapping[str, Register], dict[str, int]]]] = {
    "smmuv3_cmdqv": _smmuv3,
    "amd_viommu": _amd,
    "vtd": _vtd,
}
"""Driver -> its registers, and capabilities that leave nothing out: the more hardware can do, the more can go wrong."""


@define
class World:
    """One machine, one seed, some steps."""

    driver: BoundDriver
    seed: int
    rng: Random = field(init=False)
    machine: Machine = field(init=False)
    offsets: list[tuple[int, int]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rng = Random(self.seed)
        declared_registers, capable = MODELS[self.driver.info.name]()
        self.offsets = [(register.offset, register.size) for register in declared_registers.values()]
        memory = PhysicalMemory()
        memory.place(RAM, bytearray(PAGES * 0x1000))
        # Capabilities that nobody would build, now and then: any set of them is one that a register may hold.
        if capable and self.rng.random() < 0.3:
            capable = {name: value & self.rng.getrandbits(64) for name, value in capable.items()}
        self.machine = Machine(
            self.driver,
            memory,
            capable,
            iotlb=Iotlb(entries=64),
            walk_cache_entries=self.rng.choice([0, 16]),
            sanitize=self.rng.random() < 0.3,
        )

    def run(self) -> None:
        """Take the steps. Whatever is raised is a bug."""
        steps: list[Callable[[], object]] = [
            self.poke_register,
            self.poke_register,
            self.poke_register,
            self.read_register,
            self.fill_memory,
            self.fill_memory,
            self.send,
            self.send,
            self.send_many,
            self.use_device,
        ]
        for _ in range(WORLD_STEPS):
            began = time.monotonic()
            self.rng.choice(steps)()
            took = time.monotonic() - began
            assert took < SLOWEST_STEP, f"one step took {took:.1f} s"

    def word(self) -> int:
        """Anything, with a liking for pointers into memory and for few bits."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.45:
            return RAM + rng.randrange(PAGES) * 0x1000 | rng.choice([0, 1, 3, 7, 0xB, rng.getrandbits(12)])
        if kind < 0.6:
            return 1 << rng.randrange(64) | 1 << rng.randrange(64)
        if kind < 0.75:
            return rng.getrandbits(rng.choice([4, 8, 12, 20]))
        return rng.getrandbits(64)

    def poke_register(self) -> None:
        """Write a register, whole or half, sometimes where there is none."""
        offset, size = self.rng.choice(self.offsets)
        if self.rng.random() < 0.1:
            offset, size = self.rng.randrange(0x2_0000) & ~3, self.rng.choice([4, 8, 1, 16])
        self.machine.hardware.write(
            offset, size, self.word() & (1 << size * 8) - 1
        )  # of any size, which a machine refuses

    def read_register(self) -> None:
        """Read one: a number that fits."""
        offset, size = self.rng.choice(self.offsets)
        assert 0 <= self.machine.hardware.read(offset, size) < 1 << size * 8

    def fill_memory(self) -> None:
        """Write words somewhere, often at the start of a page, where tables and queues begin."""
        at = RAM + self.rng.randrange(PAGES) * 0x1000 + self.rng.choice([0, 0, self.rng.randrange(512) * 8])
        for index in range(self.rng.choice([1, 4, 16, 64])):
            self.machine.memory.store(at + index * 8, self.word())

    def requester(self) -> int:
        """A device; few of them, so that they are met again."""
        return self.rng.choice([0, 8, 0x80, 0x100, self.rng.getrandbits(16)])

    def pasid(self) -> int | None:
        """A PASID, or none."""
        return self.rng.choice([None, None, 0, 1, 7, self.rng.getrandbits(20)])

    def access(self) -> Access:
        """Some access that asks for something."""
        return Access(self.rng.randrange(1, 8) | self.rng.choice([0, 0, int(Access.PRIVILEGED)]))

    def send(self) -> None:
        """One access, by the caches, explained now and then."""
        requester, iova, access, pasid = self.requester(), self.word(), self.access(), self.pasid()
        self.machine.translate(requester, iova, access, pasid)
        if self.rng.random() < 0.1:
            str(self.machine.explain(requester, iova, access, pasid))

    def send_many(self) -> None:
        """A batch of one device's."""
        iovas = [self.word() for _ in range(16)]
        self.machine.translate_many(self.requester(), iovas, int(self.access()), self.pasid())

    def use_device(self) -> None:
        """ATS and page requests."""
        device = self.machine.device(self.requester(), tlb_entries=8)
        device.answers = self.rng.random() < 0.8
        device.translate(self.word(), self.access(), self.pasid())
        pasid = self.pasid()
        self.machine.request_page(
            PageRequest(
                RequesterId(device.requester),
                None if pasid is None else Pasid(pasid),
                Iova(self.word() & ~0xFFF),
                self.access(),
                self.rng.getrandbits(9),
                last=self.rng.random() < 0.5,
            )
        )


def campaign(driver: str, seed: int, *, seconds: float = float("inf"), worlds: int | None = None) -> int:
    """Run worlds until time or their number is up; gives how many ran. What a world raises names its seed."""
    until, ran = time.monotonic() + seconds, 0
    bound = bind(driver)
    while time.monotonic() < until and (worlds is None or ran < worlds):
        try:
            World(bound, seed + ran).run()
        except BadRegister:  # capabilities that the model says it cannot have
            pass
        except Exception as error:
            raise AssertionError(f"{driver}: the world of seed {seed + ran} failed") from error
        ran += 1
    return ran


def main() -> int:
    """Run one campaign from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz a live hardware model.")
    parser.add_argument("driver", choices=sorted(MODELS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worlds", type=int)
    asked = parser.parse_args()
    ran = campaign(asked.driver, asked.seed, seconds=asked.seconds, worlds=asked.worlds)
    sys.stdout.write(
        f"{asked.driver}: {ran} worlds of {WORLD_STEPS} steps, seeds {asked.seed} to {asked.seed + ran - 1}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
