"""The command queue: described commands run in the engine, the others one by one, in order (IHI 0070, 3.5 and 7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.commands import Executor
from viommu_smmuv3_cmdqv.hardware.command_rules import abilities, legal, meanings
from viommu_smmuv3_cmdqv.hardware.operations import OPERATIONS
from viommu_smmuv3_cmdqv.hardware.ring import POINTER, command_ring
from viommu_smmuv3_cmdqv.hardware.signals import GlobalError
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode
from viommu_smmuv3_cmdqv.spec.queue_registers import CMDQ_CONS, CommandError

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit
    from viommu_smmuv3_cmdqv.hardware.ring import Ring
    from viommu_smmuv3_cmdqv.hardware.signals import Signals
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon

MOST_AT_ONCE = 4096
"""Commands that are told to observers as one batch at most."""
EXECUTED_HERE = {int(opcode): opcode for opcode in OPERATIONS}


@define(eq=False)
class CommandQueue:
    """Consumes commands while it is enabled and no error waits to be acknowledged."""

    chip: Silicon
    signals: Signals
    unit: CommandUnit
    executor: Executor = field(init=False)
    _draining: bool = field(default=False, init=False)
    _disturbed: bool = field(default=False, init=False)
    """Software was called (an interrupt) and wrote registers: what was known of the queue may be out of date."""

    def __attrs_post_init__(self) -> None:
        self.executor = Executor(self.chip.platform, meanings(abilities(self.chip.features)))

    def reconfigured(self) -> None:
        """Registers have changed, and with them perhaps what commands mean."""
        self.executor.understand(meanings(abilities(self.chip.features)))

    def drain(self) -> None:
        """Consume what there is. Called by software that a command called, it only has that look again.

        Software that acknowledges an error from its interrupt, without mending the command, waits for its next write.
        """
        self._disturbed = True
        if self._draining:
            return
        self._draining = True
        stopped_at: int | None = None
        try:
            while (ring := self._waiting()) is not None:
                self._disturbed = False
                before = stopped_at
                stopped_at = self._serve(ring)
                if stopped_at is not None and stopped_at == before:
                    return
        finally:
            self._draining = False

    def _waiting(self) -> Ring | None:
        """The queue, if anything in it may be executed."""
        if not self.chip.features.cr0.CMDQEN or self.signals.is_active(GlobalError.CMDQ):
            return None
        ring = command_ring(self.chip)
        return ring if ring.waiting(self._producer, self._consumer) else None

    @property
    def _producer(self) -> int:
        return self.chip.registers["CMDQ_PROD"] & POINTER

    @property
    def _consumer(self) -> int:
        return self.chip.registers["CMDQ_CONS"] & POINTER

    def _serve(self, ring: Ring) -> int | None:
        """Execute a batch of commands; gives where it stopped on an error."""
        cons = self._consumer
        count = min(ring.waiting(self._producer, cons), MOST_AT_ONCE)
        kinds: dict[str, int] = {}
        done = 0
        error: CommandError | None = None
        while done < count and error is None and not self._disturbed:
            ran, of_kinds = self.executor.run_ring(ring.base, ring.lg2, ring.index(cons + done), count - done)
            done += ran
            for name, number in of_kinds.items():
                kinds[name] = kinds.get(name, 0) + number
            self._set_consumer(ring.after(cons, min(done + 1, count)))
            if done < count:
                error = self._execute(ring.address(cons + done), kinds)
                done += error is None
        self._tell(done, kinds, error)
        if error is None:
            return None
        self._stop(ring.after(cons, done), error)
        return ring.after(cons, done)

    def _execute(self, address: int, kinds: dict[str, int]) -> CommandError | None:
        """Execute one command that has no neutral meaning."""
        raw = self.chip.memory.read(address, COMMANDS[CommandOpcode.SYNC].size)
        if raw is None:
            return CommandError.CERROR_ABT
        opcode = EXECUTED_HERE.get(raw[0])
        if opcode is None:
            return CommandError.CERROR_ILL
        command, operation = COMMANDS[opcode].decode(raw), OPERATIONS[opcode]
        if not legal(opcode, command, self.chip.features):
            return CommandError.CERROR_ILL
        error = operation.act(self.unit, *operation.arguments(command))
        if error is None:
            kinds[opcode.name] = kinds.get(opcode.name, 0) + 1
        return error

    def _set_consumer(self, pointer: int) -> None:
        registers = self.chip.registers
        registers["CMDQ_CONS"] = registers["CMDQ_CONS"] & ~POINTER | pointer

    def _stop(self, pointer: int, error: CommandError) -> None:
        self.chip.registers["CMDQ_CONS"] = int(CMDQ_CONS(RD=pointer, ERR=error))
        self.signals.raise_error(GlobalError.CMDQ)

    def _tell(self, count: int, kinds: dict[str, int], error: CommandError | None) -> None:
        facts = {"count": count, "kinds": kinds, "error": None if error is None else error.name}
        self.chip.platform.observe("smmuv3.commands", facts)
