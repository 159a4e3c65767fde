"""The compiled engine: memory, page-table formats, one walker, IOTLB, batch translation.

Nothing here knows a vendor. Integers are plain ``int``: addresses in bytes, sizes as ``lg2``
(log2 of bytes), rights and accesses as the bit masks below. Formats and contexts are immutable.
``level`` is neutral everywhere: 0 is the level of the smallest leaf.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, TypeVar

from viommu.addresses import Iova, Ipa, Pa
from viommu.faults import Access

_Method = TypeVar("_Method", bound=Callable[..., Any])

READ: Final = 1
WRITE: Final = 2
EXECUTE: Final = 4
PRIVILEGED: Final = 8
TABLE_FETCH: Final = 16
"""Access bits. A right uses the first three; an access may add PRIVILEGED.

TABLE_FETCH marks the fetch of a configuration structure through stage 2 (`walk`; Arm S2PTW looks at it).
"""

NO_PASID: Final = 0xFFFF_FFFF
"""The PASID column's value for a request without a PASID."""

WHOLE: Final = 64
"""``page_lg2`` of an untranslated access: the whole address space is one page."""

FAULT_KINDS: Final[tuple[str, ...]]
"""Names of ``Result.kind``, by number; index 0 is ``none``. `viommu.faults.FaultKind` mirrors it."""

FAULT_DTYPE: Final[np.dtype[np.void]]
"""Structured dtype of `Batch.records`: row, iova, ipa, entry_address, entry_value (u64); kind, stage, level,
fault_class, missing, rights, access, top, for_top, for_update (u8); 2 unused bytes; driver_bits (u4).
Fields as in `Result`."""

@final
class Memory:
    """A physical address space, made of regions that never overlap.

    Regions start and end on 8-byte boundaries. A hole is not an error to a walk: it aborts the walk.
    Loads are atomic 64-bit acquire loads; accessed/dirty updates are compare-and-swap.
    """

    def __init__(self) -> None: ...
    def map(
        self, start: int, buffer: Buffer, *, offset: int = 0, length: int | None = None, writable: bool = True
    ) -> None:
        """Make ``length`` bytes of ``buffer`` from ``offset`` appear at ``start``; the buffer stays alive.

        Raises ValueError where the region overlaps another, is misaligned, empty, or wraps, or where the
        buffer is read-only and ``writable`` is asked for.
        """
    def map_address(self, start: int, address: int, length: int, *, writable: bool = True) -> None:
        """Make memory at an address of this process appear at ``start``; who calls keeps it there. As `map` else."""
    def map_callback(
        self,
        start: int,
        length: int,
        load: Callable[[int], int | None],
        compare_exchange: Callable[[int, int, int], bool | None],
    ) -> None:
        """A region outside this process. ``load(pa)`` gives the 64-bit word or None (abort).

        ``compare_exchange(pa, expected, desired)`` gives whether it stored, or None (abort). An exception in
        either counts as an abort and is reported through `sys.unraisablehook`.
        """
    def unmap(self, start: int, length: int) -> None:
        """Remove every region that lies in the range. ValueError where one would be cut in two."""
    def read(self, pa: int, length: int) -> bytes | None:
        """The bytes, or None where any of them lies in a hole."""
    def write(self, pa: int, data: Buffer) -> bool:
        """Store the bytes; False, and nothing stored, where any lies in a hole or is read-only."""
    def load(self, pa: int) -> int | None: ...
    def compare_exchange(self, pa: int, expected: int, desired: int) -> bool | None:
        """Store a 64-bit word if it is as expected, in one step; whether it was. None in a hole or read-only memory."""
    def regions(self) -> list[tuple[int, int, bool]]:
        """(start, last, writable) of each region, ascending."""

@final
class ArmHalf:
    """One half (TTB0 or TTB1) of an Arm stage-1 address space."""

    def __init__(
        self,
        *,
        table: int,
        input_bits: int,
        granule_lg2: int,
        top_byte_ignore: bool = False,
        walks_disabled: bool = False,
        unprivileged_disabled: bool = False,
        ignore_hierarchical: bool = False,
    ) -> None:
        """``input_bits`` is 64 - TxSZ (12..55 wide), ``granule_lg2`` 12, 14 or 16.

        ``walks_disabled`` is EPDx, ``unprivileged_disabled`` E0PDx, ``ignore_hierarchical`` HADx.
        """
    @property
    def table(self) -> int: ...
    @property
    def input_bits(self) -> int: ...
    @property
    def granule_lg2(self) -> int: ...

