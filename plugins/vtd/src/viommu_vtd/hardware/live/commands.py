"""What each invalidation descriptor does. A handler is given fields of it, and tells whether the queue goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.addresses import Pasid, RequesterId
from viommu.platform import PageResponse, ResponseCode
from viommu_vtd.hardware.live.events import EventInterrupt
from viommu_vtd.spec.commands import (
    ContextCacheGranularity,
    InvalidationType,
    IotlbGranularity,
    PasidCacheGranularity,
    PasidIotlbGranularity,
)
from viommu_vtd.spec.commands import ResponseCode as Code
from viommu_vtd.spec.queue_registers import ICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from viommu_vtd.hardware.live.command_rules import Columns, Run
    from viommu_vtd.hardware.live.invalidation import Invalidator
    from viommu_vtd.hardware.live.state import State

STATUS_BYTES = 4

CODES: Mapping[int, ResponseCode] = {Code.SUCCESS: ResponseCode.SUCCESS, Code.INVALID: ResponseCode.INVALID}
"""Any other response is a failure to the device, as PCIe has it."""


@frozen
class Step:
    """One descriptor of a run, ready to be executed. False: the queue has to look about before it goes on."""

    execute: Callable[..., bool]
    fields: tuple[int, ...]

    def __call__(self) -> bool:
        """Execute it."""
        return self.execute(*self.fields)


@define(eq=False)
class Executor:
    """Executes descriptors that hardware accepts."""

    state: State
    invalidate: Invalidator
    interrupt: EventInterrupt = field(init=False)
    timed_out: int | None = None
    """The device whose TLB has not answered, until that is told."""

    def __attrs_post_init__(self) -> None:
        self.interrupt = EventInterrupt(self.state, "invalidation", "IE")

    def steps(self, run: Run) -> Iterator[Step]:
        """Give the descriptors of a run, up to the first that is refused, in order."""
        rows = {kind: self._rows(columns, kind) for kind, columns in run.columns.items()}
        return (Step(self._handler(kind), next(rows[kind])) for kind in run.types[: run.good])

    def _rows(self, columns: Columns, kind: int) -> Iterator[tuple[int, ...]]:
        names, _ = HANDLERS[InvalidationType(kind)]
        return zip(*(columns[name].tolist() for name in names), strict=True)

    def _handler(self, kind: int) -> Callable[..., bool]:
        _, method = HANDLERS[InvalidationType(kind)]
        bound: Callable[..., bool] = getattr(self, method)
        return bound

    def context_cache(self, granularity: int, domain: int, requester: int, function_mask: int) -> bool:
        """Type 1."""
        match granularity:
            case ContextCacheGranularity.GLOBAL:
                self.invalidate.all_contexts()
            case ContextCacheGranularity.DOMAIN:
                self.invalidate.contexts_of_domain(domain)
            case ContextCacheGranularity.DEVICE:
                self.invalidate.contexts_of_device(requester, function_mask)
        return True

    def iotlb(self, granularity: int, domain: int, mask: int, hint: int, address: int) -> bool:
        """Type 2."""
        match granularity:
            case IotlbGranularity.GLOBAL:
                self.invalidate.everything_of_iotlb()
            case IotlbGranularity.DOMAIN:
                self.invalidate.iotlb_of_domain(domain)
            case IotlbGranularity.PAGE:
                self.invalidate.iotlb_pages(domain, address, mask, leaf_only=bool(hint))
        return True

    def device_tlb(self, requester: int, sized: int, address: int) -> bool:
        """Type 3."""
        if not self.invalidate.device_tlb(RequesterId(requester), None, address, sized=bool(sized)):
            self._not_answered(requester)
        return True

    def interrupt_entries(self, granularity: int, index: int, mask: int) -> bool:
        """Type 4: interrupt remapping entries are not looked up, so none are cached; who looks on may want to know."""
        count = 1 << mask if granularity else None
        self.state.platform.observe("vtd.interrupt_entries_dropped", {"first": index, "count": count})
        return True

    def wait(self, status_write: int, interrupt: int, data: int, address: int) -> bool:
        """Type 5: all before is done. While a device has not answered it is not, and the descriptor is aborted."""
        if self.timed_out is not None:
            return False
        if status_write:  # to where there is no memory, a posted write is lost
            self.state.memory.write(address, data.to_bytes(STATUS_BYTES, "little"))
        return not interrupt or bool(self.state.registers["ICS"])

    def completed(self) -> None:
        """Tell software that a wait descriptor with IF is done, and ICS.IWC was not set."""
        self.state.registers["ICS"] = int(ICS(IWC=1))
        self.interrupt.raise_()

    def pasid_iotlb(self, granularity: int, domain: int, pasid: int, mask: int, hint: int, address: int) -> bool:
        """Type 6."""
        if granularity == PasidIotlbGranularity.PASID:
            self.invalidate.iotlb_of_pasid(domain, pasid)
        else:
            self.invalidate.iotlb_pages_of_pasid(domain, pasid, address, mask, leaf_only=bool(hint))
        return True

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
        answered = self.invalidate.device_tlb(
            RequesterId(requester), Pasid(pasid), address, sized=bool(sized), every_pasid=bool(every_pasid)
        )
        if not answered:
            self._not_answered(requester)
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

    def _not_answered(self, requester: int) -> None:
        if self.timed_out is None:
            self.timed_out = requester


HANDLERS: Mapping[InvalidationType, tuple[tuple[str, ...], str]] = {
    InvalidationType.CONTEXT_CACHE: (("G", "DID", "SID", "FM"), "context_cache"),
    InvalidationType.IOTLB: (("G", "DID", "AM", "IH", "ADDR"), "iotlb"),
    InvalidationType.DEVICE_TLB: (("SID", "S", "ADDR"), "device_tlb"),
    InvalidationType.INTERRUPT_ENTRY_CACHE: (("G", "IIDX", "IM"), "interrupt_entries"),
    InvalidationType.WAIT: (("SW", "IF", "STDATA", "STADDR"), "wait"),
    InvalidationType.PASID_IOTLB: (("G", "DID", "PASID", "AM", "IH", "ADDR"), "pasid_iotlb"),
    InvalidationType.PASID_CACHE: (("G", "DID", "PASID"), "pasid_cache"),
    InvalidationType.PASID_DEVICE_TLB: (("SID", "PASID", "G", "S", "ADDR"), "pasid_device_tlb"),
    InvalidationType.PAGE_GROUP_RESPONSE: (("RID", "PASID_P", "PASID", "PRGI", "RESP"), "page_response"),
}
"""For each type: the fields that are used, and the method of `Executor` that is given them."""
