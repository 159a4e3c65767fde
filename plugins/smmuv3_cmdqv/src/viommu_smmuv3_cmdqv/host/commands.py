"""The commands that the host itself sends (IHI 0070, chapter 4), as Linux fills them in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_smmuv3_cmdqv.spec.commands import (
    ATC_INV,
    CFGI_CD,
    CFGI_STE,
    CFGI_STE_RANGE,
    PRI_RESP,
    RESUME,
    SYNC,
    TLBI_EL2_ALL,
    TLBI_EL2_ASID,
    TLBI_EL2_VA,
    TLBI_NH_ALL,
    TLBI_NH_ASID,
    TLBI_NH_VA,
    TLBI_NSNH_ALL,
    TLBI_S2_IPA,
    TLBI_S12_VMALL,
    CommandOpcode,
    CompletionSignal,
    PageResponseCode,
    RangeGranule,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu_smmuv3_cmdqv.spec.commands import Command

EVERY_STREAM = 31
"""CFGI_STE_RANGE.Range that means all configuration."""
WHOLE_SPACE = 52
"""ATC_INV.Size that spans everything."""
ATC_PAGE_LG2 = 12
LARGEST_NUM = 31
INNER_SHAREABLE, WRITE_BACK = 3, 0xF


def sync() -> Command:
    """Wait for all before it; hardware's index tells that it is done."""
    return SYNC(Opcode=CommandOpcode.SYNC, CS=CompletionSignal.SEV, MSH=INNER_SHAREABLE, MSIAttr=WRITE_BACK)


def silent_sync() -> Command:
    """Wait for all before it, and tell nobody: what a VCMDQ is given."""
    return SYNC(Opcode=CommandOpcode.SYNC, MSH=INNER_SHAREABLE, MSIAttr=WRITE_BACK)


def forget_all_configuration() -> Command:
    """Forget every STE and CD."""
    return CFGI_STE_RANGE(Opcode=CommandOpcode.CFGI_STE_RANGE, Range=EVERY_STREAM)


def forget_ste(sid: int, *, leaf: bool = True) -> Command:
    """Forget an STE; not ``leaf``: the L1STD too."""
    return CFGI_STE(Opcode=CommandOpcode.CFGI_STE, SID=sid, Leaf=leaf)


def forget_cd(sid: int, ssid: int, *, leaf: bool = True) -> Command:
    """Forget a CD; not ``leaf``: the L1CD too."""
    return CFGI_CD(Opcode=CommandOpcode.CFGI_CD, SID=sid, SSID=ssid, Leaf=leaf)


def forget_el1() -> Command:
    """Forget all translations but EL2's."""
    return TLBI_NSNH_ALL(Opcode=CommandOpcode.TLBI_NSNH_ALL)


def forget_el2() -> Command:
    """Forget EL2's translations."""
    return TLBI_EL2_ALL(Opcode=CommandOpcode.TLBI_EL2_ALL)


def forget_vm(vmid: int) -> Command:
    """Forget all that a VM has."""
    return TLBI_S12_VMALL(Opcode=CommandOpcode.TLBI_S12_VMALL, VMID=vmid)


def forget_stage1_of_vm(vmid: int) -> Command:
    """Forget what stage 1 gave a VM."""
    return TLBI_NH_ALL(Opcode=CommandOpcode.TLBI_NH_ALL, VMID=vmid)


def forget_asid(asid: int, *, el2: bool) -> Command:
    """Forget one address space of the host's."""
    if el2:
        return TLBI_EL2_ASID(Opcode=CommandOpcode.TLBI_EL2_ASID, ASID=asid)
    return TLBI_NH_ASID(Opcode=CommandOpcode.TLBI_NH_ASID, ASID=asid)


def resume(sid: int, tag: int, *, again: bool) -> Command:
    """End the wait of a stalled access: it is tried again, or ends with an abort."""
    return RESUME(Opcode=CommandOpcode.RESUME, SID=sid, STAG=tag, Ac=again, Ab=not again)


