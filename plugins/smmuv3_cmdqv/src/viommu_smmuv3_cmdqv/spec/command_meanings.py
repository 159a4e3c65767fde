"""What commands do to caches (IHI 0070, chapter 4). Those that are not here are the queue's own, or illegal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.commands import (
    NO_PASID,
    Block,
    Case,
    ContextGroup,
    Contexts,
    Counted,
    Everything,
    InvalidateRange,
    InvalidateStage2Range,
    Is,
    Meaning,
    Meanings,
    Number,
    Stage1Tag,
    Stage2Tag,
    means,
)
from viommu_smmuv3_cmdqv.spec import commands as spec
from viommu_smmuv3_cmdqv.spec.commands import Command, CommandOpcode, RangeGranule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.commands import Action, Extent, Operand
    from viommu.layout import FieldSpec

    Forget = Callable[[Extent], tuple[Action, ...]]
    ByAddress = type[spec.TLBI_NH_VA | spec.TLBI_NH_VAA | spec.TLBI_EL2_VA | spec.TLBI_EL2_VAA | spec.TLBI_S2_IPA]

PAGE_LG2 = 12
SIGN_BIT = 55
"""Caches know an address without its ignored top byte (TBI), as this bit has it; no other one is ever cached."""
NARROW = 0xFF


@frozen
class CommandAbilities:
    """What decides which commands there are, and what they mean.

    ``stage1``, ``stage2``, ``el2``: IDR0. ``wide_vmids``, ``wide_asids``: tags of 16 bits, else of 8. ``ranges``: TLBI
    by range (IDR3.RIL). ``wildcard_lg2``: log2 of the VMIDs in a group (CR0.VMW). ``el2_tags`` stand in for the VMID of
    EL2, the first one without E2H, the second one with it.
    """

    stage1: bool
    stage2: bool
    el2: bool
    wide_vmids: bool
    wide_asids: bool
    ranges: bool
    wildcard_lg2: int
    el2_tags: tuple[int, int]

    def vmid(self, of: FieldSpec) -> Operand:
        """The VMID of a command: 0 where there is no stage 2."""
        if not self.stage2:
            return 0
        return of if self.wide_vmids else Number(of, keep=NARROW)

    def asid(self, of: FieldSpec) -> Operand:
        """The ASID of a command."""
        return of if self.wide_asids else Number(of, keep=NARROW)

    @property
    def group_lg2(self) -> int:
        """log2 of how many VMIDs a command means."""
        return self.wildcard_lg2 if self.stage2 else 0


def meanings(able: CommandAbilities) -> Meanings:
    """Describe the commands of a Non-secure queue that are about caches, and hints."""
    found = [_always("PREFETCH_CONFIG"), _always("PREFETCH_ADDR"), _always("TLBI_NSNH_ALL", Everything())]
    found += _configuration(able)
    if able.stage1:
        found += _stage1(able)
    if able.stage2:
        found += _stage2(able)
    if able.el2:
        found += _el2(able)
    return Meanings(Command.size, Command.Opcode, {CommandOpcode[one.name].value: one for one in found})


def _configuration(able: CommandAbilities) -> Iterator[Meaning]:
    """Contexts are cached whole, STE and CD together. The CD of SSID 0 governs what comes without one as well."""
    yield _always("CFGI_STE", Contexts(spec.CFGI_STE.SID))
    yield _always("CFGI_STE_RANGE", ContextGroup(spec.CFGI_STE_RANGE.SID, Number(spec.CFGI_STE_RANGE.Range, plus=1)))
    if able.stage1:
        stream, substream = spec.CFGI_CD.SID, spec.CFGI_CD.SSID
        first = Case((Contexts(stream, 0), Contexts(stream, NO_PASID)), (Is(substream, 0),))
        yield Meaning("CFGI_CD", (first, Case((Contexts(stream, substream),))), Command.SSec.mask)
        yield _always("CFGI_CD_ALL", Contexts(spec.CFGI_CD_ALL.SID))


def _stage1(able: CommandAbilities) -> Iterator[Meaning]:
    group = able.group_lg2
    va, vaa, by_asid = spec.TLBI_NH_VA, spec.TLBI_NH_VAA, spec.TLBI_NH_ASID
    yield _always("TLBI_NH_ALL", Stage2Tag(able.vmid(spec.TLBI_NH_ALL.VMID), stage1_only=True, group_lg2=group))
    yield _always("TLBI_NH_ASID", Stage1Tag(able.vmid(by_asid.VMID), able.asid(by_asid.ASID), group))
    yield _by_address(
        able, va, lambda at: (InvalidateRange(able.vmid(va.VMID), able.asid(va.ASID), at, va.Leaf, group),)
    )
    yield _by_address(able, vaa, lambda at: (InvalidateRange(able.vmid(vaa.VMID), None, at, vaa.Leaf, group),))


def _stage2(able: CommandAbilities) -> Iterator[Meaning]:
    group, ipa = able.group_lg2, spec.TLBI_S2_IPA
    yield _always("TLBI_S12_VMALL", Stage2Tag(able.vmid(spec.TLBI_S12_VMALL.VMID), group_lg2=group))
    yield _by_address(able, ipa, lambda at: (InvalidateStage2Range(able.vmid(ipa.VMID), at, ipa.Leaf, group),))


def _el2(able: CommandAbilities) -> Iterator[Meaning]:
    """Without E2H there is one address space, which has no ASID."""
    plain, e2h = able.el2_tags
    va, vaa = spec.TLBI_EL2_VA, spec.TLBI_EL2_VAA
    yield _always("TLBI_EL2_ALL", Stage2Tag(plain), Stage2Tag(e2h))
    yield _always("TLBI_EL2_ASID", Stage1Tag(e2h, able.asid(spec.TLBI_EL2_ASID.ASID)))
    yield _by_address(
        able,
        va,
        lambda at: (InvalidateRange(plain, None, at, va.Leaf), InvalidateRange(e2h, able.asid(va.ASID), at, va.Leaf)),
    )
    yield _by_address(
        able,
        vaa,
        lambda at: (InvalidateRange(plain, None, at, vaa.Leaf), InvalidateRange(e2h, None, at, vaa.Leaf)),
    )


def _always(name: str, *actions: Action) -> Meaning:
    return means(name, *actions, zero=Command.SSec.mask)


def _by_address(able: CommandAbilities, layout: ByAddress, forget: Forget) -> Meaning:
    """Without a range it is one entry of any size that holds the address. TTL is a hint, and is not taken."""
    cases = [Case(forget(span)) for span in extents(layout)]
    if able.ranges:
        cases[0] = Case(cases[0].actions, (Is(layout.TG, RangeGranule.NONE),))
    return Meaning(layout.__name__, tuple(cases if able.ranges else cases[:1]), Command.SSec.mask)


def extents(layout: ByAddress) -> tuple[Block, Counted]:
    """What a TLBI by address names without a range, and with one (4.4.1.1)."""
    address = Number(layout.Address, sign_bit=SIGN_BIT)
    granule_lg2 = Number(layout.TG, lg2=1, plus=10)
    return Block(address, PAGE_LG2), Counted(address, granule_lg2, layout.SCALE, layout.NUM)
