"""FAULT_QUEUE_ALLOC and VEVENTQ_ALLOC: objects that are read through an fd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.handlers.checks import refuse_flags, refuse_reserved, refuse_zero
from viommu.kernel_errors import Invalid
from viommu.objects.fault import FaultQueue
from viommu.objects.veventq import VeventQueue
from viommu.objects.viommu import Viommu

if TYPE_CHECKING:
    from viommu.iommufd import uapi
    from viommu.iommufd.dispatch import Call
    from viommu.objects.event_file import EventObject

DEPTH_LAST = 1 << 19


def fault_alloc(call: Call[uapi.FaultAlloc]) -> None:
    """FAULT_QUEUE_ALLOC."""
    refuse_flags(call.cmd)
    fault = call.create(FaultQueue(context=call.context))
    fault.built = True
    call.cmd.out_fault_id = fault.id
    call.cmd.out_fault_fd = _installed(call, fault)


def veventq_alloc(call: Call[uapi.VeventqAlloc]) -> None:
    """VEVENTQ_ALLOC: the driver is not asked whether it knows the type."""
    cmd = call.cmd
    refuse_flags(cmd)
    refuse_reserved(cmd)
    refuse_zero(cmd, "type")
    if not 0 < cmd.veventq_depth <= DEPTH_LAST:
        raise Invalid(cmd.kernel_name, "veventq_depth", cmd.veventq_depth, f"1 to {DEPTH_LAST:#x}")
    viommu = call.context.table.find(cmd.viommu_id, Viommu, "viommu_id")
    queue = call.create(VeventQueue(context=call.context, viommu=viommu, type=cmd.type, depth=cmd.veventq_depth))
    queue.connect()
    cmd.out_veventq_id = queue.id
    cmd.out_veventq_fd = _installed(call, queue)


def _installed(call: Call[uapi.FaultAlloc] | Call[uapi.VeventqAlloc], source: EventObject) -> int:
    file = source.open()
    try:
        return call.install(file)
    except BaseException:
        file.release()
        raise
