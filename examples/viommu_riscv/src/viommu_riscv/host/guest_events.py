"""Which faults of a device are a guest's own, and how it is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import KernelError
from viommu.objects.veventq import report_event

from viommu_riscv.host.extensions import TYPE, VeventRiscv
from viommu_riscv.host.guests import GuestIommu
from viommu_riscv.spec.records import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu_riscv.host.unit import Unit
    from viommu_riscv.spec.records import FaultRecord

OWN = frozenset(
    {
        Cause.INSTRUCTION_ACCESS,
        Cause.READ_ACCESS,
        Cause.WRITE_ACCESS,
        Cause.INSTRUCTION_PAGE,
        Cause.READ_PAGE,
        Cause.WRITE_PAGE,
        Cause.TYPE_DISALLOWED,
        Cause.PDT_ACCESS,
        Cause.PDT_NOT_VALID,
        Cause.PDT_MISCONFIGURED,
    }
)
"""Causes that lie in what the guest wrote, or left out."""

IN_THE_GUESTS_WORDS: Mapping[int, Cause] = {
    Cause.INSTRUCTION_GUEST_PAGE: Cause.INSTRUCTION_ACCESS,
    Cause.READ_GUEST_PAGE: Cause.READ_ACCESS,
    Cause.WRITE_GUEST_PAGE: Cause.WRITE_ACCESS,
}
"""Where the guest has no memory: it knows nothing of a second stage, to it an access failed."""


def tell(unit: Unit, record: FaultRecord) -> None:
    """Tell the guest whose device it is, if a guest has it and the fault is its own; else it is lost."""
    device = unit.devices.get(record.DID)
    vdevice = None if device is None else device.physical.vdevice
    cause = IN_THE_GUESTS_WORDS.get(record.CAUSE, record.CAUSE)
    if vdevice is None or cause not in OWN or not isinstance(vdevice.viommu.data, GuestIommu):
        return
    virtual = vdevice.viommu.virt_id_of(vdevice.device.physical)
    if virtual is None:
        return
    words = record.replace(DID=virtual, CAUSE=cause, iotval2=0)
    try:
        report_event(vdevice.viommu, TYPE, VeventRiscv.of(record=words.encode()).encode())
    except KernelError:  # its VMM has no queue for it
        return
