"""What commands do: the part of an SMMU that executes them (IHI 0070, chapter 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.addresses import Pasid, RequesterId
from viommu.formats import NO_PASID
from viommu.platform import DeviceInvalidation, PageResponse, ResponseCode
from viommu_smmuv3_cmdqv.spec.commands import CompletionSignal, PageResponseCode
from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError
from viommu_smmuv3_cmdqv.translate import WORLD_TAGS
from viommu_smmuv3_cmdqv.worlds import StreamWorld

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.platform import Caches
    from viommu_smmuv3_cmdqv.hardware.signals import Signals
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon
    from viommu_smmuv3_cmdqv.hardware.stalls import Stalls

MOST_STREAMS = 256
"""A range of more streams than this forgets all of them: it is the same to software, and takes no longer."""
LARGEST_WILDCARD = 4
"""CR0.VMW: log2 of the VMIDs in a group; larger values are reserved and act as 0."""

RESPONSES = {
    PageResponseCode.DENY: ResponseCode.FAILURE,
    PageResponseCode.FAIL: ResponseCode.INVALID,
    PageResponseCode.SUCCESS: ResponseCode.SUCCESS,
}


@define(eq=False)
class CommandUnit:
    """Executes commands, one method for each. What a method returns stops the queue there."""

    chip: Silicon
    signals: Signals
    stalls: Stalls
    _unanswered: bool = False
    """A device did not answer an ATC_INV; the next SYNC tells."""

    @property
    def caches(self) -> Caches:
        """The engine."""
        return self.chip.platform.caches

    # Configuration. Contexts are cached whole: STE and CD together.

    def prefetch(self) -> None:
        """Take a hint, and do without."""

    def forget_streams(self, first: int, count: int) -> None:
        """Forget the configuration of streams."""
        if count > MOST_STREAMS:
            self.caches.invalidate_contexts()
            return
        for stream in range(first, first + count):
            self.caches.invalidate_contexts(stream)

    def forget_substream(self, stream: int, substream: int) -> None:
        """Forget a CD; the first one also governs accesses without a SubstreamID."""
        self.caches.invalidate_contexts(stream, substream)
        if not substream:
            self.caches.invalidate_contexts(stream, NO_PASID)

    # Translations.

    def forget_everything(self) -> None:
        """Forget all translations; that EL2's go too is more than was asked."""
        self.caches.invalidate_all()

    def forget_stage1(self, vmid: int) -> None:
        """Forget what a VM's stage 1 gave."""
        for tag in self._tags(vmid):
            self.caches.invalidate_stage2_tag(tag, stage1_only=True)

    def forget_vm(self, vmid: int) -> None:
        """Forget all that a VM has."""
        for tag in self._tags(vmid):
            self.caches.invalidate_stage2_tag(tag)

    def forget_asid(self, vmid: int, asid: int) -> None:
        """Forget one address space of a VM."""
        for tag in self._tags(vmid):
            self.caches.invalidate_stage1_tag(tag, self._asid(asid))

    def forget_range(self, vmid: int, asid: int | None, start: int, last: int, leaf: int) -> None:
        """Forget addresses of one address space of a VM, or (None) of every one."""
        number = None if asid is None else self._asid(asid)
        for tag in self._tags(vmid):
            self.caches.invalidate_range(tag, number, start, last, leaf_only=bool(leaf))

    def forget_ipas(self, vmid: int, start: int, last: int, leaf: int) -> None:
        """Forget IPAs of a VM, where stage 2 stands alone."""
        for tag in self._tags(vmid):
            self.caches.invalidate_stage2_range(tag, start, last, leaf_only=bool(leaf))

    def forget_el2(self) -> None:
        """Forget all that EL2 has, with E2H or without."""
        for tag in WORLD_TAGS.values():
            self.caches.invalidate_stage2_tag(tag)

    def forget_el2_asid(self, asid: int) -> None:
        """Forget one address space of EL2; there are several with E2H alone."""
        self.caches.invalidate_stage1_tag(WORLD_TAGS[StreamWorld.NS_EL2_E2H], self._asid(asid))

    def forget_el2_range(self, asid: int | None, start: int, last: int, leaf: int) -> None:
        """Forget addresses of EL2, whose only address space has no ASID without E2H."""
        number = None if asid is None else self._asid(asid)
        for world, tag in WORLD_TAGS.items():
            with_asid = number if world is StreamWorld.NS_EL2_E2H else None
            self.caches.invalidate_range(tag, with_asid, start, last, leaf_only=bool(leaf))

    def _tags(self, vmid: int) -> Iterable[int]:
        """The VMIDs that a command means: one, or the group that CR0.VMW makes of it; 0 where there is no stage 2."""
        features = self.chip.features
        if not features.idr0.S2P:
            return (0,)
        if not features.idr0.VMID16:
            vmid &= 0xFF
        wildcard = features.cr0.VMW if features.cr0.VMW <= LARGEST_WILDCARD else 0
        first = vmid >> wildcard << wildcard
        return range(first, first + (1 << wildcard))

    def _asid(self, asid: int) -> int:
        return asid if self.chip.features.idr0.ASID16 else asid & 0xFF

    # Devices and completion.

    def forget_in_device(self, stream: int, substream: int | None, start: int, last: int, every: int) -> None:
        """Tell a device; that it does not answer shows at the next SYNC."""
        pasid = None if substream is None else Pasid(substream)
        told = DeviceInvalidation(RequesterId(stream), pasid, start, last, every_pasid=bool(every))
        if not self.chip.platform.invalidate_device(told):
            self._unanswered = True

    def answer_pages(self, stream: int, substream: int | None, group: int, code: int) -> None:
        """Pass on software's answer to a group of page requests."""
        pasid = None if substream is None else Pasid(substream)
        answer = RESPONSES[PageResponseCode(code)]
        self.chip.platform.respond(PageResponse(RequesterId(stream), pasid, group, answer))

    def resume(self, stream: int, tag: int, again: int, abort: int) -> None:
        """End the wait of a stalled access."""
        self.stalls.resume(stream, tag, retry=bool(again), abort=bool(abort))

    def terminate(self, stream: int) -> None:
        """End the wait of a stream's stalled accesses."""
        self.stalls.terminate(stream)

    def synchronize(self, signal: int, address: int, data: int) -> CommandError | None:
        """Tell that all before is done: it is, since commands take no time."""
        if self._unanswered:
            self._unanswered = False
            return CommandError.CERROR_ATC_INV_SYNC
        if signal == CompletionSignal.IRQ:
            self.signals.complete(address, data)
        elif signal == CompletionSignal.SEV and self.chip.features.idr0.SEV:
            self.chip.platform.observe("smmuv3.sev", {})
        return None