@final
class ArmStage1:
    """Arm VMSAv8-64 stage 1. ``attrs``: AttrIndx 2:0, SH 4:3, NS 5, nG 6, contiguous 7."""

    def __init__(
        self,
        *,
        lower: ArmHalf,
        upper: ArmHalf | None = None,
        output_bits: int = 48,
        access_flag_faults: bool = True,
        hardware_access: bool = False,
        hardware_dirty: bool = False,
        hardware_table_access: bool = False,
        write_implies_no_execute: bool = False,
        privileged_access_never: bool = False,
        single_privilege: bool = False,
        large_52: bool = False,
        big_endian: bool = False,
    ) -> None:
        """``upper`` None: one half only, upper addresses fault (EL2 regime).

        ``access_flag_faults`` is not AFFD; ``hardware_access``/``_dirty``/``_table_access`` are HA, HD, HAFT;
        ``single_privilege``: EL2 without E2H (AP[1] and PXN unused). ``large_52`` is DS (52-bit 4K/16K).
        """

@final
class ArmStage2:
    """Arm VMSAv8-64 stage 2. ``attrs``: MemAttr 3:0, SH 5:4, contiguous 7."""

    def __init__(
        self,
        *,
        table: int,
        input_bits: int,
        granule_lg2: int,
        top_level: int,
        output_bits: int = 48,
        access_flag_faults: bool = True,
        hardware_access: bool = False,
        hardware_dirty: bool = False,
        execute_never_extended: bool = False,
        forced_write_back: bool = False,
        protect_table_walk: bool = False,
        large_52: bool = False,
        big_endian: bool = False,
    ) -> None:
        """``top_level`` is neutral (3 - Arm's start level); concatenated start tables follow from it.

        ``protect_table_walk`` (S2PTW): a stage-1 fetch that lands on Device memory is a permission fault.
        """
    @property
    def table(self) -> int: ...
    @property
    def input_bits(self) -> int: ...
    @property
    def granule_lg2(self) -> int: ...
    @property
    def top_level(self) -> int: ...

@final
class X86:
    """x86-64 4/5-level tables: VT-d first stage, AMD v2. ``attrs``: PWT 0, PCD 1, PAT 2, G 3."""

    def __init__(
        self,
        *,
        table: int,
        levels: int,
        output_bits: int = 52,
        sign_extended: bool = True,
        write_protect: bool = True,
        no_execute: bool = True,
        extended_accessed: bool = False,
        accessed: bool = True,
        dirty: bool = True,
        updates_allowed: bool = True,
        page_1g: bool = True,
    ) -> None:
        """``sign_extended``: canonical input; else only the lower half is translated.

        ``write_protect`` False: privileged writes ignore RW. ``updates_allowed`` False: an A/D store that would
        be needed is the fault ``update_forbidden`` (PWSNP=0 and the like).
        """
    @property
    def table(self) -> int: ...
    @property
    def levels(self) -> int: ...

@final
class VtdSecondStage:
    """VT-d second stage, 3 to 5 levels. ``attrs``: SNP 0, TM 1."""

    def __init__(
        self,
        *,
        table: int,
        levels: int,
        input_bits: int = 64,
        output_bits: int = 52,
        page_2m: bool = True,
        page_1g: bool = True,
        accessed_dirty: bool = False,
        updates_allowed: bool = True,
        snoop_reserved: bool = False,
        transient_reserved: bool = True,
        legacy_order: bool = False,
    ) -> None:
        """``input_bits`` caps 12 + 9 * levels (MGAW).

        ``legacy_order``: a missing right faults at the first entry that lacks it, before reserved bits; otherwise
        rights are accumulated and checked after the leaf.
        """
    @property
    def table(self) -> int: ...
    @property
    def levels(self) -> int: ...

@final
class AmdV1:
    """AMD host tables, modes 1 to 6. ``attrs``: FC 0, U 1."""

    def __init__(
        self, *, table: int, mode: int, accessed: bool = False, dirty: bool = False, output_bits: int = 52
    ) -> None: ...
    @property
    def table(self) -> int: ...
    @property
    def mode(self) -> int: ...

@final
class Riscv:
    """RISC-V Sv39/48/57 (and Svx4 with ``guest_stage``). ``attrs``: PBMT 1:0, G 2."""

    def __init__(
        self,
        *,
        table: int,
        levels: int,
        guest_stage: bool = False,
        hardware_update: bool = False,
        svpbmt: bool = False,
        svnapot: bool = True,
        svrsw60t59b: bool = False,
        supervisor_user_access: bool = False,
        output_bits: int = 56,
        big_endian: bool = False,
    ) -> None:
        """``levels`` 3, 4 or 5. ``hardware_update`` False: A=0, or D=0 on a write, is ``access_flag``."""
    @property
    def table(self) -> int: ...
    @property
    def levels(self) -> int: ...

