"""The command queue: fetched in runs, decoded as columns, executed in order (IHI 0070, 3.5 and 7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from viommu.rings import read_entries
from viommu_smmuv3_cmdqv.hardware.command_rules import legal
from viommu_smmuv3_cmdqv.hardware.operations import OPERATIONS
from viommu_smmuv3_cmdqv.hardware.ring import POINTER, command_ring
from viommu_smmuv3_cmdqv.hardware.signals import GlobalError
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode
from viommu_smmuv3_cmdqv.spec.queue_registers import CMDQ_CONS, CommandError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit
    from viommu_smmuv3_cmdqv.hardware.operations import Row
    from viommu_smmuv3_cmdqv.hardware.signals import Signals
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon

KNOWN = {int(opcode): opcode for opcode in CommandOpcode}


@define(eq=False)
class CommandQueue:
    """Consumes commands while it is enabled and no error waits to be acknowledged."""

    chip: Silicon
    signals: Signals
    unit: CommandUnit
    _draining: bool = field(default=False, init=False)
    _disturbed: bool = field(default=False, init=False)
    """Software was called (an interrupt) and wrote registers: what was fetched may be out of date."""

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
            while self._is_ready():
                self._disturbed = False
                before = stopped_at
                stopped_at = self._serve()
                if stopped_at is not None and stopped_at == before:
                    return
        finally:
            self._draining = False

    def _is_ready(self) -> bool:
        registers, ring = self.chip.registers, command_ring(self.chip)
        enabled = self.chip.features.cr0.CMDQEN and not self.signals.is_active(GlobalError.CMDQ)
        return bool(enabled and ring.waiting(registers["CMDQ_PROD"] & POINTER, self._consumer()))

    def _consumer(self) -> int:
        return self.chip.registers["CMDQ_CONS"] & POINTER

    def _serve(self) -> int | None:
        """Execute one run of commands; gives where it stopped on an error."""
        ring, cons = command_ring(self.chip), self._consumer()
        count = ring.waiting(self.chip.registers["CMDQ_PROD"] & POINTER, cons)
        entries = read_entries(self.chip.memory, ring.base, ring.entries, ring.entry_size, ring.index(cons), count)
        steps = decode_run(entries, self.chip.features)
        error = None if len(entries) else CommandError.CERROR_ABT
        done = 0
        for opcode, row in steps:
            self._set_consumer(ring.after(cons, done + 1))
            error = OPERATIONS[opcode].act(self.unit, *row)
            if error is not None:
                break
            done += 1
            if self._disturbed:
                break
        else:
            if done < len(entries):
                error = CommandError.CERROR_ILL
        self._tell(steps[:done], error)
        if error is None:
            return None
        self._stop(ring.after(cons, done), error)
        return ring.after(cons, done)

    def _set_consumer(self, pointer: int) -> None:
        registers = self.chip.registers
        registers["CMDQ_CONS"] = registers["CMDQ_CONS"] & ~POINTER | pointer

    def _stop(self, pointer: int, error: CommandError) -> None:
        self.chip.registers["CMDQ_CONS"] = int(CMDQ_CONS(RD=pointer, ERR=error))
        self.signals.raise_error(GlobalError.CMDQ)

    def _tell(self, done: list[tuple[CommandOpcode, Row]], error: CommandError | None) -> None:
        kinds: dict[str, int] = {}
        for opcode, _ in done:
            kinds[opcode.name] = kinds.get(opcode.name, 0) + 1
        facts = {"count": len(done), "kinds": kinds, "error": None if error is None else error.name}
        self.chip.platform.observe("smmuv3.commands", facts)


def decode_run(entries: NDArray[np.uint8], features: Features) -> list[tuple[CommandOpcode, Row]]:
    """Decode a run up to its first illegal command: opcode and arguments of each."""
    opcodes = entries[:, 0]
    steps: list[tuple[CommandOpcode, Row] | None] = [None] * len(entries)
    for number in np.unique(opcodes).tolist():
        opcode = KNOWN.get(number)
        if opcode is None or opcode not in OPERATIONS:
            continue
        where = np.flatnonzero(opcodes == number)
        columns = COMMANDS[opcode].columns(entries[where])
        rows = OPERATIONS[opcode].rows(columns, features)
        for at, allowed, row in zip(where.tolist(), legal(opcode, columns, features).tolist(), rows, strict=True):
            steps[at] = (opcode, row) if allowed else None
    return _before_the_first_gap(steps)


def _before_the_first_gap(steps: list[tuple[CommandOpcode, Row] | None]) -> list[tuple[CommandOpcode, Row]]:
    found: list[tuple[CommandOpcode, Row]] = []
    for step in steps:
        if step is None:
            break
        found.append(step)
    return found
