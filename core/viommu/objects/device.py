"""DEVICE: a physical device that an open file owns, and what it is attached to."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from attrs import define, field

from viommu.kernel_errors import Busy, Invalid, NotThere
from viommu.objects.failure import allocation_point
from viommu.objects.hwpt import Hwpt, PagingHwpt
from viommu.objects.ioas import Ioas
from viommu.objects.table import Object
from viommu.ops import DomainFlags, RegionKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from viommu.objects.context import Context
    from viommu.objects.physical import Group, PhysicalDevice
    from viommu.objects.vdevice import Vdevice

    Attach = Callable[["Device", Hwpt, int], Hwpt | None]

RID = 0
"""Where attachments without PASID are kept."""


@define(eq=False)
class Attachment:
    """What a group's DMA of one PASID (0: without) is governed by; page requests name the first device's id."""

    hwpt: Hwpt
    dev_id: int
    devices: set[Device] = field(factory=set)


@define(eq=False, kw_only=True, repr=False)
class Device(Object):
    """A device that is bound to an open file. Whoever bound it unbinds it: user space cannot destroy it."""

    kind: ClassVar[str] = "DEVICE"

    context: Context
    physical: PhysicalDevice
    vdevice: Vdevice | None = None
    leaving: bool = False

    @classmethod
    def bind(cls, context: Context, physical: PhysicalDevice) -> Device:
        """Take a device. Raises Invalid (DMA would not be coherent), Busy (somebody else has its group)."""
        if not physical.facts.cache_coherent:
            raise Invalid(physical.name, "cache coherency", bound="kept by the IOMMU")
        _check_group(context, physical)
        device = context.table.reserve(cls(context=context, physical=physical))
        physical.owner = device
        device.hold()
        context.table.publish(device)
        return device

    def unbind(self) -> None:
        """Give the device back; it is attached to nothing. Its vDEVICE goes, and leaves its id for dead."""
        self.leaving = True
        if self.vdevice is not None:
            self.vdevice.bury()
        self.context.table.discard(self)

    def destroy(self) -> None:
        """Own the device no more."""
        self.physical.owner = None

    @property
    def group(self) -> Group:
        """The devices that are attached together."""
        return self.physical.group

    def attached_to(self, pasid: int = RID) -> Hwpt | None:
        """Give what it is attached to."""
        attachment = self.group.attachments.get(pasid)
        return attachment.hwpt if attachment is not None and self in attachment.devices else None

    # --- what drivers of the host call

    def attach(self, target_id: int, pasid: int = RID) -> Hwpt:
        """Attach to an IOAS or a HWPT, by id; what it is attached to then. Raises KernelError; then it is not."""
        return self._change(target_id, pasid, Device._attach, immediate=True)

    def replace(self, target_id: int, pasid: int = RID) -> Hwpt:
        """Attach to something else instead. Raises KernelError, and then it stays where it was."""
        return self._change(target_id, pasid, Device._replace, immediate=False)

    def detach(self, pasid: int = RID) -> None:
        """Detach; nothing happens where it is not attached."""
        attachment = self.group.attachments.get(pasid)
        if attachment is None or self not in attachment.devices:
            return
        hwpt = attachment.hwpt
        attachment.devices.remove(self)
        if not attachment.devices:
            del self.group.attachments[pasid]
            self.physical.iommu.driver.ask("viommu_detach", device=self.physical, pasid=pasid, old=hwpt.any_domain)
            self._answer_faults(hwpt, attachment)
        if pasid == RID:
            hwpt.paging.ioas.space.unreserve(self)
        self.drop()
        hwpt.put()

    # --- how

    def _change(self, target_id: int, pasid: int, do: Attach, *, immediate: bool) -> Hwpt:
        target = self.context.table.any(target_id, "pt_id")
        if isinstance(target, Hwpt):
            self._done(do(self, target, pasid))
            return target
        if isinstance(target, Ioas):
            return self._change_to_ioas(target, pasid, do, immediate=immediate)
        raise Invalid(target.title, "pt_id", target_id, "an IOAS or a HWPT")

    def _change_to_ioas(self, ioas: Ioas, pasid: int, do: Attach, *, immediate: bool) -> Hwpt:
        for hwpt in tuple(ioas.hwpts):
            if not hwpt.auto:
                continue
            try:
                old = do(self, hwpt, pasid)
            except Invalid:  # it does not fit this device: the next may
                continue
            self._done(old)
            return hwpt
        return self._change_to_new(ioas, pasid, do, immediate=immediate)

    def _change_to_new(self, ioas: Ioas, pasid: int, do: Attach, *, immediate: bool) -> Hwpt:
        """Make an automatic HWPT: attached before it is filled, or after where it replaces another."""
        table = self.context.table
        hwpt = PagingHwpt.alloc(self.context, ioas, self.physical, DomainFlags(0))
        ioas.hold()
        old: Hwpt | None = None
        attached = False
        try:
            table.reserve(hwpt)
            if immediate:
                do(self, hwpt, pasid)
                attached = True
            hwpt.follow()
            if not immediate:
                old = do(self, hwpt, pasid)
        except BaseException:
            if attached:
                self.detach(pasid)
            if hwpt.id:
                table.abort(hwpt)
            hwpt.destroy()
            raise
        hwpt.auto = True
        table.publish(hwpt)
        self._done(old)
        return hwpt

    @staticmethod
    def _done(old: Hwpt | None) -> None:
        if old is not None:
            old.put()

    def _attach(self, hwpt: Hwpt, pasid: int) -> None:
        allocation_point("attachment")
        attachment = self.group.attachments.get(pasid)
        if attachment is not None:
            if self in attachment.devices:
                raise Busy(self.title, "PASID", pasid, "not attached yet")
            if attachment.hwpt is not hwpt:
                raise Invalid(self.title, "group", attachment.hwpt.id, "attached to the same HWPT")
        if pasid == RID:
            self._reserve_regions(hwpt.paging.ioas)
        try:
            if attachment is None:
                self._check_pasid(hwpt, pasid)
                attachment = Attachment(hwpt, self.id)
                self._tell_driver(hwpt, pasid, None)
                self.group.attachments[pasid] = attachment
        except BaseException:
            if pasid == RID:
                hwpt.paging.ioas.space.unreserve(self)
            raise
        attachment.devices.add(self)
        hwpt.hold()
        self.hold()

    def _replace(self, hwpt: Hwpt, pasid: int) -> Hwpt | None:
        attachment = self.group.attachments.get(pasid)
        if attachment is None or self not in attachment.devices:
            raise Invalid(self.title, "PASID", pasid, "attached before it is replaced")
        old = attachment.hwpt
        if old is hwpt:
            return None
        moves = pasid == RID and hwpt.paging.ioas is not old.paging.ioas
        movers = tuple(attachment.devices) if moves else ()
        try:
            for device in movers:
                device._reserve_regions(hwpt.paging.ioas)  # noqa: SLF001 - of the same group
            self._check_pasid(hwpt, pasid)
            self._tell_driver(hwpt, pasid, old)
        except BaseException:
            _unreserve(hwpt, movers)
            raise
        _unreserve(old, movers)
        self.group.attachments[pasid] = Attachment(hwpt, attachment.dev_id, attachment.devices)
        self._answer_faults(old, attachment)
        for _ in attachment.devices:
            hwpt.hold()
        for _ in range(len(attachment.devices) - 1):
            old.drop()
        return old

    def _tell_driver(self, hwpt: Hwpt, pasid: int, old: Hwpt | None) -> None:
        self.physical.iommu.driver.ask(
            "viommu_attach",
            device=self.physical,
            pasid=pasid,
            domain=hwpt.any_domain,
            old=None if old is None else old.any_domain,
            page_requests=hwpt.fault is not None,
        )

    def _check_pasid(self, hwpt: Hwpt, pasid: int) -> None:
        """Keep PASIDs and the RID in step. Raises Invalid."""
        attachments = self.group.attachments
        if pasid == RID:
            if not hwpt.pasid_compat and any(other != RID for other in attachments):
                raise Invalid(hwpt.title, "flags", bound="allocated with PASID, as PASIDs are attached")
            return
        if not hwpt.pasid_compat:
            raise Invalid(hwpt.title, "flags", bound="allocated with PASID")
        rid = attachments.get(RID)
        if rid is not None and not rid.hwpt.pasid_compat:
            raise Invalid(rid.hwpt.title, "flags", bound="allocated with PASID, to have PASIDs beside it")
        limit = max(self.physical.facts.max_pasids, 1)
        if pasid >= limit:
            raise Invalid(self.title, "PASID", pasid, f"below {limit:#x}")

    def _reserve_regions(self, ioas: Ioas) -> None:
        """Keep the device's own IOVAs free. Raises AddressInUse."""
        allocation_point("reserved regions", errno.EINVAL)
        regions = self.physical.iommu.driver.ask("viommu_reserved_regions", device=self.physical) or ()
        try:
            for region in regions:
                if region.kind is not RegionKind.DIRECT_RELAXABLE:
                    ioas.space.reserve(region.start, region.last, self)
        except BaseException:
            ioas.space.unreserve(self)
            raise

    @staticmethod
    def _answer_faults(hwpt: Hwpt, attachment: Attachment) -> None:
        if hwpt.fault is not None:
            hwpt.fault.answer_for(attachment)


def _unreserve(hwpt: Hwpt, devices: Iterable[Device]) -> None:
    for device in devices:
        hwpt.paging.ioas.space.unreserve(device)


def _check_group(context: Context, physical: PhysicalDevice) -> None:
    for member in physical.group.members:
        owner = member.owner
        if owner is not None and (member is physical or owner.context is not context):
            raise Busy(physical.name, "owner", bound="nobody yet")


def find_device(context: Context, number: int, field_name: str = "dev_id") -> Device:
    """Give a device by id. Raises NotThere."""
    device = context.table.find(number, Device, field_name)
    if device.leaving:
        raise NotThere(device.title, field_name, number, "not on its way out")
    return device
