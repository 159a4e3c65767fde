"""Invalidation descriptors in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from viommu.commands import span_of
from viommu.hookspecs import Decoded
from viommu_vtd.explain.words import PAGE_LG2, bits_text, complaints, device, listed, size
from viommu_vtd.spec.command_meanings import extent
from viommu_vtd.spec.commands import (
    COMMANDS,
    TYPE_BITS,
    WIDE,
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InterruptEntryCacheInvalidate,
    Invalidation,
    InvalidationType,
    InvalidationWait,
    IotlbInvalidate,
    PageGroupResponse,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
    ResponseCode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NARROW = 16
NAMES: Mapping[InvalidationType, str] = {
    InvalidationType.CONTEXT_CACHE: "context-cache invalidate",
    InvalidationType.IOTLB: "IOTLB invalidate",
    InvalidationType.DEVICE_TLB: "device-TLB invalidate",
    InvalidationType.INTERRUPT_ENTRY_CACHE: "interrupt entry cache invalidate",
    InvalidationType.WAIT: "invalidation wait",
    InvalidationType.PASID_IOTLB: "PASID-based IOTLB invalidate",
    InvalidationType.PASID_CACHE: "PASID-cache invalidate",
    InvalidationType.PASID_DEVICE_TLB: "PASID-based device-TLB invalidate",
    InvalidationType.PAGE_GROUP_RESPONSE: "page group response",
}
SHORT: Mapping[InvalidationType, tuple[str, ...]] = {
    InvalidationType.CONTEXT_CACHE: ("context-cache", "cc"),
    InvalidationType.IOTLB: ("iotlb",),
    InvalidationType.DEVICE_TLB: ("device", "device-tlb"),
    InvalidationType.INTERRUPT_ENTRY_CACHE: ("iec",),
    InvalidationType.WAIT: ("wait",),
    InvalidationType.PASID_IOTLB: ("p-iotlb",),
    InvalidationType.PASID_CACHE: ("pasid-cache", "pc"),
    InvalidationType.PASID_DEVICE_TLB: ("p-device", "p-device-tlb"),
    InvalidationType.PAGE_GROUP_RESPONSE: ("page-response",),
}
"""What people call them."""

SCALABLE_ONLY = "only scalable mode has it: its queue is of 256-bit descriptors (IQA.DW)"


def decode_command(raw: bytes) -> Decoded:
    """Explain one descriptor, of 128 or 256 bits."""
    number = int.from_bytes(raw, "little")
    kind = number & 0xF
    upper = bits_text(number & (1 << TYPE_BITS[1][0] + 1) - (1 << TYPE_BITS[1][1]))
    if kind not in COMMANDS:
        return _unknown(raw, kind)
    layouts = COMMANDS if len(raw) == NARROW else WIDE
    command = layouts[InvalidationType(kind)].decode(raw)
    found = list(complaints(command))
    if upper:
        found.insert(0, f"bits {upper} are part of the type: no such type (IQEI 3)")
    found += _refusals(command, kind, len(raw))
    which = InvalidationType(kind)
    return Decoded("command", NAMES[which], command, MEANINGS[which](command), tuple(found), aliases=SHORT[which])


def _unknown(raw: bytes, kind: int) -> Decoded:
    layout = Invalidation if len(raw) == NARROW else _UnknownWide
    command = layout.decode(raw)
    return Decoded(
        "command",
        "unknown",
        command,
        f"There is no descriptor of type {kind}: the queue stops here.",
        (f"type {kind} is reserved (IQEI 3)",),
    )


class _UnknownWide(Invalidation, width=256):
    """A descriptor whose type nobody knows, in a queue of 256-bit ones."""


def _refusals(command: Invalidation, kind: int, width: int) -> list[str]:
    if width == NARROW and kind > InvalidationType.WAIT:
        return [SCALABLE_ONLY]
    if isinstance(command, InvalidationWait) and not command.SW and not command.IF:
        return ["neither SW nor IF: nobody learns that it is done (some hardware refuses that)"]
    return []


def _pages(this: IotlbInvalidate | PasidIotlbInvalidate) -> str:
    start, _ = span_of(extent(type(this)), int(this))
    return f"{size(PAGE_LG2 + this.AM)} at {start:#x}" + (", leaves only" if this.IH else "")


def _context_cache(command: Invalidation) -> str:
    this = cast("ContextCacheInvalidate", command)
    ignored = ("", " and function ^4", " and functions that differ in bits 2:1", " and all functions of it")[this.FM]
    what = {
        1: "all context entries",
        2: f"the context entries of domain {this.DID} (in scalable mode: all)",
        3: f"the context entries of {device(this.SID)}{ignored}",
    }
    return f"Drop {what.get(this.G, 'nothing: G is reserved')}."


def _iotlb(command: Invalidation) -> str:
    this = cast("IotlbInvalidate", command)
    what = {
        1: "every translation",
        2: f"all translations of domain {this.DID}",
        3: f"second-stage translations of domain {this.DID} for {_pages(this)}",
    }
    return f"Drop {what.get(this.G, 'nothing: G is reserved')}."


def _device_range(address: int, sized: int) -> str:
    if not sized:
        return f"4 KiB at {address:#x}"
    above = address >> PAGE_LG2
    lg2 = PAGE_LG2 + (~above & above + 1).bit_length()
    return "any address" if lg2 >= 64 else f"{size(lg2)} at {address & -(1 << lg2):#x}"


def _device_tlb(command: Invalidation) -> str:
    this = cast("DeviceTlbInvalidate", command)
    return f"Tell {device(this.SID)} to drop its translations without PASID of {_device_range(this.ADDR, this.S)}."


def _interrupt_entries(command: Invalidation) -> str:
    this = cast("InterruptEntryCacheInvalidate", command)
    if not this.G:
        return "Drop all interrupt remapping entries."
    return f"Drop {1 << this.IM} interrupt remapping entries from index {this.IIDX:#x}."


def _wait(command: Invalidation) -> str:
    this = cast("InvalidationWait", command)
    told = [f"store {this.STDATA:#x} at {this.STADDR:#x}"] if this.SW else []
    told += ["set ICS.IWC and interrupt"] if this.IF else []
    fence = "; nothing after it starts before" if this.FN else ""
    drain = " and page requests are in their queue" if this.PD else ""
    return f"When all before it is done{drain}, {listed(told, 'do nothing')}{fence}."


def _pasid_iotlb(command: Invalidation) -> str:
    this = cast("PasidIotlbInvalidate", command)
    what = {
        2: f"all first-stage and nested translations of PASID {this.PASID:#x} in domain {this.DID}",
        3: f"first-stage and nested translations of PASID {this.PASID:#x} in domain {this.DID} for {_pages(this)}",
    }
    return f"Drop {what.get(this.G, 'nothing: G is reserved')}."


def _pasid_cache(command: Invalidation) -> str:
    this = cast("PasidCacheInvalidate", command)
    what = {
        0: f"the PASID table entries of domain {this.DID}",
        1: f"the entries of PASID {this.PASID:#x} in domain {this.DID}",
        3: "all PASID table entries",
    }
    return f"Drop {what.get(this.G, 'nothing: G is reserved')}."


def _pasid_device_tlb(command: Invalidation) -> str:
    this = cast("PasidDeviceTlbInvalidate", command)
    whose = "every PASID" if this.G else f"PASID {this.PASID:#x}"
    return f"Tell {device(this.SID)} to drop its translations of {whose} for {_device_range(this.ADDR, this.S)}."


def _page_response(command: Invalidation) -> str:
    this = cast("PageGroupResponse", command)
    pasid = f", PASID {this.PASID:#x}" if this.PASID_P else ""
    meaning = {ResponseCode.SUCCESS: "success", ResponseCode.INVALID: "invalid request"}.get(
        cast("ResponseCode", this.RESP), "failure"
    )
    return f"Answer page request group {this.PRGI} of {device(this.RID)}{pasid}: {meaning}."


MEANINGS: Mapping[InvalidationType, Callable[[Invalidation], str]] = {
    InvalidationType.CONTEXT_CACHE: _context_cache,
    InvalidationType.IOTLB: _iotlb,
    InvalidationType.DEVICE_TLB: _device_tlb,
    InvalidationType.INTERRUPT_ENTRY_CACHE: _interrupt_entries,
    InvalidationType.WAIT: _wait,
    InvalidationType.PASID_IOTLB: _pasid_iotlb,
    InvalidationType.PASID_CACHE: _pasid_cache,
    InvalidationType.PASID_DEVICE_TLB: _pasid_device_tlb,
    InvalidationType.PAGE_GROUP_RESPONSE: _page_response,
}