def page_response(sid: int, ssid: int | None, group: int, code: PageResponseCode) -> Command:
    """Answer a group of page requests."""
    return PRI_RESP(
        Opcode=CommandOpcode.PRI_RESP, SID=sid, SSV=ssid is not None, SSID=ssid or 0, PRGIndex=group, Resp=code
    )


def forget_in_device(sid: int, ssid: int | None, start: int, last: int) -> Command:
    """Have a device forget addresses: the smallest aligned power of two of pages that holds them."""
    lg2 = ((start ^ last) >> ATC_PAGE_LG2).bit_length()
    return _atc(sid, ssid, start >> ATC_PAGE_LG2 + lg2 << ATC_PAGE_LG2 + lg2, lg2)


def forget_all_in_device(sid: int, ssid: int | None = None) -> Command:
    """Have a device forget all, or all of one PASID."""
    return _atc(sid, ssid, 0, WHOLE_SPACE)


def _atc(sid: int, ssid: int | None, address: int, size: int) -> Command:
    return ATC_INV(
        Opcode=CommandOpcode.ATC_INV, SID=sid, SSV=ssid is not None, SSID=ssid or 0, Address=address, Size=size
    )


@frozen
class AddressSpace:
    """Whose addresses are to be forgotten: one ASID of the host's (``el2``: of its EL2), or stage 2 of a VM."""

    asid: int | None = None
    vmid: int = 0
    el2: bool = False

    def everything(self) -> Command:
        """Forget all of it."""
        return forget_vm(self.vmid) if self.asid is None else forget_asid(self.asid, el2=self.el2)

    def one(self, address: int, **fields: int) -> Command:
        """Forget one address, or (fields) a range."""
        if self.asid is None:
            return TLBI_S2_IPA(Opcode=CommandOpcode.TLBI_S2_IPA, VMID=self.vmid, Address=address, **fields)
        if self.el2:
            return TLBI_EL2_VA(Opcode=CommandOpcode.TLBI_EL2_VA, ASID=self.asid, Address=address, **fields)
        return TLBI_NH_VA(Opcode=CommandOpcode.TLBI_NH_VA, ASID=self.asid, Address=address, **fields)


@frozen
class Span:
    """Addresses to be forgotten, and the leaves that were there; ``leaf``: no table was taken away.

    ``page_lg2``: of the smallest leaf, others may be larger; ``granule_lg2``: of the table's pages. ``ranges``: the
    SMMU takes ranges.
    """

    start: int
    length: int
    page_lg2: int
    granule_lg2: int
    leaf: bool
    ranges: bool

    def commands(self, space: AddressSpace) -> Iterator[Command]:
        """Give what has them forgotten. Without ranges, more than a table's entries are forgotten all at once."""
        if self.ranges:
            yield from self._by_ranges(space)
        elif self.length >> self.page_lg2 >= 1 << self.granule_lg2 - 3:
            yield space.everything()
        else:
            for address in range(self.start, self.start + self.length, 1 << self.page_lg2):
                yield space.one(address, Leaf=self.leaf)

    def _by_ranges(self, space: AddressSpace) -> Iterator[Command]:
        granule = RangeGranule((self.granule_lg2 - 10) // 2)
        pages, address, level = self.length >> self.granule_lg2, self.start, 0
        if self.leaf and self.length == 1 << self.page_lg2:
            level = 3 - (self.page_lg2 - self.granule_lg2) // (self.granule_lg2 - 3)
        elif pages & LARGEST_NUM == 1:
            pages += 1  # NUM and SCALE 0 with TTL 0 would be reserved
        while pages:
            scale = (pages & -pages).bit_length() - 1
            count = pages >> scale & LARGEST_NUM
            yield space.one(address, Leaf=self.leaf, TG=granule, TTL=level, SCALE=scale, NUM=count - 1)
            address += count << scale + self.granule_lg2
            pages -= count << scale
