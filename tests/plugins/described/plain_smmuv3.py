"""What SMMU commands do to caches, read off bits by plain arithmetic (IHI 0070, chapter 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu.platform import Caches
    from viommu_smmuv3_cmdqv.spec.command_meanings import CommandAbilities

LAST = (1 << 64) - 1
NO_PASID = 0xFFFF_FFFF
STAGE1 = {0x05: "CFGI_CD", 0x06: "CFGI_CD_ALL"} | {
    0x10: "TLBI_NH_ALL",
    0x11: "TLBI_NH_ASID",
    0x12: "TLBI_NH_VA",
    0x13: "TLBI_NH_VAA",
}
STAGE2 = {0x28: "TLBI_S12_VMALL", 0x2A: "TLBI_S2_IPA"}
EL2 = {0x20: "TLBI_EL2_ALL", 0x21: "TLBI_EL2_ASID", 0x22: "TLBI_EL2_VA", 0x23: "TLBI_EL2_VAA"}
ALWAYS = {0x01: "PREFETCH_CONFIG", 0x02: "PREFETCH_ADDR", 0x03: "CFGI_STE", 0x04: "CFGI_STE_RANGE"} | {
    0x30: "TLBI_NSNH_ALL"
}


def execute(raw: bytes, able: CommandAbilities, caches: Caches) -> str | None:
    """Do one command and give its name; None for those that are not about caches, or are illegal."""
    names = ALWAYS | (STAGE1 if able.stage1 else {}) | (STAGE2 if able.stage2 else {}) | (EL2 if able.el2 else {})
    low = int.from_bytes(raw[:8], "little")
    name = names.get(raw[0])
    if name is None or low >> 10 & 1:
        return None
    if name.startswith("CFGI"):
        _configuration(name, raw, caches)
    elif name == "TLBI_NSNH_ALL":
        caches.invalidate_all()
    elif name.startswith("TLBI_EL2"):
        _el2(name, raw, able, caches)
    elif name.startswith("TLBI"):
        for tag in vmids(low >> 32 & 0xFFFF, able):
            _el1(name, tag, raw, able, caches)
    return name


def vmids(vmid: int, able: CommandAbilities) -> list[int]:
    if not able.stage2:
        return [0]
    vmid %= 1 << (16 if able.wide_vmids else 8)
    size = 2**able.wildcard_lg2
    return [vmid // size * size + n for n in range(size)]


def span(raw: bytes, able: CommandAbilities) -> tuple[int, int]:
    """The range of a TLBI by address (4.4.1.1); bit 55 stands for all bits above it."""
    low, high = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
    address = high >> 12 << 12 & (1 << 56) - 1
    if address >> 55:
        address |= 0xFF << 56
    granule = {1: 1 << 12, 2: 1 << 14, 3: 1 << 16}.get(high >> 10 & 3)
    if granule is None or not able.ranges:
        return address, address + 0xFFF
    start = address // granule * granule
    blocks = ((low >> 12 & 0x1F) + 1) * 2 ** (low >> 20 & 0x1F)
    return start, min(start + blocks * granule - 1, LAST)


def _configuration(name: str, raw: bytes, caches: Caches) -> None:
    low = int.from_bytes(raw[:8], "little")
    stream, substream, reach = low >> 32, low >> 12 & 0xF_FFFF, raw[8] & 0x1F
    if name == "CFGI_CD":
        caches.invalidate_contexts(stream, substream)
        if substream == 0:
            caches.invalidate_contexts(stream, NO_PASID)
    elif name == "CFGI_STE_RANGE" and reach >= 8:
        caches.invalidate_contexts()
    else:
        count = 2 ** (reach + 1) if name == "CFGI_STE_RANGE" else 1
        for one in range(stream // count * count, stream // count * count + count):
            caches.invalidate_contexts(one)


def _el1(name: str, tag: int, raw: bytes, able: CommandAbilities, caches: Caches) -> None:
    leaf = bool(raw[8] & 1)
    asid = _asid(raw, able)
    if name == "TLBI_NH_ALL":
        caches.invalidate_stage2_tag(tag, stage1_only=True)
    elif name == "TLBI_S12_VMALL":
        caches.invalidate_stage2_tag(tag)
    elif name == "TLBI_NH_ASID":
        caches.invalidate_stage1_tag(tag, asid)
    elif name == "TLBI_S2_IPA":
        high = int.from_bytes(raw[8:], "little") & (1 << 52) - 1  # an IPA ends at bit 51
        caches.invalidate_stage2_range(tag, *span(raw[:8] + high.to_bytes(8, "little"), able), leaf_only=leaf)
    else:
        caches.invalidate_range(tag, asid if name == "TLBI_NH_VA" else None, *span(raw, able), leaf_only=leaf)


def _el2(name: str, raw: bytes, able: CommandAbilities, caches: Caches) -> None:
    plain, e2h = able.el2_tags
    leaf, asid = bool(raw[8] & 1), _asid(raw, able)
    if name == "TLBI_EL2_ALL":
        caches.invalidate_stage2_tag(plain)
        caches.invalidate_stage2_tag(e2h)
    elif name == "TLBI_EL2_ASID":
        caches.invalidate_stage1_tag(e2h, asid)
    else:
        caches.invalidate_range(plain, None, *span(raw, able), leaf_only=leaf)
        own = asid if name == "TLBI_EL2_VA" else None
        caches.invalidate_range(e2h, own, *span(raw, able), leaf_only=leaf)


def _asid(raw: bytes, able: CommandAbilities) -> int:
    return int.from_bytes(raw[6:8], "little") if able.wide_asids else raw[6]