@final
class Described:
    """A format told at run time: for drivers written in Python only.

    An entry is 8 bytes. Every ``*_mask``/``*_value`` pair matches when ``entry & mask == value``.
    """

    def __init__(
        self,
        *,
        table: int,
        granule_lg2: int,
        index_lg2: Sequence[int],
        input_bits: int | None = None,
        sign_extended: bool = False,
        address_mask: int,
        address_shift: int = 0,
        present_mask: int,
        present_value: int,
        leaf_mask: int = 0,
        leaf_value: int = 0,
        leaf_levels: int = 1,
        read_mask: int = 0,
        write_mask: int = 0,
        execute_mask: int = 0,
        user_mask: int = 0,
        inverted_rights: int = 0,
        hierarchical: bool = True,
        accessed_mask: int = 0,
        dirty_mask: int = 0,
        table_reserved: int = 0,
        leaf_reserved: int = 0,
        output_bits: int = 64,
        big_endian: bool = False,
    ) -> None:
        """``index_lg2``: index bits of level 0, 1, ..., ascending (its length is the number of levels, at most 8).

        ``table``: address of the top table. ``granule_lg2``: of the smallest page. ``input_bits``: None: as many as
        the levels have; higher ones must be zero, or copies of the highest where ``sign_extended``. An address is
        ``(entry & address_mask) << address_shift``, below 2^output_bits. An entry that is not present is
        ``translation``. ``leaf_mask``/``leaf_value`` tell leaves above level 0; ``leaf_levels`` bit n: level n may
        hold some (level 0 always does). A right whose mask is 0 is always granted; ``user_mask``: to unprivileged
        accesses too; ``inverted_rights`` holds the mask bits that mean "not". ``hierarchical``: rights of
        tables are ANDed in. ``accessed_mask``, ``dirty_mask``: what hardware sets in leaves.
        ``leaf_reserved``/``table_reserved``: bits that must be zero. Address bits below a
        leaf's size must be zero (``malformed``). ``docs/reference/described-tables.md`` has an example.
        """
    @property
    def table(self) -> int: ...
    @property
    def levels(self) -> int:
        """How many levels there are."""

@final
class FlatForm:
    """One form that an entry of a `FlatTable` may have."""

    def __init__(
        self,
        *,
        mask: int,
        value: int,
        reserved: tuple[int, int] = (0, 0),
        address_word: int = 0,
        address_mask: int,
        address_shift: int = 0,
        rights: int = 7,
        attrs: int = 0,
        memory: bool = True,
    ) -> None:
        """An entry has this form where ``word 0 & mask == value``.

        ``reserved``: bits of each word that must be zero (``reserved``). The page is at ``(word[address_word] &
        address_mask) << address_shift``. ``attrs`` become ``attrs2`` of the result. ``memory`` False: an access to the
        page is none to where the address leads; it is translated, but neither cached nor made by the engine, and the
        hardware model is asked what becomes of it (`viommu.hookspecs.RedirectingHardware`).
        """

@final
class FlatTable:
    """A table beside stage 2, which takes over the 4 KiB pages whose numbers (IPA >> 12) match a pattern.

    Per page: fetch (``external_abort``; ``address_size`` where the entry lies at or above 2^output_bits) -> present
    (``translation``) -> form (``malformed`` where it has none) -> ``reserved`` -> rights (``permission``) -> output
    at or above 2^output_bits (``address_size``). Faults have ``stage`` 3. Fetches of stage-1 entries do not go
    through it.
    """

    def __init__(
        self,
        *,
        table: int,
        compared: int,
        pattern: int,
        indexed: int,
        words: int = 1,
        present_mask: int,
        present_value: int,
        forms: Sequence[FlatForm],
        output_bits: int = 64,
        big_endian: bool = False,
    ) -> None:
        """It takes pages with ``number & compared == pattern``.

        The bits of a number under ``indexed``, put together in their order, are the number of its entry, which lies
        at ``table | number * 8 * words``. ``words``: 1 or 2. ``present_mask``/``present_value`` are of word 0. The
        first of ``forms`` (at most 4) that an entry has counts.
        """
    @property
    def table(self) -> int: ...
    def takes(self, ipa: int) -> bool:
        """Whether the page of an address is one of its."""

Stage1: TypeAlias = ArmStage1 | X86 | Riscv | Described
Stage2: TypeAlias = ArmStage2 | VtdSecondStage | AmdV1 | Riscv | Described

