"""What commands do to devices, and completion (IHI 0070, chapter 4); `spec.command_meanings` says it of caches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.addresses import Pasid, RequesterId
from viommu.platform import DeviceInvalidation, PageResponse, ResponseCode
from viommu_smmuv3_cmdqv.spec.commands import CompletionSignal, PageResponseCode
from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.hardware.signals import Signals
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon
    from viommu_smmuv3_cmdqv.hardware.stalls import Stalls

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
    def all_answered(self) -> bool:
        """Whether a SYNC would find that every device has answered."""
        return not self._unanswered

    def inherit(self, other: CommandUnit) -> None:
        """Take over what devices have not answered to another queue, which was switched off."""
        self._unanswered = self._unanswered or other._unanswered
        other._unanswered = False

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
