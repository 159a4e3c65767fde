"""Structures in memory, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.formats import entry_layout
from viommu.hookspecs import Decoded
from viommu_vtd.explain.words import complaints, device, size
from viommu_vtd.spec.interrupts import IRTE
from viommu_vtd.spec.pasid import DIRECTORY_BITS, TABLE_BITS, PasidDirectoryEntry, PasidTableEntry
from viommu_vtd.spec.root_context import ContextEntry, RootEntry, ScalableContextEntry, ScalableRootEntry

if TYPE_CHECKING:
    from viommu.layout import Descriptor

ABSENT = "Not present: nothing else in it counts{}."
SILENT = " but FPD, which keeps its faults unrecorded"
LEVEL_BITS, PAGE_LG2 = 9, 12


def decode_root(raw: bytes) -> Decoded:
    """Explain a root entry of legacy mode."""
    entry = RootEntry.decode(raw)
    meaning = f"The context table of this bus is at {entry.CTP:#x}." if entry.P else ABSENT.format("")
    return _told("root-entry", entry, meaning, present=entry.P)


def decode_scalable_root(raw: bytes) -> Decoded:
    """Explain a root entry of scalable mode."""
    entry = ScalableRootEntry.decode(raw)
    halves = [
        f"{name} at {pointer:#x}" if present else f"{name} not present"
        for name, present, pointer in (
            ("devfn 0 to 127", entry.LP, entry.LCTP),
            ("devfn 128 to 255", entry.UP, entry.UCTP),
        )
    ]
    return _told("scalable-root-entry", entry, f"Context tables: {', '.join(halves)}.", present=entry.LP or entry.UP)


def decode_context(raw: bytes) -> Decoded:
    """Explain a context entry of legacy mode."""
    entry = ContextEntry.decode(raw)
    if not entry.P:
        return _told("context-entry", entry, ABSENT.format(SILENT if entry.FPD else ""), present=0)
    tables = f"through the {entry.AW + 2}-level second stage at {entry.SSPTPTR:#x}"
    ways = {0: f"{tables}; ATS is refused", 1: f"{tables}; ATS is allowed", 2: "untranslated (pass-through)"}
    meaning = f"DMA of domain {entry.DID} goes {ways.get(entry.TT, 'nowhere: TT is reserved')}{_fpd(entry.FPD)}."
    found = [] if 1 <= entry.AW <= 3 else [f"AW {entry.AW:d} is no width"]
    return _told("context-entry", entry, meaning, found)


def decode_scalable_context(raw: bytes) -> Decoded:
    """Explain a context entry of scalable mode."""
    entry = ScalableContextEntry.decode(raw)
    if not entry.P:
        return _told("scalable-context-entry", entry, ABSENT.format(SILENT if entry.FPD else ""), present=0)
    limit = 1 << entry.PDTS + DIRECTORY_BITS + TABLE_BITS
    allowed = [f"{what} {'allowed' if bit else 'refused'}" for what, bit in (
        ("ATS", entry.DTE), ("PASIDs", entry.PASIDE), ("page requests", entry.PRE),
    )]  # fmt: skip
    meaning = (
        f"PASIDs below {limit:#x} are looked up in the directory at {entry.PASIDDIRPTR:#x}; requests without one take"
        f" {entry.RID_PASID:#x}{' as privileged' if entry.RID_PRIV else ''}; {', '.join(allowed)}{_fpd(entry.FPD)}."
    )
    found = (
        [f"RID_PASID {entry.RID_PASID:#x} is not below {limit:#x} (reason 0x48)"] if limit <= entry.RID_PASID else []
    )
    return _told("scalable-context-entry", entry, meaning, found)


def decode_pasid_directory(raw: bytes) -> Decoded:
    """Explain a PASID directory entry."""
    entry = PasidDirectoryEntry.decode(raw)
    meaning = f"The table of these 64 PASIDs is at {entry.SMPTBLPTR:#x}{_fpd(entry.FPD)}."
    absent = ABSENT.format(SILENT if entry.FPD else "")
    return _told("pasid-directory-entry", entry, meaning if entry.P else absent, present=entry.P)


def decode_pasid(raw: bytes) -> Decoded:
    """Explain a PASID table entry."""
    entry = PasidTableEntry.decode(raw)
    if not entry.P:
        return _told("pasid-entry", entry, ABSENT.format(SILENT if entry.FPD else ""), present=0)
    first = f"the {'5' if entry.FSPM == 1 else '4'}-level first stage at {entry.FSPTPTR:#x}"
    second = f"the {entry.AW + 2}-level second stage at {entry.SSPTPTR:#x}"
    ways = {1: f"through {first}", 2: f"through {second}", 3: f"through {first}, nested on {second}", 4: "untranslated"}
    meaning = f"DMA of domain {entry.DID} goes {ways.get(entry.PGTT, 'nowhere: PGTT is reserved')}{_fpd(entry.FPD)}."
    found = []
    if entry.PGTT in {2, 3} and not 1 <= entry.AW <= 3:
        found.append(f"AW {entry.AW:d} is no width (reason 0x5b)")
    if entry.PGTT in {1, 3} and not entry.PWSNP:
        found.append("PWSNP is 0: accessed and dirty bits of first stage cannot be stored (reason 0x90)")
    return _told("pasid-entry", entry, meaning, found)


def decode_irte(raw: bytes) -> Decoded:
    """Explain an interrupt remapping table entry of remapped format."""
    entry = IRTE.decode(raw)
    who = {0: "any device", 1: f"{device(entry.SID)}", 2: f"buses {entry.SID >> 8:02x} to {entry.SID & 0xFF:02x}"}
    meaning = (
        f"Interrupts of {who.get(entry.SVT, 'nobody: SVT is reserved')} become vector {entry.V:#x}, to {entry.DST:#x}."
    )
    found = ["IM is 1: this is a posted entry, whose other fields differ"] if entry.P and entry.IM else []
    return _told("irte", entry, meaning if entry.P else ABSENT.format(""), found, present=entry.P)


def decode_pte(kind: str, form: str, level: int, raw: bytes) -> Decoded:
    """Explain a page-table entry of a format of the engine; level 0 holds the smallest pages."""
    number = int.from_bytes(raw, "little")
    leaf = level == 0 or (level <= 2 and bool(number >> 7 & 1))
    layout = entry_layout(form, "leaf" if leaf else "table", level, number)
    if layout is None:
        raise LookupError(form)  # a kind that `KINDS` should not have
    entry = layout.decode(raw)
    first = form == "X86"
    present = number & 1 if first else number & 3
    rights = _first_stage_rights(number) if first else _second_stage_rights(number)
    if not present:
        return _told(kind, entry, "Not present: nothing is mapped here.", present=0)
    address = getattr(entry, "Address")  # noqa: B009 - every one of them has it
    span = size(PAGE_LG2 + LEVEL_BITS * level)
    what = f"A page of {span} at {address:#x}" if leaf else f"The next table, at {address:#x}"
    return _told(kind, entry, f"{what}: {rights}.")


def _first_stage_rights(raw: int) -> str:
    may = ["readable", "writable" if raw & 2 else "read-only", "user" if raw & 4 else "supervisor only"]
    return ", ".join([*may[1:], *(["no execute"] if raw >> 63 else [])])


def _second_stage_rights(raw: int) -> str:
    return {1: "readable", 2: "writable", 3: "readable and writable"}.get(raw & 3, "no rights")


def _fpd(bit: int) -> str:
    return "; faults are not recorded (FPD)" if bit else ""


def _told(kind: str, entry: Descriptor, meaning: str, found: list[str] | None = None, *, present: int = 1) -> Decoded:
    """Nothing is wrong with what is not present."""
    wrong = (*complaints(entry), *(found or ())) if present else ()
    return Decoded(kind, type(entry).__name__, entry, meaning, wrong)
