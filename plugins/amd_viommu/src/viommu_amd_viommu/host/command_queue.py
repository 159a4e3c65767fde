"""The host's side of the command buffer: commands in, a completion wait after them, halts recovered from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.turns import Turns
from viommu_amd_viommu.host import requests
from viommu_amd_viommu.spec.registers import BufferBase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu.memory import PhysicalMemory
    from viommu_amd_viommu.host.registers import HostRegisters
    from viommu_amd_viommu.spec.commands import AnyCommand

ENTRY = 16
LENGTH_LG2 = 9
"""512 commands, as Linux has them."""
PAGES = (ENTRY << LENGTH_LG2) // 4096

MOST_AT_ONCE = (1 << LENGTH_LG2) - 2
"""Commands of one batch: a place is for the completion wait, and one keeps a full buffer from looking empty."""


@frozen
class Halt:
    """The command at ``index`` of a batch was refused, or never came to its end; those before it are done."""

    index: int


@define(eq=False, repr=False)
class CommandQueue:
    """Submits batches, each followed by a completion wait, and looks whether that has stored."""

    registers: HostRegisters
    memory: PhysicalMemory
    base: int
    semaphore: int
    """Physical address of the 8 bytes that completion waits store to."""
    turns: Turns = field(factory=Turns)
    _tail: int = 0
    _waits: int = 0

    def enable(self) -> None:
        """Hand the buffer to hardware, empty."""
        self.registers["CMDBASE"] = int(BufferBase(Base=self.base, Length=LENGTH_LG2))
        self._restart()

    def submit(self, commands: Sequence[AnyCommand | bytes]) -> Halt | None:
        """Have commands executed; None once all are done. Not from an interrupt handler: see `leave`."""
        return self.turns.take(lambda: self._submit_all(commands))

    def leave(self, make: Callable[[], Sequence[AnyCommand]]) -> None:
        """Have commands executed soon, as an interrupt handler must."""
        self.turns.leave(lambda: self._submit_all(make()))

    def _submit_all(self, commands: Sequence[AnyCommand | bytes]) -> Halt | None:
        raw = [command if isinstance(command, bytes) else command.encode() for command in commands]
        for start in range(0, len(raw), MOST_AT_ONCE):
            halt = self._submit_batch(raw[start : start + MOST_AT_ONCE])
            if halt is not None:
                return Halt(start + halt.index)
        return None

    def _submit_batch(self, raw: Sequence[bytes]) -> Halt | None:
        self._waits += 1
        first = self._tail
        wait = requests.completion_wait(self.semaphore, self._waits)
        self._write(b"".join([*raw, wait.encode()]))
        self.registers["CMDTAIL"] = self._tail
        if self.memory.read(self.semaphore, 8) == self._waits.to_bytes(8, "little"):
            return None
        done = (self.registers["CMDHEAD"] - first) % (ENTRY << LENGTH_LG2) // ENTRY
        self._restart()
        return Halt(done)

    def _write(self, data: bytes) -> None:
        size = ENTRY << LENGTH_LG2
        room = min(size - self._tail, len(data))
        self.memory.write(self.base + self._tail, data[:room])
        self.memory.write(self.base, data[room:])
        self._tail = (self._tail + len(data)) % size

    def _restart(self) -> None:
        """Begin anew with an empty buffer: what halted the old one is passed over."""
        self.registers.switch(CmdBufEn=0)
        self.registers["CMDHEAD"] = 0
        self.registers["CMDTAIL"] = 0
        self._tail = 0
        self.registers.switch(CmdBufEn=1)
