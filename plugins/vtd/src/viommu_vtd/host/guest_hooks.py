"""The hooks of vIOMMUs, vDEVICEs and vQUEUEs, which mainline's driver does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu.kernel_errors import BadAddress, Invalid, IoError, Unsupported
from viommu.ops import DomainFlags
from viommu_vtd.host import device_tlbs, guest_events, nested
from viommu_vtd.host.extensions import TYPE, HwptVtdGuest, ViommuVtd, VtdDescriptor
from viommu_vtd.host.guest_unit import GuestUnit
from viommu_vtd.host.queue import Trouble
from viommu_vtd.host.soft_queue import PAGE, QueuePage
from viommu_vtd.spec.faults import FSTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.physical import PhysicalDevice
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DeviceTlbRequest, UserArray, UserData
    from viommu_vtd.host.guest_unit import Outcome
    from viommu_vtd.host.nested import NestedDomain
    from viommu_vtd.host.paging import SecondStageDomain
    from viommu_vtd.host.unit import Unit

VIRTUAL_LAST = 0xFFFF
RESULT_AT = 32
"""Where the results lie in a `VtdDescriptor`."""

STATUS = {Trouble.REFUSED: FSTS(IQE=1), Trouble.TIMED_OUT: FSTS(ITE=1), Trouble.COMPLETION: FSTS(ITE=1, ICE=1)}


@hookimpl
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool:
    """One type, where it is switched on and the unit nests."""
    unit: Unit = device.data.unit
    return viommu_type == TYPE and unit.extensions.viommus and unit.able.nested


@hookimpl
def viommu_init(viommu: Viommu, parent: SecondStageDomain | None, data: UserData | None) -> None:
    """Make a guest's unit; with driver data, its queue's registers can be mapped."""
    unit: Unit = viommu.iommu.data
    if parent is not None:
        parent.check(unit.able)
    guest = GuestUnit(viommu, unit, parent)
    guest.page = QueuePage(guest, lambda status, completion: guest_events.tell(viommu, status, completion))
    if data is not None:
        _offer_registers(viommu, guest.page, data)
    viommu.data = guest


@hookimpl
def viommu_set_stage2(viommu: Viommu, parent: SecondStageDomain) -> None:
    """Stand on a parent. DIDs are taken when guests' tables are attached, so there is nothing to move."""
    guest: GuestUnit = viommu.data
    parent.check(guest.unit.able)
    guest.parent = parent


@hookimpl
def viommu_destroy(viommu: Viommu) -> None:
    """Take the registers back."""
    page = _page(viommu)
    if page.region is not None:
        viommu.withdraw_registers(page.region)


@hookimpl
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Nest on a vIOMMU: with mainline's data, or with data that names the guest's DID too."""
    guest: GuestUnit = viommu.data
    if flags & ~DomainFlags.PASID:
        raise Unsupported(nested.WHAT, "flags", int(flags), "of PASID")
    if data.type == TYPE:
        given = HwptVtdGuest.decode(data.copy(TYPE, HwptVtdGuest.total, HwptVtdGuest.total))
        return nested.on_guest(guest, given.flags, given.pgtbl_addr, given.addr_width, given.domain_id)
    if data.type != nested.DATA_TYPE:
        raise Unsupported(nested.WHAT, "data_type", data.type, f"{nested.DATA_TYPE} or {TYPE:#x}")
    plain = nested.copy(data)
    return nested.on_guest(guest, plain.flags, plain.pgtbl_addr, plain.addr_width, None)


@hookimpl
def viommu_vdevice_init(vdevice: Vdevice) -> None:
    """Accept a virtual source-id."""
    if vdevice.virt_id > VIRTUAL_LAST:
        raise Invalid(vdevice.title, "virt_id", vdevice.virt_id, f"a source-id, at most {VIRTUAL_LAST:#x}")


@hookimpl
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Execute a batch of a guest's descriptors."""
    guest: GuestUnit = viommu.data
    if not guest.unit.extensions.batches:
        raise Unsupported(viommu.title, "invalidation", bound="of nested HWPTs: batches are not switched on")
    if requests.type != TYPE:
        raise Invalid(viommu.title, "data_type", requests.type, f"{TYPE:#x}")
    if not requests.count:
        return True
    raw = [entry[:RESULT_AT] for entry in requests.whole(TYPE, VtdDescriptor.total)]
    outcome = guest.run(raw)
    if outcome.trouble is None:
        requests.done = outcome.done
        return True
    requests.done = outcome.culprit
    _tell_result(requests, outcome)
    raise IoError(viommu.title, f"descriptor {outcome.culprit}", outcome.detail, f"free of {outcome.trouble.value}")


@hookimpl
def viommu_invalidate_device_tlb(viommu: Viommu, requests: Sequence[DeviceTlbRequest]) -> int:
    """Tell devices, and nobody else."""
    guest: GuestUnit = viommu.data
    return device_tlbs.invalidate(guest.unit, requests)


@hookimpl
def viommu_supports_hw_queue(viommu: Viommu, queue_type: int) -> bool:
    """One type, where it is switched on: the queue is software's."""
    guest: GuestUnit = viommu.data
    return queue_type == TYPE and guest.unit.extensions.software_queues


@hookimpl
def viommu_hw_queue_init(queue: HwQueue, index: int, base_pa: int) -> None:
    """Begin to consume a guest's invalidation queue."""
    if index:
        raise Invalid(queue.title, "index", index, "0: a unit has one invalidation queue")
    _page(queue.viommu).enable(base_pa, queue.iova, queue.length)


@hookimpl
def viommu_hw_queue_destroy(queue: HwQueue) -> None:
    """Read it no more."""
    _page(queue.viommu).disable()


def _offer_registers(viommu: Viommu, page: QueuePage, data: UserData) -> None:
    page.region = viommu.offer_registers(page, PAGE)
    try:
        reply = ViommuVtd.of(out_queue_mmap_offset=page.region.offset, out_queue_mmap_length=PAGE)
        data.reply(TYPE, ViommuVtd.total, reply.encode())
    except BaseException:
        viommu.withdraw_registers(page.region)
        raise


def _tell_result(requests: UserArray, outcome: Outcome) -> None:
    """Write into the entry what hardware would tell of it, as far as the entry has room. Raises BadAddress."""
    assert outcome.trouble is not None  # noqa: S101 - the caller looked
    at = requests.address + outcome.culprit * requests.entry_length + RESULT_AT
    told = int(STATUS[outcome.trouble]).to_bytes(4, "little") + outcome.detail.to_bytes(4, "little")
    room = max(requests.entry_length - RESULT_AT, 0)
    if room and not requests.process.write(at, told[:room]):
        raise BadAddress("invalidation", "data_uptr", at, "writable")


def _page(viommu: Viommu) -> QueuePage:
    guest: GuestUnit = viommu.data
    assert guest.page is not None  # noqa: S101 - made with it
    return guest.page
