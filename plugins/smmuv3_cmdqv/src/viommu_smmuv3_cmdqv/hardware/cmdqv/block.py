"""The register block of a CMDQV: which VCMDQ belongs to which VINTF, and where each is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.platform import Interrupt
from viommu_smmuv3_cmdqv.hardware.cmdqv.vcmdq import Vcmdq
from viommu_smmuv3_cmdqv.hardware.cmdqv.vintf import Vintf
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import (
    CMDQV_CMDQ_ALLOC,
    CMDQV_CONFIG,
    CMDQV_PARAM,
    CMDQV_STATUS,
    SID_MATCH,
    SID_REPLACE,
    VINTF_STATUS,
    VintfError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon

WORD = (1 << 32) - 1
WORD_BYTES, WORD_BITS = 4, 32
RESET = CMDQV_CONFIG(EN=1, PER_CMD_OFFSET=1, MAX_CLK_BATCH=8, MAX_CMD_BATCH=32)
SOURCE = "CMDQV"


@define(eq=False)
class Cmdqv:
    """A block whose PARAM says how much it has. One with a single VINTF is what a guest sees."""

    chip: Silicon
    param: CMDQV_PARAM
    queues: list[Vcmdq] = field(init=False, repr=False)
    vintfs: list[Vintf] = field(init=False, repr=False)
    _config: int = int(RESET)
    _mask: int = 0

    @classmethod
    def of(cls, chip: Silicon, param: CMDQV_PARAM, main: CommandUnit, make_unit: Callable[[], CommandUnit]) -> Cmdqv:
        """Make one. ``make_unit``: what executes the commands of one queue; ``main``: those of the SMMU's own."""
        made = cls(chip, param)
        vintfs, queues = 1 << param.NUM_VINTF_LOG2, 1 << param.NUM_VCMDQ_LOG2
        slots = 1 << param.NUM_SID_PER_VM_LOG2
        made.vintfs = [Vintf(slots, for_guests=vintfs == 1, block_enabled=True) for _ in range(vintfs)]
        made.queues = [Vcmdq(chip, make_unit(), main, made._failed) for _ in range(queues)]
        return made

    # Registers. All are words of 32 bits, but those of page 1.

    def read(self, offset: int, size: int) -> int:
        """Read; what is none reads as zero."""
        if not _is_access(offset, size):
            return 0
        low = self._read_word(offset)
        return low if size == WORD_BYTES else low | self._read_word(offset + WORD_BYTES) << WORD_BITS

    def write(self, offset: int, size: int, value: int) -> None:
        """Write; only page 1 takes 64 bits at once."""
        if not _is_access(offset, size):
            return
        found = self._queue(offset)
        if found is not None:
            queue, at, page = found
            if page:
                queue.write1(at, size, value)
            elif size == WORD_BYTES:
                queue.write0(at, value & WORD)
        elif offset < spec.DIRECT_PAGE0 and size == WORD_BYTES:
            self._write_config(offset, value & WORD)

    def _read_word(self, offset: int) -> int:
        found = self._queue(offset)
        if found is not None:
            queue, at, page = found
            return queue.read1(at) if page else queue.read0(at)
        return self._read_config(offset) if offset < spec.DIRECT_PAGE0 else 0

    def _queue(self, offset: int) -> tuple[Vcmdq, int, int] | None:
        """Find the queue that an offset is of, the place within its registers, and the page."""
        index, at = divmod(offset & spec.PAGE_BYTES - 1, spec.VCMDQ_STRIDE)
        if spec.DIRECT_PAGE0 <= offset < spec.VINTF_PAGE0:
            page = offset >= spec.DIRECT_PAGE1
            return (self.queues[index], at, page) if index < len(self.queues) else None
        if offset < spec.VINTF_PAGE0:
            return None
        number, within = divmod(offset - spec.VINTF_PAGE0, spec.VINTF_STRIDE)
        if number >= len(self.vintfs):
            return None
        queue = self.vintfs[number].queues.get(index)
        return None if queue is None else (queue, at, within >= spec.PAGE_BYTES)

    def _read_config(self, offset: int) -> int:
        if offset >= spec.VINTF_BANK:
            return self._read_bank(*divmod(offset - spec.VINTF_BANK, spec.VINTF_BANK_STRIDE))
        if offset >= spec.CMDQ_ALLOC:
            queue = _nth(self.queues, offset - spec.CMDQ_ALLOC)
            return 0 if queue is None else int(queue.alloc)
        if offset >= spec.CMDQ_ERR_MAP:
            return _word(self._queue_errors, offset - spec.CMDQ_ERR_MAP)
        if offset >= spec.VINTF_INT_MASK_AT:
            return _word(self._mask, offset - spec.VINTF_INT_MASK_AT)
        if offset >= spec.VINTF_ERR_MAP_AT:
            return _word(self._vintf_errors, offset - spec.VINTF_ERR_MAP_AT)
        plain = {
            spec.CONFIG_AT: self._config,
            spec.PARAM_AT: int(self.param),
            spec.STATUS_AT: int(CMDQV_STATUS(ENABLED=CMDQV_CONFIG.decode(self._config).EN)),
        }
        return plain.get(offset, 0)

    def _write_config(self, offset: int, value: int) -> None:
        if offset >= spec.VINTF_BANK:
            self._write_bank(*divmod(offset - spec.VINTF_BANK, spec.VINTF_BANK_STRIDE), value)
        elif offset >= spec.CMDQ_ALLOC:
            queue = _nth(self.queues, offset - spec.CMDQ_ALLOC)
            if queue is not None:
                self._allocate(queue, value)
        elif offset == spec.CONFIG_AT:
            self._configure(value)
        elif spec.VINTF_INT_MASK_AT <= offset < spec.VINTF_INT_MASK_AT + 2 * WORD_BYTES:
            shift = 8 * (offset - spec.VINTF_INT_MASK_AT)
            self._mask = self._mask & ~(WORD << shift) | value << shift

    def _read_bank(self, number: int, at: int) -> int:
        if number >= len(self.vintfs):
            return 0
        vintf = self.vintfs[number]
        if at >= spec.LVCMDQ_ERR_MAP_AT:
            return _word(vintf.errors, at - spec.LVCMDQ_ERR_MAP_AT)
        if at >= spec.SID_REPLACE_AT:
            return int(vintf.replace[(at - spec.SID_REPLACE_AT) // WORD_BYTES])
        if at >= spec.SID_MATCH_AT:
            return int(vintf.match[(at - spec.SID_MATCH_AT) // WORD_BYTES])
        if at == spec.VINTF_STATUS_AT:
            told = VintfError.VCMDQ if vintf.errors else VintfError.NONE
            return int(VINTF_STATUS(ENABLED=vintf.enabled, STATUS=told, NUM_LVCMDQ=len(vintf.queues)))
        return int(vintf.config) if at == spec.VINTF_CONFIG_AT else 0

    def _write_bank(self, number: int, at: int, value: int) -> None:
        if number >= len(self.vintfs):
            return
        vintf = self.vintfs[number]
        if spec.SID_REPLACE_AT <= at < spec.LVCMDQ_ERR_MAP_AT:
            slot = (at - spec.SID_REPLACE_AT) // WORD_BYTES
            vintf.replace[slot] = SID_REPLACE.decode(value & SID_REPLACE.PHYS_SID.mask)
        elif spec.SID_MATCH_AT <= at < spec.SID_REPLACE_AT:
            slot = (at - spec.SID_MATCH_AT) // WORD_BYTES
            vintf.match[slot] = SID_MATCH.decode(value & (SID_MATCH.EN.mask | SID_MATCH.VIRT_SID.mask))
        elif at == spec.VINTF_CONFIG_AT:
            vintf.configure(value)
            _drain(vintf.queues.values())

    # What registers set off.

    def _configure(self, value: int) -> None:
        self._config = value & (1 << CMDQV_CONFIG.CONS_DRAM_EN.high + 1) - 1
        config = CMDQV_CONFIG.decode(self._config)
        for vintf in self.vintfs:
            vintf.block_enabled = bool(config.EN)
        for queue in self.queues:
            queue.copies_index = bool(config.CONS_DRAM_EN)
        _drain(self.queues)

    def _allocate(self, queue: Vcmdq, value: int) -> None:
        """Assign a queue: the interface sees it from now on, and no other does."""
        if queue.vintf is not None and queue.vintf.queues.get(queue.alloc.LVCMDQ) is queue:
            del queue.vintf.queues[queue.alloc.LVCMDQ]
        names = ("ALLOC", "LVCMDQ", "VINTF")
        written = value & sum(CMDQV_CMDQ_ALLOC.fields[name].mask for name in names)
        alloc = CMDQV_CMDQ_ALLOC.decode(written)
        queue.assign(alloc, self.vintfs[alloc.VINTF] if len(self.vintfs) > alloc.VINTF else None)
        if queue.vintf is not None and queue.alloc.ALLOC:
            queue.vintf.queues[queue.alloc.LVCMDQ] = queue
        queue.drain()

    # Errors.

    @property
    def _queue_errors(self) -> int:
        return sum(1 << index for index, queue in enumerate(self.queues) if queue.told_error)

    @property
    def _vintf_errors(self) -> int:
        return sum(1 << number for number, vintf in enumerate(self.vintfs) if vintf.errors)

    def _failed(self, queue: Vcmdq) -> None:
        """Interrupt for each new error, unless the interface's interrupts are masked."""
        number = queue.alloc.VINTF
        self.chip.platform.observe("smmuv3.cmdqv.error", {"vintf": number, "lvcmdq": queue.alloc.LVCMDQ})
        if not self._mask >> number & 1:
            self.chip.platform.interrupt(Interrupt(SOURCE))


def _drain(queues: Iterable[Vcmdq]) -> None:
    for queue in tuple(queues):
        queue.drain()


def _nth(queues: list[Vcmdq], offset: int) -> Vcmdq | None:
    index = offset // WORD_BYTES
    return queues[index] if index < len(queues) and not offset % WORD_BYTES else None


def _word(bits: int, offset: int) -> int:
    return bits >> 8 * offset & WORD


def _is_access(offset: int, size: int) -> bool:
    return size in (4, 8) and not offset % size
