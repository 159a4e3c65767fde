"""One VCMDQ: a command queue whose consumer runs in the engine."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.commands import Executor
from viommu_smmuv3_cmdqv.hardware.cmdqv import guest_commands
from viommu_smmuv3_cmdqv.hardware.command_queue import EXECUTED_HERE
from viommu_smmuv3_cmdqv.hardware.command_rules import abilities, legal, meanings
from viommu_smmuv3_cmdqv.hardware.operations import OPERATIONS
from viommu_smmuv3_cmdqv.hardware.ring import POINTER, Ring
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import (
    BASE_AT,
    CMDQV_CMDQ_ALLOC,
    CONS_AT,
    CONS_BASE_AT,
    GERROR_AT,
    GERRORN_AT,
    PROD_AT,
    VCMDQ_BASE,
    VCMDQ_CONFIG,
    VCMDQ_CONFIG_AT,
    VCMDQ_CONS_INDX,
    VCMDQ_CONS_INDX_BASE,
    VCMDQ_GERROR,
    VCMDQ_STATUS,
    VCMDQ_STATUS_AT,
    VcmdqError,
)
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, SYNC, Command, CommandOpcode

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.commands import Meanings
    from viommu_smmuv3_cmdqv.hardware.cmdqv.vintf import Vintf
    from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon

MOST_AT_ONCE = 4096
"""Commands that are told to observers as one batch at most."""
WORD = (1 << 32) - 1
GERROR_BITS = int(VCMDQ_GERROR(CMDQ_ERR=1, CONS_DRAM_WR_ABT_ERR=1, CMDQ_INIT_ERR=1))
COMMAND_ERROR = int(VCMDQ_GERROR(CMDQ_ERR=1))
COPY_ERROR = int(VCMDQ_GERROR(CONS_DRAM_WR_ABT_ERR=1))
INIT_ERROR = int(VCMDQ_GERROR(CMDQ_INIT_ERR=1))
ERROR_SHIFT = VCMDQ_CONS_INDX.ERR.low
PLAIN_SYNC = SYNC(Opcode=CommandOpcode.SYNC).encode()
"""The one that Linux sends: nobody is told."""


@define(eq=False)
class Vcmdq:
    """A queue. ``vintf``: the interface that it is assigned to. ``tell``: is called for each new error.

    ``main`` executes the commands of the SMMU's own queue: a SYNC there tells what devices left unanswered here.

    ``copies_index``: CONS_INDX goes to memory too.
    """

    chip: Silicon = field(repr=False)
    unit: CommandUnit = field(repr=False)
    main: CommandUnit = field(repr=False)
    tell: Callable[[Vcmdq], None] = field(repr=False)
    alloc: CMDQV_CMDQ_ALLOC = field(factory=CMDQV_CMDQ_ALLOC)
    vintf: Vintf | None = field(default=None, repr=False)
    copies_index: bool = False
    told_error: bool = False
    """It has its bit in the error maps."""
    _is_allocated: bool = False
    _cons: int = 0
    _error: VcmdqError = VcmdqError.CERROR_NONE
    _prod: int = 0
    _config: int = 0
    _gerror: int = 0
    _gerrorn: int = 0
    _base: int = 0
    _cons_base: int = 0
    _executor: Executor | None = None
    _known: tuple[object, object] = (None, None)
    """The registers that the executor was made for."""
    _ring: Ring | None = None
    _lock: RLock = field(factory=RLock)
    """Held while commands are consumed: once a store that switches the queue off returns, no memory of it is read."""
    _draining: bool = False
    _disturbed: bool = False

    def assign(self, alloc: CMDQV_CMDQ_ALLOC, vintf: Vintf | None) -> None:
        """Take note of whose it is."""
        self.alloc, self.vintf, self._is_allocated = alloc, vintf, bool(alloc.ALLOC)

    # Registers.

    @property
    def runs(self) -> bool:
        """EN_OK: it is switched on, and everything around it as well."""
        return bool(self._config and self._is_enabled_around and not self._is_active(INIT_ERROR))

    def read0(self, offset: int) -> int:
        """Read a register of page 0."""
        if offset == CONS_AT:
            return self._cons | self._error << ERROR_SHIFT
        if offset == VCMDQ_STATUS_AT:
            return int(VCMDQ_STATUS(EN_OK=self.runs))
        plain = {PROD_AT: self._prod, VCMDQ_CONFIG_AT: self._config, GERROR_AT: self._gerror, GERRORN_AT: self._gerrorn}
        return plain.get(offset, 0)

    def write0(self, offset: int, value: int) -> None:
        """Write a register of page 0."""
        with self._lock:
            self._write0(offset, value)

    def _write0(self, offset: int, value: int) -> None:
        self._disturbed = self._disturbed or offset != PROD_AT
        if offset == PROD_AT:
            self._prod = value & POINTER
        elif offset == CONS_AT and not self._config:
            self._cons, self._error = value & POINTER, VcmdqError(0)
        elif offset == VCMDQ_CONFIG_AT:
            self._configure(value)
        elif offset == GERRORN_AT:
            self._acknowledge(value)
        self.drain()

    def read1(self, offset: int) -> int:
        """Read half of a register of page 1."""
        return self._wide(offset & ~4) >> 8 * (offset & 4) & WORD

    def write1(self, offset: int, size: int, value: int) -> None:
        """Write a register of page 1, or half of it; none while the queue is switched on."""
        if self._config:
            return
        place, shift = offset & ~4, 8 * (offset & 4)
        covered = (1 << 8 * size) - 1 << shift
        after = self._wide(place) & ~covered | value << shift & covered
        if place == BASE_AT:
            self._base = after & int(VCMDQ_BASE(LOG2SIZE=31, ADDR=VCMDQ_BASE.ADDR.maximum))
            self._ring = None
        elif place == CONS_BASE_AT:
            self._cons_base = after & VCMDQ_CONS_INDX_BASE.ADDR.mask

    def _wide(self, place: int) -> int:
        return {BASE_AT: self._base, CONS_BASE_AT: self._cons_base}.get(place, 0)

    def _configure(self, value: int) -> None:
        was, self._config = self._config, value & int(VCMDQ_CONFIG(EN=1))
        if was and not self._config:
            self.main.inherit(self.unit)
        if self._config and not was and VCMDQ_BASE.decode(self._base).LOG2SIZE > self.chip.features.idr1.CMDQS:
            self._raise(INIT_ERROR)

    def _acknowledge(self, value: int) -> None:
        self._gerrorn = value & GERROR_BITS
        if self._gerror == self._gerrorn:
            self.told_error = False

    @property
    def _is_enabled_around(self) -> bool:
        return self._is_allocated and self.vintf is not None and self.vintf.enabled

    def _is_active(self, error: int) -> bool:
        return bool((self._gerror ^ self._gerrorn) & error)

    def _raise(self, error: int) -> None:
        if not self._is_active(error):
            self._gerror ^= error
            self.told_error = True
            self.tell(self)

    # Consumption.

    def drain(self) -> None:
        """Consume what there is; who is called by a command that is under way leaves it to that.

        Software that acknowledges an error from its interrupt, without mending the command, waits for its next write.
        """
        with self._lock:
            if not self._draining:
                self._drain()

    def _drain(self) -> None:
        self._draining = True
        stopped_at: int | None = None
        try:
            while (ring := self._waiting()) is not None and self.vintf is not None:
                self._disturbed = False
                before = stopped_at
                stopped_at = self._serve(ring, self.vintf)
                self._copy_index()
                if stopped_at is not None and stopped_at == before:
                    return
        finally:
            self._draining = False

    def _waiting(self) -> Ring | None:
        """Give the ring, if anything in it may be executed."""
        if self._prod == self._cons or not self.runs or self._is_active(COMMAND_ERROR):
            return None
        if self._ring is None:
            self._ring = Ring.of(self._base, self.chip.features.idr1.CMDQS, Command.size)
        return self._ring if self._ring.waiting(self._prod, self._cons) else None

    def _serve(self, ring: Ring, vintf: Vintf) -> int | None:
        """Execute a batch of commands; gives where it stopped on an error."""
        executor = self._executor_for(vintf)
        cons, done = self._cons, 0
        count = min(ring.waiting(self._prod, cons), MOST_AT_ONCE)
        kinds: dict[str, int] = {}
        error: VcmdqError | None = None
        while done < count and error is None and not self._disturbed:
            ran, of_kinds = executor.run_ring(ring.base, ring.lg2, ring.index(cons + done), count - done)
            done += ran
            for name, number in of_kinds.items():
                kinds[name] = kinds.get(name, 0) + number
            self._cons = ring.after(cons, min(done + 1, count))
            if done < count:
                error = self._execute(ring.address(cons + done), vintf, kinds)
                done += error is None
        facts = {
            "vintf": self.alloc.VINTF,
            "guest": self.alloc.VINTF or None,
            "count": done,
            "kinds": kinds,
            "error": None if error is None else error.name,
        }
        self.chip.platform.observe("smmuv3.cmdqv.commands", facts)
        if error is None:
            return None
        stopped_at = self._cons = ring.after(cons, done)
        self._error = error
        self._raise(COMMAND_ERROR)
        return stopped_at

    def _execute(self, address: int, vintf: Vintf, kinds: dict[str, int]) -> VcmdqError | None:
        raw = self.chip.memory.read(address, Command.size)
        if raw is None:
            return VcmdqError.CERROR_ABT
        if raw == PLAIN_SYNC and self.unit.all_answered:
            kinds["SYNC"] = kinds.get("SYNC", 0) + 1
            return None
        if vintf.is_hypervisors:
            error = self._execute_any(raw)
        else:
            error = guest_commands.execute(raw, self.unit, self.chip.features, vintf.stream_of)
        if error is None:
            name = EXECUTED_HERE[raw[0]].name
            kinds[name] = kinds.get(name, 0) + 1
        return error

    def _execute_any(self, raw: bytes) -> VcmdqError | None:
        opcode = EXECUTED_HERE.get(raw[0])
        if opcode is None:
            return VcmdqError.CERROR_ILL_OPCODE
        command, operation = COMMANDS[opcode].decode(raw), OPERATIONS[opcode]
        if not legal(opcode, command, self.chip.features):
            return VcmdqError.CERROR_ILL_OPCODE
        error = operation.act(self.unit, *operation.arguments(command))
        return None if error is None else VcmdqError(error)

    def _executor_for(self, vintf: Vintf) -> Executor:
        """Give what executes commands, as the registers have it now."""
        state = (self.chip.features, vintf.config)
        if self._executor is None:
            self._executor = Executor(self.chip.platform, self._meanings(vintf))
        elif state[0] is not self._known[0] or state[1] is not self._known[1]:
            self._executor.understand(self._meanings(vintf))
        self._known = state
        return self._executor

    def _meanings(self, vintf: Vintf) -> Meanings:
        able = abilities(self.chip.features)
        return meanings(able) if vintf.is_hypervisors else guest_commands.guest_meanings(able, vintf.config.VMID)

    def _copy_index(self) -> None:
        if self.copies_index and self._cons_base:
            index = self.read0(CONS_AT).to_bytes(4, "little")
            if not self.chip.memory.write(self._cons_base, index):
                self._raise(COPY_ERROR)
