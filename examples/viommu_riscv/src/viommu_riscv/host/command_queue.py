"""The host's side of the command queue: commands in, a fence after them, errors recovered from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field
from viommu.turns import Turns

from viommu_riscv.host import requests
from viommu_riscv.spec.commands import Command
from viommu_riscv.spec.registers import Cqcsr, QueueBase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu.memory import PhysicalMemory

    from viommu_riscv.host.registers import HostRegisters

ENTRIES_LG2 = 8
ENTRIES = 1 << ENTRIES_LG2
MOST_AT_ONCE = ENTRIES - 2
"""Commands of one batch: a place is for the fence, and one keeps a full queue from looking empty."""
WORD = (1 << 32) - 1


@define(eq=False, repr=False)
class HostCommands:
    """Submits batches, each followed by a fence, and looks whether that has stored."""

    registers: HostRegisters
    memory: PhysicalMemory
    base: int
    status: int
    """Physical address of the 4 bytes that fences store to."""
    turns: Turns = field(factory=Turns)
    _tail: int = 0
    _fences: int = 0

    def enable(self) -> None:
        """Hand the queue to hardware, empty."""
        self.registers["CQB"] = int(QueueBase(PPN=self.base, LOG2SZ_1=ENTRIES_LG2 - 1))
        self.registers["CQT"] = self._tail = 0
        self.registers["CQCSR"] = int(Cqcsr(cqen=1))

    def submit(self, commands: Sequence[Command]) -> bool:
        """Have commands executed; False where a device did not answer. Not from an interrupt handler: see `leave`."""
        return self.turns.take(lambda: self._submit_all(commands))

    def leave(self, make: Callable[[], Sequence[Command]]) -> None:
        """Have commands executed soon, as an interrupt handler must."""
        self.turns.leave(lambda: self._submit_all(make()))

    def _submit_all(self, commands: Sequence[Command]) -> bool:
        answered = True
        for start in range(0, len(commands), MOST_AT_ONCE):
            answered &= self._submit_batch(commands[start : start + MOST_AT_ONCE])
        return answered

    def _submit_batch(self, commands: Sequence[Command]) -> bool:
        self._fences = self._fences + 1 & WORD
        last = requests.fence(self.status, self._fences)
        self._write(b"".join(command.encode() for command in (*commands, last)))
        self.registers["CQT"] = self._tail
        if self._is_done():
            return True
        control = self.registers.decoded("CQCSR", Cqcsr)
        if not control.cmd_to:
            raise AssertionError(f"the command queue stands at {self.registers['CQH']}: {control!r}")
        # The fence told of the device, and completes once that is acknowledged.
        self.registers["CQCSR"] = int(Cqcsr(cqen=1, cmd_to=1))
        return False

    def _is_done(self) -> bool:
        return self.memory.read(self.status, 4) == self._fences.to_bytes(4, "little")

    def _write(self, data: bytes) -> None:
        size = ENTRIES * Command.size
        at = self._tail * Command.size
        room = min(size - at, len(data))
        self.memory.write(self.base + at, data[:room])
        self.memory.write(self.base, data[room:])
        self._tail = (self._tail + len(data) // Command.size) % ENTRIES