@final
class Context:
    """All that a translation needs to know of one (requester, PASID); what the context cache holds.

    With neither stage the access passes untranslated. AmdV1 and VtdSecondStage alone are ``stage2``.
    """

    def __init__(
        self,
        *,
        stage1: Stage1 | None = None,
        stage2: Stage2 | None = None,
        stage1_tag: int = 0,
        stage2_tag: int = 0,
        rights: int = 7,
        input_bits: int = 64,
        blocked_output: tuple[int, int] | None = None,
        untranslated_input: Sequence[tuple[int, int]] = (),
        privileged: bool | None = None,
        instruction: bool | None = None,
        privileged_refused: bool = False,
        flat: FlatTable | None = None,
        driver_bits: int = 0,
    ) -> None:
        """``rights``: granted before any table is read; a missing one is ``permission`` at stage 0.

        ``input_bits``: checked where there is no stage 1 (``input_size`` at stage 0).
        ``blocked_output``: (start, last); a final page (the smaller of both stages') that touches it is
        ``blocked_output`` (interrupt range); an address in it, where nothing translates.
        ``privileged_refused``: a privileged access is ``permission`` at stage 0, missing PRIVILEGED (VT-d SRE=0).
        ``untranslated_input``: (start, last) ranges of IOVAs that pass as they are, with every right and uncached
        (AMD's exclusion range, interrupt windows).
        ``flat``: takes pages over from ``stage2``, which has to be there; what stage 1 gave is looked up in it.
        Tags: ``stage1_tag`` an ASID or PASID, ``stage2_tag`` a VMID, DomainID or DID.
        ``privileged``, ``instruction``: what every access is made, whatever it came as (SMMU PRIVCFG, INSTCFG; a
        write stays data). ``driver_bits`` (32 bits) are the driver's own and come back in each Result: what it needs
        to report a fault as the cached configuration says.
        """
    stage1: Stage1 | None
    stage2: Stage2 | None
    stage1_tag: int
    stage2_tag: int
    rights: int
    flat: FlatTable | None
    driver_bits: int

@final
class Result:
    """What became of one access: a translation (``kind`` 0) or a fault."""

    kind: int
    pa: int
    page_lg2: int
    rights: int
    """READ | WRITE | EXECUTE granted to the access's privilege (fault: what was still granted there)."""
    attrs1: int
    attrs2: int
    iova: int
    ipa: int
    """Output of stage 1, or the stage-2 input that faulted; the IOVA where there is no stage 1."""
    entry_address: int
    """Of the offending entry: a PA, or an IPA where the fetch itself faulted in stage 2. 0: no entry read."""
    entry_value: int
    stage: int
    """0: before any table; 1; 2; 3: a flat table."""
    level: int
    fault_class: int
    """0 input (the access itself), 1 table (a fetch of a stage-1 entry), 2 configuration."""
    missing: int
    """Rights that were asked for and not granted; PRIVILEGED: the privilege was the reason."""
    top: bool
    """The entry was of its stage's top level."""
    for_top: bool
    """fault_class 1: the stage-1 entry being fetched was of stage 1's top level."""
    for_update: bool
    """The faulting access was an accessed/dirty store."""
    access: int
    """As the configuration's overrides left it."""
    driver_bits: int

@final
class Translation:
    """Where one access goes (bytes). Immutable, equal by value.

    ``page_size`` is the smaller of both stages', and 0 where the access passes ``untranslated``: the whole
    address space is one page then. ``rights`` are those of the access's privilege. ``ipa`` is the output of
    stage 1, the IOVA where there is none. ``attrs1`` and ``attrs2`` are the raw memory attributes of each
    stage's leaf, laid out as the format says.
    """

    __match_args__ = ("iova", "pa", "page_size", "rights", "ipa", "attrs1", "attrs2")

    def __new__(
        cls, iova: int, pa: int, page_size: int, rights: Access, ipa: int, attrs1: int = 0, attrs2: int = 0
    ) -> Self:
        """ValueError for a number that its field cannot hold, or a ``page_size`` that is no power of two; TypeError."""
    @property
    def iova(self) -> Iova: ...
    @property
    def pa(self) -> Pa: ...
    @property
    def page_size(self) -> int: ...
    @property
    def rights(self) -> Access: ...
    @property
    def ipa(self) -> Ipa: ...
    @property
    def attrs1(self) -> int: ...
    @property
    def attrs2(self) -> int: ...
    @property
    def untranslated(self) -> bool:
        """Whether no table took part."""

def name_rights(names: Sequence[Access]) -> None:
    """Say what ``Translation.rights`` are: a value for each number, 0 to 7."""

@final
class Step:
    """One entry that a walk read (`explain_walk`)."""

    stage: int
    format: str
    level: int
    fault_class: int
    input: int
    """What this stage is translating: an IOVA or an IPA."""
    address: int
    """The entry's address as this stage names it: an IPA for a stage-1 entry behind stage 2."""
    pa: int
    raw: int
    verdict: str
    """``table``, ``leaf`` or ``fault``."""
    kind: int
    output: int
    """Next table, or output address of a leaf."""
    page_lg2: int
    rights: int
    updated: int
    """The entry after an accessed/dirty store; equals ``raw`` where none was made."""

