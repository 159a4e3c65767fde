"""TLB invalidations that CPUs broadcast (IHI 0070, 3.17): an SMMU with BTM hears them unless software said PTM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.hardware.command_rules import abilities
from viommu_smmuv3_cmdqv.spec.command_meanings import NARROW, SIGN_BIT

if TYPE_CHECKING:
    from viommu.platform import Caches, TlbBroadcast
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon

ADDRESS_MASK = (1 << 64) - 1


def hear(chip: Silicon, message: TlbBroadcast) -> None:
    """Drop what the message names. CD.ASET is not kept: private ASIDs are dropped too, which is allowed."""
    features = chip.features
    if not features.idr0.BTM or features.cr2.PTM:
        return
    able = abilities(features)
    tag = message.vmid if able.wide_vmids else message.vmid & NARROW
    first = tag & -(1 << able.group_lg2)
    for vmid in range(first, first + (1 << able.group_lg2)) if able.stage2 else (0,):
        _forget(chip.platform.caches, vmid, message, wide_asids=able.wide_asids)


def _forget(caches: Caches, vmid: int, message: TlbBroadcast, *, wide_asids: bool) -> None:
    asid = message.asid if message.asid is None or wide_asids else message.asid & NARROW
    if message.start is None or message.last is None:
        _forget_all(caches, vmid, asid, stage2=message.stage2)
    elif message.stage2:
        caches.invalidate_stage2_range(vmid, message.start, message.last, leaf_only=message.leaf_only)
    else:
        start, last = _without_tag(message.start), _without_tag(message.last)
        caches.invalidate_range(vmid, asid, start, last, leaf_only=message.leaf_only)


def _forget_all(caches: Caches, vmid: int, asid: int | None, *, stage2: bool) -> None:
    if asid is not None:
        caches.invalidate_stage1_tag(vmid, asid)
    else:
        caches.invalidate_stage2_tag(vmid, stage1_only=not stage2)


def _without_tag(address: int) -> int:
    """Give an address as caches know it: its top byte repeats bit 55."""
    low = address & (1 << SIGN_BIT + 1) - 1
    return low | (ADDRESS_MASK - ((1 << SIGN_BIT + 1) - 1) if low >> SIGN_BIT & 1 else 0)
