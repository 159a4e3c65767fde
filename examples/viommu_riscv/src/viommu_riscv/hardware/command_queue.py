"""The command queue: what is described runs in the engine, the rest one by one."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field
from viommu.commands import Executor

from viommu_riscv.hardware.commands import MEMORY_FAULT, Commands, Halt
from viommu_riscv.hardware.queues import Ring
from viommu_riscv.hardware.words import swapped_words
from viommu_riscv.spec.command_meanings import NAMES, CommandAbilities, meanings
from viommu_riscv.spec.commands import Command
from viommu_riscv.spec.registers import Cqcsr

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile

    from viommu_riscv.hardware.settings import Settings

ERRORS = Cqcsr.cqmf.mask | Cqcsr.cmd_to.mask | Cqcsr.cmd_ill.mask


@define(eq=False, repr=False)
class CommandQueue:
    """Executes what lies between head and tail while the queue is on and shows no error.

    A command that stops it stays at the head until software has cleared the error.
    """

    file: RegisterFile
    memory: PhysicalMemory
    platform: Platform
    others: Commands
    executor: Executor = field(init=False)
    _turn: Lock = field(factory=Lock)
    _place: Lock = field(factory=Lock)
    """Held while the head moves on: who starts the queue anew sets it after that."""
    _asked: bool = False
    _starts: int = 0
    _done: dict[str, int] = field(factory=dict)
    _described: CommandAbilities = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._described = self._able()
        self.executor = Executor(self.platform, meanings(self._described))

    @property
    def settings(self) -> Settings:
        """The registers that decide what commands mean."""
        return self.others.settings

    def change(self, settings: Settings) -> None:
        """Go by other settings from the next command on."""
        self.others.settings = settings

    def started(self) -> None:
        """Software switched it on: it is empty, whoever executes commands of it now stops."""
        with self._place:
            self._starts += 1
        self.others.unanswered = False

    def run(self) -> None:
        """Execute until it is empty or stops; where somebody is at it already, that one goes on."""
        self._asked = True
        while self._asked and self._turn.acquire(blocking=False):
            try:
                self._asked = False
                self._run_all()
            finally:
                self._turn.release()

    def _run_all(self) -> None:
        try:
            while self._run_once():
                pass
        finally:
            if self._done:
                done, self._done = self._done, {}
                self.platform.observe("riscv.commands", {"kinds": done, "head": self.file["CQH"]})

    def _run_once(self) -> bool:
        """Execute what is described, and the command after that; whether there may be more to do."""
        control, starts = self.file["CQCSR"], self._starts
        if not control & Cqcsr.cqon.mask or control & ERRORS:
            return False
        ring = Ring.of(self.file, "C", Command.size)
        if not ring.waiting:
            return False
        self._understand()
        if not self.settings.big_endian and not self._beyond(ring):
            count, kinds = self.executor.run_ring(ring.base, ring.entries_lg2, ring.head, ring.waiting)
            self._count(kinds)
            self._advance(ring, count, starts)
            if count == ring.waiting:
                return True
            ring = Ring.of(self.file, "C", Command.size)
        return self._execute(ring, starts)

    def _execute(self, ring: Ring, starts: int) -> bool:
        address = ring.address(ring.head)
        raw = None if self._beyond(ring) else self.memory.read(address, Command.size)
        halt = Halt(MEMORY_FAULT) if raw is None else self._one(raw)
        if self._starts != starts:
            return True
        if halt is None:
            self._advance(ring, 1, starts)
            return True
        self.file.change("CQCSR", sets=halt.error)
        return False

    def _one(self, raw: bytes) -> Halt | None:
        """Execute one command, as memory holds it."""
        if self.settings.big_endian:
            raw = swapped_words(raw)
            done, kinds = self.executor.run(raw)
            self._count(kinds)
            if done:
                return None
        halt = self.others.execute(raw)
        if halt is None:
            self._count({NAMES[int.from_bytes(raw[:2], "little") & 0x3FF]: 1})
        return halt

    def _advance(self, ring: Ring, count: int, starts: int) -> None:
        with self._place:
            if self._starts == starts:
                self.file["CQH"] = ring.after(ring.head, count)

    def _beyond(self, ring: Ring) -> bool:
        """Whether part of the queue lies where no memory can be."""
        return bool(ring.address((1 << ring.entries_lg2) - 1) >> self.settings.address_bits)

    def _count(self, kinds: dict[str, int]) -> None:
        for name, count in kinds.items():
            self._done[name] = self._done.get(name, 0) + count

    def _understand(self) -> None:
        able = self._able()
        if able != self._described:
            self._described = able
            self.executor.understand(meanings(able))

    def _able(self) -> CommandAbilities:
        settings = self.settings
        return CommandAbilities(
            ats=bool(settings.able.ATS),
            non_leaf=bool(settings.able.NL),
            ranges=bool(settings.able.S),
            device_last=settings.device_last,
            process_last=settings.process_last,
            # A big-endian completion is not what the engine stores, nor may it complete what a device left open.
            fences=not settings.big_endian and not self.others.unanswered,
        )