def walk(memory: Memory, context: Context, iova: int, access: int, *, stores: bool = True) -> Result:
    """One access through the tables alone: no cache. A/D stores are made, or with ``stores`` False seen by it alone."""

def explain_walk(memory: Memory, context: Context, iova: int, access: int) -> tuple[Result, list[Step]]:
    """The same walk, by the same code, as a list of steps. Its A/D stores are seen by it alone."""

def read_dirty(
    memory: Memory, context: Context, start: int, last: int, page_lg2: int = 12, *, clear: bool = False
) -> NDArray[np.uint8]:
    """Which pages of 2^page_lg2 bytes in [start, last] devices wrote: one bit a page, from ``start``'s page on.

    Read from the leaves of stage 2, of stage 1 where there is none. ``clear`` forgets them (IOTLB entries that
    still say "dirty" must then be invalidated). ValueError beyond 2^32 pages.
    """

@final
class Iotlb:
    """A tagged, page-size aware translation cache.

    ``entries`` None: unbounded. ``ways`` divides ``entries``; both powers of two. ``policy``: ``lru``, ``plru``,
    ``fifo`` or ``random`` (seeded: same inputs, same evictions).
    """

    def __init__(self, *, entries: int | None = 1024, ways: int = 4, policy: str = "lru", seed: int = 0) -> None: ...
    entries: int | None
    ways: int
    policy: str

class Batch:
    """The answer to `Translator.translate_many`: columns of n rows, in the order asked."""

    @property
    def pa(self) -> NDArray[np.uint64]: ...
    @property
    def kind(self) -> NDArray[np.uint8]:
        """0 where translated, else a fault kind."""
    @property
    def page_lg2(self) -> NDArray[np.uint8]: ...
    @property
    def rights(self) -> NDArray[np.uint8]: ...
    @property
    def records(self) -> NDArray[np.void]:
        """One record (FAULT_DTYPE) for each faulted row, in the order of rows."""
    @property
    def fault_count(self) -> int:
        """How many rows were refused."""
    @property
    def refusals(self) -> dict[tuple[int, int], Any]:
        """(requester, PASID) -> what ``resolve`` gave instead of a Context."""
    @property
    def given(self) -> tuple[Any, Any, Any, Any]:
        """What was asked: requester, iova, access, PASID, each an array, or a value that stands for every row."""
    def __len__(self) -> int: ...

_Heir = TypeVar("_Heir", bound=Batch, default=Batch)

CommandNumber: TypeAlias = tuple[list[tuple[int, int, int]], int, int, int, int]
"""Pieces (lowest bit in the entry, bits, lowest bit in the number), at most 4, none for a constant; then, in this
order: bits above ``sign_bit`` take its value (63: none), ``keep`` masks, ``flip`` inverts, ``plus`` is added."""

CommandExtent: TypeAlias = tuple[str, CommandNumber, CommandNumber, CommandNumber, CommandNumber]
"""Kind, address, size, unit, count. ``block``: 2^size bytes around the address; ``sized``: 2^unit, with ``size`` twice
the lowest zero bit of the address from bit ``unit`` on; ``counted``: (count + 1) << (size + unit)."""

CommandTest: TypeAlias = tuple[str, CommandNumber, int, int, int | None]
"""Kind, number, low, high, table: ``within`` a closed range, ``listed`` or ``unlisted`` in the table of that index."""

CommandAction: TypeAlias = tuple[
    str, bool, int, int, int | None, CommandNumber, CommandNumber, CommandNumber, CommandExtent | None
]
"""Verb, flag, bytes, group_lg2, table, first, second, leaf_only, extent.

``first`` is a stage-2 tag (all tags that differ from it in ``group_lg2`` low bits alone) or a requester; with a table,
the key to those. Verbs: ``everything``, ``stage2_tag`` (flag: stage 1 only), ``stage1_tag`` (second), ``range``
(second; flag: any stage-1 tag), ``stage2_range``, ``all_contexts``, ``contexts``, ``context`` (second: the PASID),
``context_group`` (2^second requesters; above 256 all), ``store`` (second at address first; the first of its case)."""

CommandCase: TypeAlias = tuple[list[CommandTest], list[CommandAction] | None]
"""What is done where all tests hold; None: a run stops here."""

CommandRule: TypeAlias = tuple[str, int, list[int], list[CommandCase]]
"""Name, opcode, bits that must be zero (64-bit words), cases: the first one that holds counts."""

