"""Operations on mock devices: make, attach, trigger; reservations and dma-bufs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar

from attrs import define

from viommu.kernel_errors import BadFile, Invalid, NotThere, Overflow
from viommu.objects.device import Device, find_device
from viommu.objects.fault import report_fault
from viommu.objects.ioas import Ioas
from viommu.objects.physical import PhysicalDevice
from viommu.objects.table import Object
from viommu.objects.veventq import report_event
from viommu.ops import PageFault
from viommu.selftest.dma_buf import PAGE_SIZE, MockDmaBuf
from viommu.selftest.driver import mock_iommu
from viommu.selftest.mock import VEVENT_TYPE, MockDevice, MockFlags

if TYPE_CHECKING:
    from viommu.selftest import operands
    from viommu.selftest.operation import Operation

U64_MAX = (1 << 64) - 1
KNOWN_FLAGS = int(MockFlags.NO_DIRTY | MockFlags.PASID)
DMA_BUF_LAST = 512 * PAGE_SIZE


@define(eq=False, kw_only=True, repr=False)
class Selftest(Object):
    """What user space holds of a mock device; destroying it detaches and unbinds the device."""

    kind: ClassVar[str] = "SELFTEST"

    device: Device | None = None

    def destroy(self) -> None:
        """Detach, and unbind."""
        if self.device is not None:
            for pasid in tuple(self.device.group.attachments):
                self.device.detach(pasid)
            self.device.unbind()


def add_reserved(op: Operation[operands.Range]) -> None:
    """ADD_RESERVED: for nobody in particular, for good."""
    start, length = op.body.start, op.body.length
    if not length:
        raise Invalid("ADD_RESERVED", "length", 0, "not 0")
    if start + length - 1 > U64_MAX:
        raise Overflow("ADD_RESERVED", "start", start, "a range that ends below 2^64")
    op.table.find(op.id, Ioas, "id").space.reserve(start, start + length - 1, None)


def mock_domain(op: Operation[operands.MockDomain]) -> None:
    """MOCK_DOMAIN: a new device, attached."""
    _make(op, 0)


def mock_domain_flags(op: Operation[operands.MockDomain]) -> None:
    """MOCK_DOMAIN_FLAGS: a new device that lacks or has something."""
    _make(op, op.body.dev_flags)


def replace(op: Operation[operands.Replace]) -> None:
    """MOCK_DOMAIN_REPLACE."""
    op.body.pt_id = _device(op).replace(op.body.pt_id).id


def pasid_attach(op: Operation[operands.Pasid]) -> None:
    """PASID_ATTACH."""
    device, pasid = _device(op), op.body.pasid
    op.body.pt_id = device.attach(op.body.pt_id, pasid).id
    op.undoers.append(lambda: device.detach(pasid))


def pasid_replace(op: Operation[operands.Pasid]) -> None:
    """PASID_REPLACE."""
    op.body.pt_id = _device(op).replace(op.body.pt_id, op.body.pasid).id


def pasid_detach(op: Operation[operands.Pasid]) -> None:
    """PASID_DETACH: what is not attached is passed over."""
    _device(op).detach(op.body.pasid)


def trigger_iopf(op: Operation[operands.TriggerIopf]) -> None:
    """TRIGGER_IOPF: a page request, whether anybody listens or not."""
    body = op.body
    device = find_device(op.context, body.dev_id).physical
    try:
        report_fault(device, PageFault(body.addr, body.perm, body.grpid, body.pasid or None))
    except Invalid:
        return


def trigger_vevent(op: Operation[operands.TriggerVevent]) -> None:
    """TRIGGER_VEVENT: the event tells the device's virtual id, as it was when it was attached."""
    device = find_device(op.context, op.body.dev_id).physical
    mock: MockDevice = device.data
    if mock.viommu is None or not mock.virt_id:
        raise NotThere(device.name, "vIOMMU", bound="attached to a nested HWPT of one, with a virtual id")
    report_event(mock.viommu, VEVENT_TYPE, struct.pack("<I", mock.virt_id & 0xFFFFFFFF))


def dma_buf_get(op: Operation[operands.DmaBufGet]) -> int:
    """DMABUF_GET: its fd is what the ioctl returns."""
    if not 0 < op.body.length <= DMA_BUF_LAST:
        raise Invalid("DMABUF_GET", "length", op.body.length, f"1 to {DMA_BUF_LAST:#x}")
    return op.process.install(MockDmaBuf(-(-op.body.length // PAGE_SIZE) * PAGE_SIZE))


def dma_buf_revoke(op: Operation[operands.DmaBufRevoke]) -> None:
    """DMABUF_REVOKE: take the memory away, or let it be mapped again."""
    file = op.process.file(op.body.dmabuf_fd)
    if file is None:
        raise BadFile("DMABUF_REVOKE", "fd", op.body.dmabuf_fd, "open")
    if not isinstance(file, MockDmaBuf):
        raise Invalid("DMABUF_REVOKE", "fd", op.body.dmabuf_fd, "a dma-buf")
    file.revoke(bool(op.body.revoked))


def _make(op: Operation[operands.MockDomain], flags: int) -> None:
    """Make the device, bind it, attach it; the handle's id comes first."""
    if flags & ~KNOWN_FLAGS:
        raise Invalid("mock device", "dev_flags", flags, f"of {KNOWN_FLAGS:#x}")
    handle = op.call.create(Selftest())
    physical = PhysicalDevice(f"mock device {handle.id}", mock_iommu(), data=MockDevice(MockFlags(flags)))
    device = Device.bind(op.context, physical)
    try:
        hwpt = device.attach(op.id)
    except BaseException:
        device.unbind()
        raise
    handle.device = device
    handle.built = True
    op.body.out_stdev_id, op.body.out_hwpt_id, op.body.out_idev_id = handle.id, hwpt.id, device.id


def _device(op: Operation[operands.Pasid] | Operation[operands.Replace]) -> Device:
    device = op.table.find(op.id, Selftest, "id").device
    if device is None:
        raise NotThere(Selftest.kind, "id", op.id, "that of a mock device")
    return device
