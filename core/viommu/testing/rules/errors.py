"""ERR: what a driver refuses, and with which errno."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viommu.api.buffers import copied
from viommu.iommufd import uapi
from viommu.iommufd.uapi_types import HWPT_TYPES, INVALIDATE_TYPES, type_of
from viommu.kernel_errors import BadAddress, Exists, Invalid, IoError, KernelError, TooBig, Unsupported
from viommu.testing.rule import Inapplicable, Need, expect, refusing, rule
from viommu.testing.tables import PAGE
from viommu.testing.worlds import BASE, guest, host

if TYPE_CHECKING:
    from viommu.testing.subject import Subject
    from viommu.testing.worlds import Guest, GuestSpace

STRANGE = 0x7777_7777
"""A type that no driver has."""
NOWHERE = 8
"""An address where user space has no memory."""


@rule(
    "ERR-001",
    "GET_HW_INFO of a type that hardware does not have is EOPNOTSUPP; the usual one has a type that is not 0.",
    source="viommu_hw_info, Returns and Raises",
    needs=(Need.HOST,),
)
def hw_info_has_types(subject: Subject) -> None:
    """Ask for the usual type, for that again by its number, and for another."""
    if not subject.driver.implements("viommu_hw_info"):
        raise Inapplicable("the driver shows no registers (viommu_hw_info)")
    with host(subject) as world:
        device = world.device()
        usual = device.hw_info()
        expect(usual.data_type, "the type of its data is 0, which means none")
        expect(device.hw_info(usual.data_type).data == usual.data, "asked for by its type, it is another")
        with refusing(Unsupported):
            device.hw_info(STRANGE)


@rule(
    "ERR-002",
    "A type of vIOMMU that the driver does not have is EOPNOTSUPP.",
    source="viommu_supports, Returns",
    needs=(Need.VIOMMU,),
)
def strange_viommus_are_not_supported(subject: Subject) -> None:
    """Ask for one."""
    with guest(subject) as one, refusing(Unsupported):
        one.parent.viommu_alloc(one.device, STRANGE)


@rule(
    "ERR-003",
    "A vIOMMU, or a nested HWPT, on what was not made to be a parent is EINVAL.",
    source="VIOMMU_ALLOC, HWPT_ALLOC; viommu_init, viommu_alloc_nested, Given",
    needs=(Need.NESTING,),
)
def only_parents_carry(subject: Subject) -> None:
    """Make both on a plain page table."""
    with guest(subject) as one:
        plain, nesting, space = one.ioas.hwpt_alloc(one.device), subject.nesting, one.space()
        with refusing(Invalid):
            if nesting.viommu is None:
                plain.hwpt_alloc(one.device, space.space.data, data_type=space.space.data_type)
            else:
                plain.viommu_alloc(one.device, nesting.viommu, nesting.viommu_data())


@rule(
    "ERR-004",
    "Data of a nested HWPT that is too short is EINVAL, of another type EINVAL or EOPNOTSUPP, nowhere EFAULT.",
    source="viommu.ops.UserData.copy; viommu_alloc_nested_on, Raises",
    needs=(Need.NESTING,),
)
def nested_data_is_checked(subject: Subject) -> None:
    """Change one thing at a time."""
    with guest(subject) as one:
        space = one.space()
        raw = copied(space.space.data)
        for length in (1, raw.size // 2, raw.size - 1):
            with refusing(Invalid):
                _alloc(one, space, data_len=length)
        with refusing(Invalid, Unsupported):
            _alloc(one, space, data_type=STRANGE)
        with refusing(BadAddress):
            _alloc(one, space, data_uptr=NOWHERE)
        with refusing(Unsupported):
            _alloc(one, space, flags=1 << 30)
        _alloc(one, space)


def _alloc(one: Guest, space: GuestSpace, **changes: int) -> None:
    data = space.space.data
    raw = copied(data)
    below = one.parent if one.viommu is None else one.viommu
    usual = {
        "dev_id": one.device.id,
        "pt_id": below.id,
        "data_type": type_of(data, HWPT_TYPES, space.space.data_type),
        "data_len": raw.size,
        "data_uptr": raw.ctypes.data,
    }
    one.host.iommu.call(uapi.HwptAlloc.of(**usual | changes))


@rule(
    "ERR-005",
    "Requests of a type that the target does not take are EINVAL or EOPNOTSUPP, nowhere EFAULT, longer ones E2BIG or "
    "EINVAL; none is said to be executed.",
    source="viommu.ops.UserArray; viommu_invalidate, viommu_invalidate_nested, Raises",
    needs=(Need.NESTING, Need.REQUESTS),
)
def requests_are_checked(subject: Subject) -> None:
    """Change one thing at a time."""
    with guest(subject) as one:
        space = one.attached()
        target = space.hwpt if one.viommu is None else one.viommu
        request = copied(space.space.drop(BASE, BASE + PAGE - 1)[0])
        longer = np.concatenate([request, np.full(8, 0xFF, np.uint8)])
        with refusing(Invalid, Unsupported):
            target.invalidate([request], data_type=STRANGE)
        with refusing(TooBig, Invalid):
            target.invalidate([longer], data_type=_request_type(space))
        cmd = uapi.HwptInvalidate.of(
            hwpt_id=target.id,
            data_uptr=NOWHERE,
            data_type=_request_type(space),
            entry_len=request.size,
            entry_num=1,
        )
        with refusing(BadAddress):
            one.host.iommu.call(cmd)
        expect(cmd.entry_num == 0, f"{cmd.entry_num} requests are said to be executed, of those that are nowhere")


def _request_type(space: GuestSpace) -> int:
    request = space.space.drop(BASE, BASE + PAGE - 1)[0]
    return type_of(request, INVALIDATE_TYPES, space.space.request_type)


@rule(
    "ERR-006",
    "A request that is refused stops the batch there: done says how many came before, and those have been executed.",
    source="viommu_invalidate, Owes: requests run in order, done says how many did, also where it raises",
    needs=(Need.NESTING, Need.REQUESTS),
)
def refused_requests_stop_batches(subject: Subject) -> None:
    """Put an illegal one between others."""
    illegal = subject.nesting.illegal()
    if illegal is None:
        raise Inapplicable("the driver's format has no request that is refused whatever the state (Nesting.illegal)")
    with guest(subject) as one:
        space = one.attached()
        target = space.hwpt if one.viommu is None else one.viommu
        for before in (0, 1, 5):
            batch = [*(list(space.space.drop(BASE, BASE + PAGE - 1)) * before), illegal, illegal]
            try:
                target.invalidate(batch, data_type=space.space.request_type)
            except KernelError as error:
                expect(
                    error.done == len(batch) - 2,
                    f"{error.done} requests are said to be executed, where number {len(batch) - 2} is refused: {error}",
                )
            else:
                expect(False, "an illegal request is not refused")


@rule(
    "ERR-007",
    "A hardware queue of another type is EOPNOTSUPP, of a length that hardware has not EINVAL, where there is one "
    "already EEXIST.",
    source="viommu_supports_hw_queue, viommu_hw_queue_init, Raises",
    needs=(Need.QUEUES,),
)
def queues_are_checked(subject: Subject) -> None:
    """Change one thing at a time."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - queues are of vIOMMUs
        queues, base = subject.queues, one.take(-(-subject.queues.length // PAGE))
        with refusing(Unsupported):
            one.viommu.hw_queue_alloc(STRANGE, 0, base, queues.length, by_iova=queues.by_iova)
        for length in (queues.length + 16, queues.length // 2 * 3):
            with refusing(Invalid):
                one.viommu.hw_queue_alloc(queues.type, 0, base, length, by_iova=queues.by_iova)
        made = one.viommu.hw_queue_alloc(queues.type, 0, base, queues.length, by_iova=queues.by_iova)
        with refusing(Exists):
            one.viommu.hw_queue_alloc(queues.type, 0, base, queues.length, by_iova=queues.by_iova)
        made.destroy()
        one.viommu.hw_queue_alloc(queues.type, 0, base, queues.length, by_iova=queues.by_iova).destroy()


@rule(
    "ERR-008",
    "A queue whose turn it is not, as an earlier one is missing, is EIO; an index that no queue can have is EINVAL.",
    source="viommu_hw_queue_init, Raises: Invalid (index), IoError (an earlier queue is missing)",
    needs=(Need.QUEUES,),
)
def queues_come_in_turn(subject: Subject) -> None:
    """Find out whether there may be a second, then make it before the first."""
    if subject.queues.by_iova:
        raise Inapplicable("the driver's queues are known by their type (Queues.by_iova): their index is not looked at")
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - queues are of vIOMMUs
        queues, bases = subject.queues, [one.take(-(-subject.queues.length // PAGE)) for _ in range(2)]
        first = one.viommu.hw_queue_alloc(queues.type, 0, bases[0], queues.length)
        try:
            one.viommu.hw_queue_alloc(queues.type, 1, bases[1], queues.length).destroy()
            wanted: type[KernelError] = IoError
        except Invalid:
            wanted = Invalid
        first.destroy()
        with refusing(wanted):
            one.viommu.hw_queue_alloc(queues.type, 1, bases[1], queues.length)
        with refusing(Invalid):
            one.viommu.hw_queue_alloc(queues.type, STRANGE, bases[0], queues.length)


@rule(
    "ERR-009",
    "Flags and data of a page table that the driver does not know are EOPNOTSUPP or EINVAL.",
    source="viommu_alloc_paging, Raises",
    needs=(Need.HOST,),
)
def paging_data_is_checked(subject: Subject) -> None:
    """Give data of a strange type."""
    with host(subject) as world:
        ioas, device = world.iommu.ioas_alloc(), world.device()
        with refusing(Unsupported, Invalid):
            ioas.hwpt_alloc(device, data=bytes(8), data_type=STRANGE)
        ioas.hwpt_alloc(device).destroy()


@rule(
    "ERR-010",
    "A virtual id that hardware cannot have is refused with EINVAL, or taken; nothing is left of one that was refused.",
    source="viommu_vdevice_init, Raises; all or nothing",
    needs=(Need.VIOMMU,),
)
def virtual_ids_have_bounds(subject: Subject) -> None:
    """Try ids around powers of two."""
    with guest(subject) as one:
        assert one.viommu is not None  # noqa: S101 - it needs VIOMMU
        one.vdevices[0].destroy()
        for bits in (8, 16, 20, 24, 32, 48, 63):
            try:
                one.viommu.vdevice_alloc(one.device, 1 << bits).destroy()
            except Invalid:
                continue
        one.viommu.vdevice_alloc(one.device, one.virt_id)
