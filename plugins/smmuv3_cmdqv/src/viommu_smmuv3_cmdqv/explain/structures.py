"""What structures, page-table entries and page requests say, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from viommu.formats import entry_layout
from viommu.hookspecs import Decoded, Registers
from viommu_smmuv3_cmdqv.explain.words import complaints_of, granule, stream
from viommu_smmuv3_cmdqv.features import read_features
from viommu_smmuv3_cmdqv.hardware.legality import cd_complaints, ste_complaints
from viommu_smmuv3_cmdqv.hardware.stream import LARGEST_SPAN
from viommu_smmuv3_cmdqv.identity import WHOLE_MODEL
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD, L1CD
from viommu_smmuv3_cmdqv.spec.page_requests import PageRequestRecord
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.layout import Descriptor

_MODEL = read_features(Registers(dict(WHOLE_MODEL)))
ABLEST = evolve(_MODEL, idr0=_MODEL.idr0.replace(NS1ATS=0))
"""An SMMU that lacks nothing: what it refuses, any other does too."""
LENIENT_STE = STE(V=1, Config=StreamConfig.STAGE1, S1CDMax=20)

CONFIGS = {
    StreamConfig.ABORT: "every transaction of the stream is ended, without an event",
    StreamConfig.BYPASS: "the stream passes untranslated",
    StreamConfig.STAGE1: "stage 1 translates the stream",
    StreamConfig.STAGE2: "stage 2 translates the stream",
    StreamConfig.NESTED: "stage 1 translates the stream, then stage 2",
}


def decode_ste(raw: bytes) -> Decoded:
    """Explain a stream table entry."""
    ste = STE.decode(raw)
    complaints = list(complaints_of(ste))
    if ste.V and ste.Config >= StreamConfig.BYPASS:
        complaints += ste_complaints(ste, ABLEST)
    return Decoded("ste", "STE", ste, _ste(ste), tuple(complaints))


def _ste(ste: STE) -> str:
    if not ste.V:
        return "not valid: transactions of the stream are C_BAD_STE"
    config = StreamConfig(ste.Config) if ste.Config in set(StreamConfig) else StreamConfig.ABORT
    parts = [CONFIGS[config]]
    if config & 1:
        count = f"{1 << ste.S1CDMax} CDs" if ste.S1CDMax else "one CD"
        parts.append(f"{count} at {'IPA ' if config & 2 else ''}{ste.S1ContextPtr:#x}")
    if config & 2:
        parts.append(f"stage-2 table at {ste.S2TTB:#x}, {64 - ste.S2T0SZ} bits of IPA, VMID {ste.S2VMID:#x}")
    return ", ".join(parts)


def decode_cd(raw: bytes) -> Decoded:
    """Explain a context descriptor."""
    cd = CD.decode(raw)
    complaints = list(complaints_of(cd))
    if cd.V:
        complaints += cd_complaints(cd, LENIENT_STE, ABLEST)
    return Decoded("cd", "CD", cd, _cd(cd), tuple(complaints))


def _cd(cd: CD) -> str:
    if not cd.V:
        return "not valid: transactions that need it are C_BAD_CD"
    halves = [
        f"TTB{n} at {table:#x} for {64 - size} bits"
        for n, table, size, off in ((0, cd.TTB0, cd.T0SZ, cd.EPD0), (1, cd.TTB1, cd.T1SZ, cd.EPD1))
        if not off
    ]
    faults = "faults stall" if cd.S else "faults are recorded" if cd.R else "faults leave no record"
    return f"{', '.join(halves) or 'no table is walked'}, ASID {cd.ASID:#x}, {faults}"


def decode_l1std(raw: bytes) -> Decoded:
    """Explain the first level of a stream table."""
    l1std = L1STD.decode(raw)
    complaints = list(complaints_of(l1std))
    if l1std.SPAN > LARGEST_SPAN:
        complaints.append(f"SPAN {l1std.SPAN} is above {LARGEST_SPAN}: C_BAD_STREAMID")
    meaning = "not valid: its streams are C_BAD_STREAMID"
    if l1std.SPAN:
        meaning = f"{1 << l1std.SPAN - 1} STEs at {l1std.L2PTR:#x}"
    return Decoded("l1std", "L1STD", l1std, meaning, tuple(complaints))


def decode_l1cd(raw: bytes) -> Decoded:
    """Explain the first level of a CD table."""
    l1cd = L1CD.decode(raw)
    meaning = f"a table of CDs at {l1cd.L2PTR:#x}" if l1cd.V else "not valid: its substreams are C_BAD_SUBSTREAMID"
    return Decoded("l1cd", "L1CD", l1cd, meaning, tuple(complaints_of(l1cd)))


def decode_page_request(raw: bytes) -> Decoded:
    """Explain 16 bytes of a PRI queue."""
    request = PageRequestRecord.decode(raw)
    wanted = " and ".join(name for name in ("read", "write", "execute") if getattr(request, _BIT_OF[name]))
    privilege = "privileged" if request.Priv else "unprivileged"
    who = stream(request.SID, request.SSID_V, request.SSID)
    last = ", the last of it" if request.Last else ""
    what = f"asks for {request.Address:#x}, {privilege}, to {wanted}" if wanted else "stops asking for pages"
    meaning = f"{who} {what}; group {request.PRGIndex:#x}{last}"
    return Decoded("page-request", "PRI_REQUEST", request, meaning, tuple(complaints_of(request)))


_BIT_OF = {"read": "Read", "write": "Write", "execute": "Exec"}


def decode_pte(kind: str, stage: int, level: int, raw: bytes) -> Decoded:
    """Explain an entry of a page table; ``level`` is Arm's, 3 holds pages."""
    value = int.from_bytes(raw, "little")
    layout = entry_layout(f"ArmStage{stage}", "fault", 3 - level, value)
    if layout is None:
        raise ValueError(f"the engine has no layout of stage {stage}")
    entry = layout.decode(raw)
    return Decoded(kind, layout.__name__, entry, _pte(stage, level, value, entry), tuple(_pte_complaints(level, entry)))


def _pte(stage: int, level: int, value: int, entry: Descriptor) -> str:
    if not value & 1 or (level == 3 and not value & 2):
        return "not valid: F_TRANSLATION"
    address = getattr(entry, "Address", 0)
    if level < 3 and value & 2:
        return f"leads to the level-{level + 1} table at {address:#x} (4K granule)"
    rights = getattr(entry, "AP" if stage == 1 else "S2AP")
    sizes = {1: 30, 2: 21, 3: 12}
    size = f"{granule(sizes[level])} (4K granule) " if level in sizes else ""
    flag = "" if getattr(entry, "AF", 1) else ", access flag clear"
    return f"maps {size}to {address:#x}, {getattr(rights, 'name', rights)}{flag}"


def _pte_complaints(level: int, entry: Descriptor) -> Iterator[str]:
    yield from complaints_of(entry)
    if level == 3 and int(entry) & 3 == 1:
        yield "type 1 is reserved at level 3: F_TRANSLATION"
    if level == 0 and int(entry) & 3 == 1:
        yield "a block at level 0 needs 52-bit addresses (DS): F_TRANSLATION without"