@final
class CommandTable:
    """What numbers in commands stand for: key (64 bits) -> values (32 bits). Thread-safe; at most 2^20 pairs."""

    def __init__(self) -> None: ...
    def add(self, key: int, value: int) -> None:
        """Add one value; it stays once. ValueError where the table is full."""
    def remove(self, key: int, value: int) -> None:
        """Remove one value, if it is there."""
    def clear(self) -> None:
        """Remove all."""
    def values(self, key: int) -> list[int]:
        """Give the values of a key, none where it has none."""

@final
class CommandSet:
    """The commands of one queue, as they were described (`viommu.commands`). Immutable, but for its tables.

    A run executes entries in order up to the first that no case covers, without the GIL, and gives how many there were
    and how many of each name. Nothing of an entry that is not counted has been done.
    """

    def __init__(
        self,
        entry_bytes: int,
        opcode: CommandNumber,
        rules: Sequence[CommandRule],
        tables: Sequence[CommandTable] = (),
    ) -> None:
        """Entries have 8 to 64 bytes, opcodes at most 12 bits. ValueError where the description cannot be one."""
    @property
    def entry_bytes(self) -> int: ...
    def run(self, translator: Translator, entries: Buffer | NDArray[np.uint8]) -> tuple[int, dict[str, int]]:
        """Execute entries of a buffer. ValueError where they are no whole number, BufferError for one with gaps."""
    def run_ring(
        self, translator: Translator, base: int, entries_lg2: int, head: int, count: int
    ) -> tuple[int, dict[str, int]]:
        """Execute ``count`` entries of a ring in the translator's memory, 2^entries_lg2 large, from index ``head`` on.

        An entry that cannot be read ends the run. ValueError for a ring of more than 2^32 entries.
        """

@final
class Translator:
    """Context cache, IOTLB and walker over one memory. Thread-safe; the GIL is released.

    ``resolve(requester, pasid)`` is called (with the GIL, no engine lock) for what the context cache lacks; it
    gives a Context, or any other object: a refusal, which is handed back in the fault and never cached.
    """

    def __init__(
        self,
        memory: Memory,
        resolve: Callable[[int, int], Any],
        *,
        iotlb: Iotlb | None = None,
        context_entries: int = 65536,
        walk_cache_entries: int = 0,
        sanitize: bool = False,
    ) -> None:
        """``sanitize``: hold each use of a cache against a fresh walk (`stale_uses`); slow, and free when off."""
    def translate(self, requester: int, iova: int, access: int, pasid: int = NO_PASID) -> Result | tuple[Result, Any]:
        """One access. A refused configuration gives ``(result, refusal)`` with kind ``configuration``."""
    def translate_many(
        self,
        requester: NDArray[np.uint32],
        iova: NDArray[np.uint64],
        access: NDArray[np.uint8],
        pasid: NDArray[np.uint32] | None = None,
        heir: type[_Heir] | None = None,
    ) -> _Heir:
        """Rows in order, as if by `translate` one after the other (hits, misses and evictions included).

        The answer is a `Batch`, or of that heir's class.
        """
    def walk_many(
        self,
        requester: NDArray[np.uint32],
        iova: NDArray[np.uint64],
        access: NDArray[np.uint8],
        pasid: NDArray[np.uint32] | None = None,
        heir: type[_Heir] | None = None,
    ) -> _Heir:
        """Each row on its own: no IOTLB, no walk cache, and its A/D stores are seen by it alone."""
    def invalidate_all(self) -> None:
        """Every IOTLB and walk-cache entry."""
    def invalidate_stage2_tag(self, stage2_tag: int, *, stage1_only: bool = False) -> None:
        """Entries of one stage-2 tag; ``stage1_only`` spares those of stage 2 alone (SMMU TLBI_NH_ALL)."""
    def invalidate_stage1_tag(self, stage2_tag: int, stage1_tag: int) -> None:
        """Non-global entries of one (stage-2 tag, stage-1 tag)."""
    def invalidate_range(
        self, stage2_tag: int, stage1_tag: int | None, start: int, last: int, *, leaf_only: bool = False
    ) -> None:
        """Stage-1 and nested entries whose input overlaps [start, last]: of the tag, and global ones.

        ``stage1_tag`` None: of every stage-1 tag. ``leaf_only`` spares the walk cache.
        """
    def invalidate_stage2_range(self, stage2_tag: int, start: int, last: int, *, leaf_only: bool = False) -> None:
        """Entries of stage 2 alone whose input overlaps [start, last] (and its walk-cache entries)."""
    def invalidate_contexts(self, requester: int | None = None, pasid: int | None = None) -> None:
        """Drop cached configuration: of one (requester, PASID), of one requester, or of all."""
    def counters(self) -> dict[str, Any]:
        """Of all streams together: what `stream_counters` gives, and more.

        insertions, evictions, context_hits, context_misses, walk_cache_hits, invalidations.
        """
    def stream_counters(self, requester: int) -> dict[str, Any]:
        """translations, lookups, hits, misses, walks, entry_loads, faults (int); faults_by_kind (name -> int)."""
    @property
    def sanitizes(self) -> bool:
        """Whether every use of a cache is held against the tables."""
    @property
    def sanitizer_now(self) -> int:
        """Translations that the sanitizer has seen; 0 without it."""
    def cached_context(self, requester: int, pasid: int = 0xFFFFFFFF) -> Context | None:
        """What the context cache holds for one (requester, PASID)."""
    def stale_uses(self) -> list[dict[str, Any]]:
        """What the sanitizer found since it was last asked, the first use of each stale entry.

        requester, pasid, cache (``iotlb`` or ``walk cache``), stage2_tag, stage1_tag (int, ``global``, or None: stage
        2 alone), page_lg2, cached and fresh (Result), cause (None, or the table entry that changed: pa, stage, level,
        was, is), and when the entry was made, last seen right, and used (in translations).
        """
    def sanitizer_counts(self) -> dict[str, int]:
        """checked, stale, unreported; invalidations, and of those removed_nothing; removed_right, removed_stale."""
    def reset_counters(self) -> None:
        """Begin to count anew."""
    def __len__(self) -> int:
        """IOTLB entries that would still hit."""
    @property
    def iotlb(self) -> Iotlb | None: ...

