"""The single and the nested walk, and the result that the engine must give too.

What the contract (docs/architecture.md) leaves open was decided so:

Results
- ``entry_value`` is the entry as the format reads it (after the byte swap of a big-endian table), as it was
  before any accessed/dirty store.
- A stage-1 fault is always of class ``input``; only stage 2 faults can be of class ``table``.
- ``for_update`` is set by a refused store of the faulting stage itself (``update_failed``, ``update_forbidden``)
  and by any stage-2 fault of the translation of a stage-1 store.
- ``input_size`` of a stage: level is the top level (Arm: of the selected half) and ``top`` is set. Stage 0:
  level 0, ``top`` clear.
- Rights are ANDed with the context's, also for an untranslated access.
- A stage-1 entry is fetched through stage 2 as an unprivileged read and stored as an unprivileged write.

- ``instruction`` leaves an access that writes as it is. An IOVA of ``untranslated_input`` passes before any check.
- ``privileged_refused`` comes after the input size and before ``rights``.
- Tables that change under their own walk are not judged (`stage.UndecidedError`).

Blocked output
- Only the final output is checked, never the address of a stage-1 entry. The page is the smaller of both stages.
- It is found before the leaf's accessed/dirty store (after those of the tables), and after the fault that a clear
  accessed flag is.
- An access that nothing translates is blocked where its address is in the range, at stage 0, after the rights.

Arm
- Dirty management needs HA as well as HD, and HAFT needs HA (TCR_ELx.HD). A leaf it manages counts as writable
  for every purpose (``rights``, WXN).
- Execution needs no read right in either stage; APTable does not touch it.
- UWXN changes nothing: AArch64 never lets the privileged execute what the unprivileged may write.
- PAN takes reading and writing from the privileged, not execution.
- 64K descriptors hold address bits 51:48 in 15:12 only where ``output_bits`` is above 48; else 15:12 take no part.
- Block address bits below the block's size take no part.
- The page size is the descriptor's own; the contiguous hint does not enlarge it. NS is the leaf's own bit.
- S2PTW: checked with the rights, before the accessed store; ``missing`` is the refused right.
- Device is MemAttr[3:2] = 0, with forced write-back MemAttr[2] = 0.

X86
- Without ``no_execute`` bit 63 is ignored. ``missing`` is the first refused right, in the order U/S, RW, XD.
- Without ``accessed`` the extended accessed flag is not set either.

VtdSecondStage
- The legacy order looks at rights gathered so far; as each entry is checked this is the entry's own.

AmdV1
- Only a leaf gets the accessed flag. Leaf bits 58:57 are ignored (PMC). Address bits below the default size of a
  leaf take no part. An encoded size whose address bits 51:12 are all ones is 2^53.

Riscv
- ``output_bits``: a table pointer beyond it is ``address_size``, after its encoding was found good. An output beyond
  it is found after all that the specification calls a page fault (rights, alignment, A and D), because it is
  an access fault of the access itself; before the A/D store.
- G is the leaf's own bit. PRIVILEGED is in ``missing`` where U refuses, whatever R, W, X say.

Described
- A leaf encoding at a level that may not hold leaves is a table. Only a leaf gets accessed and dirty flags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, frozen

from .stage import (
    ALL_RIGHTS,
    EXECUTE,
    PRIVILEGED,
    READ,
    WHOLE,
    WRITE,
    Fault,
    FaultClass,
    Format,
    Kind,
    Leaf,
    Stage,
    missing_rights,
)

if TYPE_CHECKING:
    from .memory import Memory


@frozen
class Context:
    """See `viommu._engine.Context`; tags are no business of a walk."""

    stage1: Format | None = None
    stage2: Format | None = None
    rights: int = ALL_RIGHTS
    input_bits: int = 64
    blocked_output: tuple[int, int] | None = None
    untranslated_input: tuple[tuple[int, int], ...] = ()
    privileged: bool | None = None
    instruction: bool | None = None
    privileged_refused: bool = False

    def as_configured(self, access: int) -> int:
        """The access that the overrides make of ``access``. One that writes stays what it is, but for its privilege."""
        if self.privileged is not None:
            access = access & ~PRIVILEGED | (PRIVILEGED if self.privileged else 0)
        if self.instruction is not None and access & (READ | EXECUTE) and not access & WRITE:
            access = access & ~(READ | EXECUTE) | (EXECUTE if self.instruction else READ)
        return access


@define
class OracleResult:
    """The fields of `viommu._engine.Result`."""

    iova: int
    access: int
    kind: int = 0
    pa: int = 0
    page_lg2: int = 0
    rights: int = 0
    attrs1: int = 0
    attrs2: int = 0
    ipa: int = 0
    entry_address: int = 0
    entry_value: int = 0
    stage: int = 0
    level: int = 0
    fault_class: int = 0
    missing: int = 0
    top: bool = False
    for_top: bool = False
    for_update: bool = False


class BehindStage2(Stage):
    """Stage 1 whose every entry lies behind stage 2."""

    def __init__(self, memory: Memory, stage2: Format) -> None:
        super().__init__(memory, 1)
        self.stage2 = stage2

    def locate(self, address: int, access: int, for_update: bool) -> int:
        try:
            return self.stage2.walk(Stage(self.memory, 2, for_table=True), address, access).output
        except Fault as fault:
            fault.fault_class = FaultClass.TABLE
            fault.ipa = address
            fault.for_top = self.level == self.top_level
            fault.for_update = fault.for_update or for_update
            raise


def walk(memory: Memory, context: Context, iova: int, access: int) -> OracleResult:
    """Translate one access. Accessed and dirty flags are stored in ``memory``, which logs them.

    Raises UndecidedError where hardware may end the walk in more than one way.
    """
    access = context.as_configured(access)
    if any(start <= iova <= last for start, last in context.untranslated_input):
        return OracleResult(iova, access, pa=iova, page_lg2=WHOLE, rights=ALL_RIGHTS, ipa=iova)
    if context.stage1 is None and iova >> context.input_bits:
        return OracleResult(iova, access, kind=Kind.INPUT_SIZE, ipa=iova)
    missing = PRIVILEGED if context.privileged_refused and access & PRIVILEGED else 0
    missing = missing or missing_rights(access, context.rights)
    if missing:
        return OracleResult(iova, access, kind=Kind.PERMISSION, ipa=iova, missing=missing)
    if context.stage1 is None and context.stage2 is None:
        if context.blocked_output and context.blocked_output[0] <= iova <= context.blocked_output[1]:
            return OracleResult(iova, access, kind=Kind.BLOCKED_OUTPUT, ipa=iova)
        return OracleResult(iova, access, pa=iova, page_lg2=WHOLE, rights=context.rights, ipa=iova)
    try:
        return _translate(memory, context, iova, access)
    except Fault as fault:
        return OracleResult(
            iova,
            access,
            kind=fault.kind,
            ipa=iova if fault.ipa is None else fault.ipa,
            entry_address=fault.entry_address,
            entry_value=fault.entry_value,
            stage=fault.stage,
            level=fault.level,
            fault_class=fault.fault_class,
            missing=fault.missing,
            top=fault.top,
            for_top=fault.for_top,
            for_update=fault.for_update,
        )


def _translate(memory: Memory, context: Context, iova: int, access: int) -> OracleResult:
    first = second = None
    if context.stage1 is not None and context.stage2 is not None:
        first = context.stage1.walk(BehindStage2(memory, context.stage2), iova, access)
        second = _second(memory, context, first.output, access, first.page_lg2)
    elif context.stage1 is not None:
        first = context.stage1.walk(Stage(memory, 1, blocked=context.blocked_output), iova, access)
    elif context.stage2 is not None:
        second = _second(memory, context, iova, access, WHOLE)

    leaves = [leaf for leaf in (first, second) if leaf is not None]
    rights = context.rights
    for leaf in leaves:
        rights &= leaf.privileged if access & PRIVILEGED else leaf.user
    return OracleResult(
        iova,
        access,
        pa=leaves[-1].output,
        page_lg2=min(leaf.page_lg2 for leaf in leaves),
        rights=rights,
        attrs1=first.attrs if first else 0,
        attrs2=second.attrs if second else 0,
        ipa=first.output if first else iova,
        level=leaves[0].level,
    )


def _second(memory: Memory, context: Context, ipa: int, access: int, page_limit: int) -> Leaf:
    """Stage 2 of the final output (or of the input, where there is no stage 1)."""
    assert context.stage2 is not None
    stage = Stage(memory, 2, blocked=context.blocked_output, page_limit=page_limit)
    try:
        return context.stage2.walk(stage, ipa, access)
    except Fault as fault:
        fault.ipa = ipa
        raise
