"""What descriptors do that have no neutral meaning. A handler is given fields, and tells whether the queue goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.addresses import Pasid, RequesterId
from viommu.commands import CommandTable
from viommu.platform import BadAnswer, PageResponse, ResponseCode
from viommu_vtd.hardware.live.events import EventInterrupt
from viommu_vtd.spec.command_meanings import ANY, STATUS_BYTES
from viommu_vtd.spec.commands import ContextCacheGranularity, InvalidationType, PasidCacheGranularity
from viommu_vtd.spec.commands import ResponseCode as Code
from viommu_vtd.spec.queue_registers import ICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu_vtd.hardware.live.invalidation import Invalidator
    from viommu_vtd.hardware.live.state import State
    from viommu_vtd.spec.commands import Invalidation

CODES: Mapping[int, ResponseCode] = {Code.SUCCESS: ResponseCode.SUCCESS, Code.INVALID: ResponseCode.INVALID}
"""Any other response is a failure to the device, as PCIe has it."""


@define(eq=False)
class Executor:
    """Executes descriptors that hardware accepts, and that have no neutral meaning (`spec.command_meanings`)."""

    state: State
    invalidate: Invalidator
    interrupt: EventInterrupt = field(init=False)
    unanswered: CommandTable = field(factory=CommandTable, init=False)
    """Has something for `ANY` while a device has not answered."""
    _timed_out: int | None = field(default=None, init=False)
    _wrong: int | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.interrupt = EventInterrupt(self.state, "invalidation", "IE")

    def execute(self, command: Invalidation) -> bool:
        """Execute one; False: the queue has to look about before it goes on."""
        names, method = HANDLERS[command.Type]
        handle: Callable[..., bool] = getattr(self, method)
        return handle(*[getattr(command, name) for name in names])

    def take_timed_out(self) -> int | None:
        """Give the device whose TLB has not answered, if there is one, and forget it."""
        requester, self._timed_out = self._timed_out, None
        if requester is not None:
            self.unanswered.clear()
        return requester

    def take_wrong(self) -> int | None:
        """Give the device that sent a completion which nobody waited for, if there is one, and forget it."""
        requester, self._wrong = self._wrong, None
        return requester

    def context_cache(self, granularity: int, domain: int) -> bool:
        """Type 1, but for that of a device."""
        if granularity == ContextCacheGranularity.GLOBAL:
            self.invalidate.all_contexts()
        else:
            self.invalidate.contexts_of_domain(domain)
        return True

    def device_tlb(self, requester: int, sized: int, address: int) -> bool:
        """Type 3."""
        answer = self.invalidate.device_tlb(RequesterId(requester), None, address, sized=bool(sized))
        self._answered(requester, answer)
        return True

    def interrupt_entries(self, granularity: int, index: int, mask: int) -> bool:
        """Type 4: interrupt remapping entries are not looked up, so none are cached; who looks on may want to know."""
        count = 1 << mask if granularity else None
        self.state.platform.observe("vtd.interrupt_entries_dropped", {"first": index, "count": count})
        return True

    def wait(self, status_write: int, interrupt: int, data: int, address: int) -> bool:
        """Type 5: all before is done. While a device has not answered it is not, and the descriptor is aborted."""
        if self._timed_out is not None:
            return False
        if status_write:  # to where there is no memory, a posted write is lost
            self.state.memory.write(address, data.to_bytes(STATUS_BYTES, "little"))
        return not interrupt or bool(self.state.registers["ICS"])

    def completed(self) -> None:
        """Tell software that a wait descriptor with IF is done, and ICS.IWC was not set."""
        self.state.registers["ICS"] = int(ICS(IWC=1))
        self.interrupt.raise_()

    def pasid_cache(self, granularity: int, domain: int, pasid: int) -> bool:
        """Type 7."""
        match granularity:
            case PasidCacheGranularity.DOMAIN:
                self.invalidate.pasids_of_domain(domain)
            case PasidCacheGranularity.PASID:
                self.invalidate.pasids_of_domain(domain, pasid)
            case PasidCacheGranularity.GLOBAL:
                self.invalidate.all_contexts()
        return True

    def pasid_device_tlb(self, requester: int, pasid: int, every_pasid: int, sized: int, address: int) -> bool:
        """Type 8."""
        answer = self.invalidate.device_tlb(
            RequesterId(requester), Pasid(pasid), address, sized=bool(sized), every_pasid=bool(every_pasid)
        )
        self._answered(requester, answer)
        return True

    def page_response(self, requester: int, has_pasid: int, pasid: int, group: int, code: int) -> bool:
        """Type 9."""
        response = PageResponse(
            RequesterId(requester),
            Pasid(pasid) if has_pasid else None,
            group,
            CODES.get(code, ResponseCode.FAILURE),
        )
        self.state.platform.respond(response)
        return True

    def _answered(self, requester: int, answer: bool | BadAnswer) -> None:
        """Remember the first device that owes an answer, and the first that sent another one instead."""
        if not answer and self._timed_out is None:
            self._timed_out = requester
            self.unanswered.add(ANY, requester)
        if isinstance(answer, BadAnswer) and self._wrong is None:
            self._wrong = requester


HANDLERS: Mapping[int, tuple[tuple[str, ...], str]] = {
    InvalidationType.CONTEXT_CACHE: (("G", "DID"), "context_cache"),
    InvalidationType.DEVICE_TLB: (("SID", "S", "ADDR"), "device_tlb"),
    InvalidationType.INTERRUPT_ENTRY_CACHE: (("G", "IIDX", "IM"), "interrupt_entries"),
    InvalidationType.WAIT: (("SW", "IF", "STDATA", "STADDR"), "wait"),
    InvalidationType.PASID_CACHE: (("G", "DID", "PASID"), "pasid_cache"),
    InvalidationType.PASID_DEVICE_TLB: (("SID", "PASID", "G", "S", "ADDR"), "pasid_device_tlb"),
    InvalidationType.PAGE_GROUP_RESPONSE: (("RID", "PASID_P", "PASID", "PRGI", "RESP"), "page_response"),
}
"""For each type that may come here: the fields that are used, and the method of `Executor` that is given them."""