@final
class FramePool:
    """Frames of a memory that page tables are made of: zeroed, aligned to their size, kept by size. Thread-safe.

    ``lg2``: log2 of a frame's bytes, 12 to 40.
    """

    def __init__(self, memory: Memory) -> None: ...
    def add(self, pa: int, length: int, lg2: int) -> None:
        """Cut a run of zeros into frames. ValueError where it is not wholly in one writable region of this process."""
    def available(self, lg2: int) -> int: ...
    def take(self, lg2: int) -> int | None:
        """A frame's physical address; None where none is left."""
    def give(self, pa: int, lg2: int) -> None:
        """Zero a frame that was taken, and keep it for the next."""

@final
class TableShape:
    """How the entries of a page table look, for `TableWriter` (`viommu.io_page_table.TableShape`)."""

    def __init__(
        self,
        *,
        levels: int,
        granule_lg2: int,
        top_index_lg2: int,
        leaf_levels: int,
        table_flags: Sequence[int],
        leaf_flags: Sequence[int],
        rights: Sequence[int],
        address_mask: int,
        address_shift: int = 0,
        high_mask: int = 0,
        high_shift: int = 0,
    ) -> None:
        """``leaf_levels``: bit n, whether level n may hold leaves. ValueError where the shape is none."""
    @property
    def input_bits(self) -> int: ...

@final
class Unmapped:
    """What an unmap took away."""

    bytes: int
    tables: int
    smallest_lg2: int
    """log2 of the smallest leaf that went; 64: none."""
    id: int
    """0 where no table went."""

@final
class TableWriter:
    """A page table in machine memory, and beside it what is mapped. Thread-safe; the GIL is released.

    An entry is stored as one word; the entry that leads to a table is stored when the table is whole.
    """

    def __init__(self, pool: FramePool, shape: TableShape) -> None:
        """ValueError where the pool has no frame for the root: of its size, 4 KiB at least."""
    @property
    def root(self) -> int: ...
    @property
    def tables(self) -> int: ...
    def map(self, iova: int, pa: int, length: int, prot: int, largest: int | None = None, extra: int = 0) -> int:
        """0: mapped. Else nothing is, for the pool has to have this many more frames of a granule (at most).

        ValueError, with nothing mapped, where something is mapped already, or the range is not for this table.
        """
    def unmap(self, iova: int, length: int) -> Unmapped:
        """ValueError, with nothing unmapped, where a leaf would be cut."""
    def reclaim(self, gone: Unmapped) -> None:
        """Give the tables of one unmap back to the pool."""
    def leaf(self, iova: int) -> tuple[int, int, int] | None:
        """(physical address, log2 of the leaf's bytes, the entry)."""
    def free(self) -> None:
        """Give all frames back; the table is of no use any more."""

def dma_read(
    translator: Translator, requester: int, iova: int, pasid: int | None, length: int, most: int, /
) -> bytes | tuple[bytes, Result | None]:
    """What a device reads; if not all of it, as far as nothing is out of the ordinary.

    That is whole pages in order, while ``most`` holds them. The result is that of the page after them, where it was
    asked for and is counted: a fault, or a translation to where the bytes cannot be copied (a hole, read-only memory,
    callbacks, more than ``most``). None where ``most`` is full, in front of a page whose configuration is not cached
    (nothing is resolved), and for arguments that no device can mean: who calls must check them before going on.
    """

