"""Just enough of a RISC-V IOMMU to find the tables of a device: device and process directories, causes, records.

Written from the RISC-V IOMMU specification ("Data Structures", "In-memory queues"), for tests only. It decides nothing
about page tables: those are walked by whichever walker is being judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from attrs import define, frozen

from .riscv import Riscv
from .stage import EXECUTE, PRIVILEGED, READ, WRITE, FaultClass, Kind, bits, swapped
from .walker import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from .memory import Memory

PPN = bits(43, 0)
NON_LEAF_RESERVED = bits(9, 1) | bits(63, 54)
PAGE_TABLE_LEVELS = {8: 3, 9: 4, 10: 5}
DEFAULT_PROCESS = 0


class Cause:
    """Fault causes of the device and process directories."""

    DISALLOWED_ALL = 256
    DDT_ACCESS = 257
    DDT_INVALID = 258
    DDT_MISCONFIGURED = 259
    DISALLOWED = 260
    PDT_ACCESS = 265
    PDT_INVALID = 266
    PDT_MISCONFIGURED = 267


class Outcome(Protocol):
    """What a walker gives: the engine's result or the oracle's."""

    @property
    def kind(self) -> int: ...
    @property
    def page_lg2(self) -> int: ...
    @property
    def attrs1(self) -> int: ...
    @property
    def attrs2(self) -> int: ...
    @property
    def pa(self) -> int: ...
    @property
    def ipa(self) -> int: ...
    @property
    def stage(self) -> int: ...
    @property
    def fault_class(self) -> int: ...
    @property
    def for_update(self) -> bool: ...


Walk: TypeAlias = "Callable[[Context, int, int], Outcome]"


class Refused(Exception):
    """The transaction ended before, or in, its first page table."""

    def __init__(self, cause: int, iotval2: int = 0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.iotval2 = iotval2


@define
class Capabilities:
    """The fields of the capabilities register that matter here."""

    value: int

    def has(self, bit: int) -> bool:
        """Whether one feature bit is set."""
        return bool(self.value >> bit & 1)

    @property
    def address_bits(self) -> int:
        """PAS: physical addresses are below two to this."""
        return self.value >> 32 & 63

    def first_stage(self, mode: int) -> bool:
        """Whether an iosatp mode is supported."""
        return mode == 0 or (mode in PAGE_TABLE_LEVELS and self.has(mode + 1))

    def second_stage(self, mode: int) -> bool:
        """Whether an iohgatp mode is supported."""
        return mode == 0 or (mode in PAGE_TABLE_LEVELS and self.has(mode + 9))

    def process_directory(self, mode: int) -> bool:
        """Whether a pdtp mode is supported."""
        return mode == 0 or (mode in {1, 2, 3} and self.has(mode + 37))


@frozen
class Setup:
    """Where a transaction is to be translated, and which guest pages are interrupt files (None: none)."""

    context: Context
    interrupt_files: tuple[int, int] | None

    def is_interrupt_file(self, gpa: int) -> bool:
        """Whether MSI tables, which no page-table format is, take over."""
        if self.interrupt_files is None:
            return False
        mask, pattern = self.interrupt_files
        return (gpa >> 12) & ~mask == pattern & ~mask


@define
class RiscvIommu:
    """Finds the context of a transaction in ``memory``; ``walk`` translates the addresses of process directories."""

    memory: Memory
    registers: dict[str, int]
    walk: Walk

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities register."""
        return Capabilities(self.registers["CAPABILITIES"])

    @property
    def big_endian(self) -> bool:
        """fctl.BE: byte order of device directory and second stage."""
        return bool(self.registers["FCTL"] & 1)

    def configure(self, device_id: int, process_id: int | None, access: int) -> Setup:
        """The process to translate an IOVA, up to its page tables; raises Refused."""
        ddtp = self.registers["DDTP"]
        mode = ddtp & 15
        if mode == 0:
            raise Refused(Cause.DISALLOWED_ALL)
        if mode == 1:
            return Setup(Context(), None)
        words = self._device_context((ddtp >> 10 & PPN) << 12, mode - 1, device_id)
        control, hgatp, fsc = words[0], words[1], words[3]
        has_directory = bool(control >> 5 & 1)
        if process_id is not None and not has_directory:
            raise Refused(Cause.DISALLOWED)
        second = self._second_stage(hgatp, control)
        interrupt_files = (words[5], words[6]) if len(words) == 8 and words[4] >> 60 else None

        first, supervisor_user_access = fsc, False
        if has_directory:
            if process_id is None and control >> 9 & 1:
                process_id = DEFAULT_PROCESS
            first = 0
            if process_id is not None and fsc >> 60 and process_id >> (0, 8, 17, 20)[fsc >> 60]:
                raise Refused(Cause.DISALLOWED)
            if process_id is not None and fsc >> 60:
                attributes, first = self._process_context(fsc, process_id, control, second, access)
                if access & PRIVILEGED and not attributes & 2:
                    raise Refused(Cause.DISALLOWED)
                supervisor_user_access = bool(attributes & 4)
        stage1 = self._first_stage(first, control, second, supervisor_user_access=supervisor_user_access)
        return Setup(Context(stage1=stage1, stage2=second), interrupt_files)

    def _first_stage(
        self, fsc: int, control: int, second: Riscv | None, *, supervisor_user_access: bool
    ) -> Riscv | None:
        if not fsc >> 60:
            return None
        return Riscv(
            table=(fsc & PPN) << 12,
            levels=PAGE_TABLE_LEVELS[fsc >> 60],
            hardware_update=bool(control >> 8 & 1),
            svpbmt=self.capabilities.has(15),
            svrsw60t59b=self.capabilities.has(14),
            supervisor_user_access=supervisor_user_access,
            output_bits=56 if second else self.capabilities.address_bits,
            big_endian=bool(control >> 10 & 1),
        )

    def _second_stage(self, hgatp: int, control: int) -> Riscv | None:
        if not hgatp >> 60:
            return None
        return Riscv(
            table=(hgatp & PPN) << 12,
            levels=PAGE_TABLE_LEVELS[hgatp >> 60],
            guest_stage=True,
            hardware_update=bool(control >> 7 & 1),
            svpbmt=self.capabilities.has(15),
            svrsw60t59b=self.capabilities.has(14),
            output_bits=self.capabilities.address_bits,
            big_endian=self.big_endian,
        )

    # directories

    def _device_context(self, table: int, levels: int, device_id: int) -> list[int]:
        extended = self.capabilities.has(22)
        low = 6 if extended else 7
        indices = [device_id & bits(low - 1, 0), device_id >> low & 511, device_id >> (low + 9)]
        if any(indices[levels:]):
            raise Refused(Cause.DISALLOWED)
        for level in reversed(range(1, levels)):
            (entry,) = self._read(table + 8 * indices[level], 1, Cause.DDT_ACCESS, big_endian=self.big_endian)
            if not entry & 1:
                raise Refused(Cause.DDT_INVALID)
            if entry & NON_LEAF_RESERVED:
                raise Refused(Cause.DDT_MISCONFIGURED)
            table = (entry >> 10 & PPN) << 12
        count = 8 if extended else 4
        words = self._read(table + 8 * count * indices[0], count, Cause.DDT_ACCESS, big_endian=self.big_endian)
        if not words[0] & 1:
            raise Refused(Cause.DDT_INVALID)
        if self._misconfigured(words):
            raise Refused(Cause.DDT_MISCONFIGURED)
        return words

    def _misconfigured(self, words: list[int]) -> bool:
        """Device-context configuration checks, and what the reference model adds: MSI tables need a second stage."""
        able = self.capabilities
        control, hgatp, attributes, fsc = words[:4]
        ats, pri, t2gpa, directory, prpr, gade, sade, dpe, sbe, sxl = (
            bool(control >> bit & 1) for bit in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11)
        )
        reserved = control & (bits(23, 12) | bits(63, 32)) or attributes & (bits(11, 0) | bits(39, 32))
        if not able.has(41):
            reserved = reserved or attributes & bits(63, 40)
        reserved = reserved or fsc & bits(59, 44)
        if len(words) == 8:
            reserved = reserved or words[4] & bits(59, 44) or (words[5] | words[6]) & bits(63, 52) or words[7]
        order_is_fixed = not able.has(27)
        return bool(
            reserved
            or (not able.has(25) and (ats or pri or prpr))
            or (not ats and (t2gpa or pri))
            or (not pri and prpr)
            or (t2gpa and (not able.has(26) or not hgatp >> 60))
            or (not directory and dpe)
            or not (able.process_directory(fsc >> 60) if directory else able.first_stage(fsc >> 60))
            or not able.second_stage(hgatp >> 60)
            or (len(words) == 8 and (words[4] >> 60 > 1 or (words[4] >> 60 and not hgatp >> 60)))
            or (hgatp >> 60 and hgatp & 3)
            or (not able.has(24) and (sade or gade))
            or (order_is_fixed and sbe != self.big_endian)
            or sxl
        )

    def _process_context(
        self, pdtp: int, process_id: int, control: int, second: Riscv | None, access: int
    ) -> tuple[int, int]:
        big_endian = bool(control >> 10 & 1)
        indices = (process_id & 255, process_id >> 8 & 511, process_id >> 17)
        table = (pdtp & PPN) << 12
        for level in reversed(range(1, pdtp >> 60)):
            at = self._through(second, table, 8 * indices[level], access)
            (entry,) = self._read(at, 1, Cause.PDT_ACCESS, big_endian=big_endian)
            if not entry & 1:
                raise Refused(Cause.PDT_INVALID)
            if entry & NON_LEAF_RESERVED:
                raise Refused(Cause.PDT_MISCONFIGURED)
            table = (entry >> 10 & PPN) << 12
        at = self._through(second, table, 16 * indices[0], access)
        attributes, fsc = self._read(at, 2, Cause.PDT_ACCESS, big_endian=big_endian)
        if not attributes & 1:
            raise Refused(Cause.PDT_INVALID)
        if attributes & (bits(11, 3) | bits(63, 32)) or fsc & bits(59, 44):
            raise Refused(Cause.PDT_MISCONFIGURED)
        if not self.capabilities.first_stage(fsc >> 60):
            raise Refused(Cause.PDT_MISCONFIGURED)
        return attributes, fsc

    def _through(self, second: Riscv | None, table: int, offset: int, access: int) -> int:
        """Where a directory entry is: its address goes through the second stage as an implicit read."""
        if second is None:
            return table + offset
        outcome = self.walk(Context(stage2=second), table + offset, READ)
        if outcome.kind:
            raise Refused(cause_of(outcome, access), iotval2_of(outcome, implicit=True))
        return outcome.pa

    def _read(self, at: int, count: int, cause: int, *, big_endian: bool) -> list[int]:
        words = [self.memory.load(at + 8 * word) for word in range(count)]
        if at >> self.capabilities.address_bits or None in words:
            raise Refused(cause)
        return [swapped(word) if big_endian else word for word in words if word is not None]


def cause_of(outcome: Outcome, access: int) -> int:
    """The cause that a fault of a page-table walk is reported with."""
    kind = 0 if access & EXECUTE else 2 if access & WRITE else 1
    if outcome.kind in {Kind.EXTERNAL_ABORT, Kind.ADDRESS_SIZE, Kind.UPDATE_FAILED}:
        return (1, 5, 7)[kind]
    return (20, 21, 23)[kind] if outcome.stage == 2 else (12, 13, 15)[kind]


def iotval2_of(outcome: Outcome, *, implicit: bool = False) -> int:
    """What a record says of a guest-page fault: the address, and whether it was one of an implicit access."""
    if outcome.stage != 2 or outcome.kind in {Kind.EXTERNAL_ABORT, Kind.ADDRESS_SIZE, Kind.UPDATE_FAILED}:
        return 0
    implicit = implicit or outcome.fault_class == FaultClass.TABLE
    return outcome.ipa & ~3 | (1 if implicit else 0) | (2 if implicit and outcome.for_update else 0)
