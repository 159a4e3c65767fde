"""What VT-d descriptors do to caches, read off bits by plain arithmetic (VT-d 6.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Caches
    from viommu_vtd.spec.command_meanings import CommandAbilities

LAST = (1 << 64) - 1
CONTEXT, IOTLB, WAIT, PASID_IOTLB = 1, 2, 5, 6
NAMES = {CONTEXT: "context_cache", IOTLB: "iotlb", WAIT: "wait", PASID_IOTLB: "pasid_iotlb"}
USED = {
    CONTEXT: (0x0003_FFFF_FFFF_003F, 0),
    IOTLB: (0x0000_0000_FFFF_00FF, 0xFFFF_FFFF_FFFF_F07F),
    WAIT: (0xFFFF_FFFF_0000_00FF, 0xFFFF_FFFF_FFFF_FFFC),
    PASID_IOTLB: (0x000F_FFFF_FFFF_003F, 0xFFFF_FFFF_FFFF_F07F),
}
"""The bits of each word that mean something; others are reserved."""


@define
class Plain:
    """Executes descriptors. ``nested``: DIDs of nested translations; ``unanswered``: no wait may complete."""

    able: CommandAbilities
    caches: Caches
    memory: PhysicalMemory
    nested: set[int] = field(factory=set)
    unanswered: bool = False

    def execute(self, raw: bytes) -> str | None:
        """Do one and give its name; None for those that are refused, or not about caches alone."""
        low, high = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:16], "little")
        kind = low & 0xF
        if kind not in USED or (kind == PASID_IOTLB and not self.able.scalable) or any(raw[16:]):
            return None
        if low & ~USED[kind][0] or high & ~USED[kind][1]:
            return None
        act = {CONTEXT: self._context, IOTLB: self._iotlb, WAIT: self._wait, PASID_IOTLB: self._pasid_iotlb}[kind]
        return NAMES[kind] if act(low, high) else None

    def _context(self, low: int, _: int) -> bool:
        """Of a device: what differs from it in function bits that FM ignores, from bit 2 down."""
        if low >> 4 & 3 != 3:
            return False
        source, ignored = low >> 32 & 0xFFFF, (0, 0b100, 0b110, 0b111)[low >> 48 & 3]
        for function in range(8):
            if function & ~ignored == 0:
                self.caches.invalidate_contexts(source ^ function)
        return True

    def _iotlb(self, low: int, high: int) -> bool:
        granularity, domain, mask = low >> 4 & 3, low >> 16 & 0xFFFF, high & 0x3F
        if granularity == 1:
            self.caches.invalidate_all()
        elif granularity == 2:
            self.caches.invalidate_stage2_tag(domain)
        elif granularity == 3 and self.able.psi and mask <= self.able.mamv:
            self.caches.invalidate_stage2_range(domain, *pages(high, mask), leaf_only=bool(high >> 6 & 1))
            if domain in self.nested:
                self.caches.invalidate_stage2_tag(domain, stage1_only=True)
        else:
            return False
        return True

    def _pasid_iotlb(self, low: int, high: int) -> bool:
        granularity, domain, pasid = low >> 4 & 3, low >> 16 & 0xFFFF, low >> 32 & 0xF_FFFF
        if granularity == 2:
            self.caches.invalidate_stage1_tag(domain, pasid)
        elif granularity == 3:
            leaf = bool(high >> 6 & 1)
            self.caches.invalidate_range(domain, pasid, *pages(high, high & 0x3F), leaf_only=leaf)
        return granularity >= 2

    def _wait(self, low: int, high: int) -> bool:
        interrupts, stores, drains = low >> 4 & 1, low >> 5 & 1, low >> 7 & 1
        if interrupts or self.unanswered or (drains and not self.able.pds):
            return False
        return not stores or self.memory.write(high, (low >> 32).to_bytes(4, "little"))


def pages(high: int, mask: int) -> tuple[int, int]:
    """2^mask pages around an address."""
    size = 4096 * 2**mask
    start = (high >> 12 << 12) // size * size
    return start, min(start + size - 1, LAST)