def dma_read_into(
    translator: Translator, requester: int, iova: int, pasid: int | None, length: int, out: Buffer | NDArray[Any], /
) -> tuple[int, Result | None] | None:
    """The same into a writable contiguous buffer of ``length`` bytes; gives how many were read, None where all."""

def dma_write(
    translator: Translator, requester: int, iova: int, pasid: int | None, data: Buffer, /
) -> tuple[int, Result | None] | None:
    """The same for what a device writes; gives how many bytes were written, None where all."""

def dma_copy(
    translator: Translator,
    requester: int,
    source: int,
    source_pasid: int | None,
    target: int,
    target_pasid: int | None,
    length: int,
    times: int = 1,
    /,
) -> tuple[int, bool, Result | None] | None:
    """What a device copies from one IOVA to another, in ascending order, so many times; None where all was copied.

    Else how many bytes were, whether it was the target that stopped it (and not the source), and the result of that
    side, as of `dma_read`. The other side may have been asked for its part of the same bytes.
    """

def read_own(address: int, length: int) -> bytes | None:
    """Copy from memory of this process as a system call does: None where any of it cannot be read."""

def write_own(address: int, data: Buffer) -> bool:
    """Copy to memory of this process as a system call does; False where any of it cannot be written."""

def read_process(process: int, address: int, length: int) -> bytes | None:
    """Copy at most 1 MiB from memory of another process as a system call does: None where any of it cannot be read.

    Raises OSError where this process may not (EPERM), or the other is gone (ESRCH).
    """

def own_mapping(address: int) -> tuple[int, int, int, int, int, int] | None:
    """What is mapped at an address of this process: start, end, flags, offset, device, inode.

    Flags: 1 readable, 2 writable, 4 executable, 8 shared. ``device`` is major << 32 | minor. None: nothing is mapped.
    Raises OSError (ENOTTY) before Linux 6.11.
    """

class Front:
    """Who has translations sent through a Translator; a method of an heir may be `hits_first`."""

    def answer_through(
        self, translator: Translator, requester_last: int, pasid_last: int, requester: int | None = None
    ) -> None:
        """Answer hits from now on, of one requester if it is given (``pasid_last`` -1: there are no PASIDs)."""
    def translate_columns(
        self, heir: type[_Heir], requester: object, iova: object, access: object, pasid: object
    ) -> _Heir | None:
        """Do as `Translator.translate_many` if columns are arrays of its types or single values, and within bounds.

        None, with nothing done, where they are not, and under the sanitizer.
        """

def hits_first(method: _Method) -> _Method:
    """Let a method of a `Front` be asked only for what the engine does not answer as a hit, with a Translation.

    Its parameters are ``(requester, iova, access=READ, pasid=None)``, without the first where the Front is for one
    requester. Whatever else it is given is for the method: wrong arguments, and all else under the sanitizer.
    """

@final
class FileMapping:
    """A stretch of a file (bytes), mapped shared for as long as somebody holds it; a buffer.

    A file may be cut short meanwhile: what is gone of it is empty memory of this process's from then on, until which
    nothing is noticed. Raises OSError.
    """

    def __init__(self, fd: int, offset: int, length: int, writable: bool) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def is_whole(self) -> bool:
        """Whether all that was touched of it was still there."""

@final
class RegisterPage:
    """Registers that are shared memory; a buffer, and a descriptor for whoever maps it elsewhere.

    ``words``: offset and size (4 or 8 bytes) of those that mean something. One shows what hardware put there last; any
    other value is a store of software's. Raises ValueError (length, words), OSError.
    """

    def __init__(self, length: int, words: Sequence[tuple[int, int]]) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def fd(self) -> int:
        """Of its memory; the page's own."""
    def take(self) -> list[tuple[int, int]]:
        """Index and value of each word that software has stored to, which show these values from now on."""
    def shown(self, index: int) -> int:
        """What a word shows. Raises IndexError."""
    def show(self, index: int, before: int, value: int) -> bool:
        """Let a word show a value, unless software has stored to it; False where it does not show ``before`` any more.

        ``before`` is looked at first, then hardware: so that of two who show, the one who looked later counts.
        Raises IndexError.
        """

@final
class RegisterWatch:
    """Waits for stores to pages: awake while there are any, 1 ms late when there were none, 4 ms after a second."""

    def __init__(self) -> None: ...
    def add(self, page: RegisterPage) -> None:
        """Look at a page from now on."""
    def remove(self, page: RegisterPage) -> None:
        """Look at it no more, and let go of it."""
    def touch(self) -> None:
        """Let `wait` return."""
    def end(self) -> None:
        """Let `wait` return False, now and ever after."""
    def wait(self) -> bool:
        """Wait until a word was stored to, or `touch` was called; one thread waits. Without a page it sleeps."""
