"""The host's side of a command queue: batches in, a SYNC after them, errors recovered from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import define, field

from viommu.turns import Turns
from viommu_smmuv3_cmdqv.host import commands
from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from viommu_smmuv3_cmdqv.host.memory import Memory
    from viommu_smmuv3_cmdqv.host.queue import HostRing
    from viommu_smmuv3_cmdqv.spec.commands import Command

ENTRY = 16
BATCH = 63
"""How many commands are given to hardware at once, the SYNC not counted."""
MOST_RECOVERIES = 1 << 10
"""More errors in one batch than this are hardware that does not go on; nobody waits for it for ever."""


class CommandQueueRegisters(Protocol):
    """The registers of one command queue, the SMMU's own or another."""

    def ring(self, pointer: int) -> None:
        """Tell hardware where the next command will go."""

    def consumed(self) -> tuple[int, CommandError]:
        """Say which command is next, and why hardware stopped there (it counts while an error is active)."""

    def has_error(self) -> bool:
        """Whether hardware stopped, and nobody has acknowledged that."""

    def acknowledge(self) -> None:
        """Let hardware go on."""


@define(eq=False)
class CommandQueue:
    """Submits commands, and waits for them.

    ``sync`` is the command that ends a batch. ``turns`` is who may submit: interrupts come in the middle of things,
    and must not wait.
    """

    registers: CommandQueueRegisters
    memory: Memory
    ring: HostRing
    sync: Command = field(factory=commands.sync)
    turns: Turns = field(factory=Turns)
    _prod: int = 0
    errors: dict[CommandError, int] = field(factory=dict)
    """How often hardware stopped, and why; a kernel prints it."""

    def submit(self, wanted: Iterable[Command]) -> None:
        """Have commands executed, in batches, each with a SYNC. Not from an interrupt handler: see `leave`."""
        self.submit_raw([command.encode() for command in wanted])

    def submit_raw(self, wanted: Sequence[bytes]) -> None:
        """Do as `submit`, of commands as bytes."""
        if wanted:
            self.turns.take(lambda: self._submit_all(wanted))

    def synchronize(self) -> None:
        """Wait for all that was submitted."""
        self.turns.take(lambda: self._submit_batch([], sync=True))

    def leave(self, make: Callable[[], Command]) -> None:
        """Have one command executed soon, without a SYNC: what an interrupt handler may do."""
        self.turns.leave(lambda: self._submit_batch([make().encode()], sync=False))

    def recover(self) -> None:
        """Look after an error, as the interrupt of one wants it; who submits looks for himself."""
        self.turns.leave(self._recover_all)

    def _submit_all(self, wanted: Sequence[bytes]) -> None:
        for start in range(0, len(wanted), BATCH):
            self._submit_batch(wanted[start : start + BATCH], sync=True)

    def _submit_batch(self, wanted: Sequence[bytes], *, sync: bool) -> None:
        self._write([*wanted, self.sync.encode()] if sync else wanted)
        self.registers.ring(self._prod)
        self._recover_all()

    def _write(self, entries: Sequence[bytes]) -> None:
        data = b"".join(entries)
        start = self.ring.address(self._prod)
        room = min(self.ring.base + self.ring.entries * ENTRY - start, len(data))
        self.memory.write(start, data[:room])
        if room < len(data):
            self.memory.write(self.ring.base, data[room:])
        self._prod = self.ring.after(self._prod, len(entries))

    def _recover_all(self) -> None:
        for _ in range(MOST_RECOVERIES):
            if not self.registers.has_error():
                return
            self._recover()

    def _recover(self) -> None:
        """Put a SYNC in the place of a command that hardware refuses; what else went wrong is tried again."""
        pointer, error = self.registers.consumed()
        self.errors[error] = self.errors.get(error, 0) + 1
        if error not in (CommandError.CERROR_ABT, CommandError.CERROR_ATC_INV_SYNC):
            self.memory.write(self.ring.address(pointer), self.sync.encode())
        self.registers.acknowledge()
