"""HWPT: page tables of user space's making, paging (filled by an IOAS) or nested (a guest's)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import define

from viommu.errors import DriverBug, ViommuError, told
from viommu.kernel_errors import Invalid, Unsupported
from viommu.objects.failure import allocation_point
from viommu.objects.table import Object
from viommu.ops import DomainFlags

if TYPE_CHECKING:
    from viommu.objects.context import Context
    from viommu.objects.fault import FaultQueue
    from viommu.objects.ioas import Ioas
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.objects.viommu import Viommu
    from viommu.ops import NestedDomain, PagingDomain, UserData


@define(eq=False, kw_only=True, repr=False)
class Hwpt(Object):
    """What a device can be attached to. ``fault``: where page requests of what is attached go.

    ``pasid_compat``: it may be attached to PASIDs, and to the RID beside PASIDs.
    """

    kind: ClassVar[str] = "HWPT"

    context: Context
    iommu: PhysicalIommu
    pasid_compat: bool = False
    fault: FaultQueue | None = None

    @property
    def any_domain(self) -> PagingDomain | NestedDomain:
        """The driver's domain."""
        raise NotImplementedError

    @property
    def paging(self) -> PagingHwpt:
        """The paging HWPT that stands below: itself, or the parent."""
        raise NotImplementedError

    def set_fault(self, fault: FaultQueue) -> None:
        """Let page requests go to a FAULT."""
        fault.hold()
        self.fault = fault

    def destroy(self) -> None:
        """Free the domain."""
        self.iommu.driver.ask("viommu_free_domain", domain=self.any_domain)
        if self.fault is not None:
            self.fault.drop()

    def put(self) -> None:
        """Let go of it, as a device does that leaves."""
        self.drop()


@define(eq=False, kw_only=True, repr=False)
class PagingHwpt(Hwpt):
    """A page table that follows an IOAS. ``auto``: made by an attach to the IOAS, and gone with its last device."""

    kind: ClassVar[str] = "HWPT_PAGING"

    ioas: Ioas
    domain: PagingDomain
    nest_parent: bool = False
    auto: bool = False
    enforces_coherency: bool = False
    filled: bool = False

    @classmethod
    def alloc(
        cls, context: Context, ioas: Ioas, device: PhysicalDevice, flags: DomainFlags, data: UserData | None = None
    ) -> PagingHwpt:
        """Make the driver's domain; it is not in the table, and follows nothing. Raises KernelError."""
        if not device.iommu.driver.implements("viommu_alloc_paging"):
            raise Unsupported(device.name, "driver", bound="one that makes page tables")
        domain: PagingDomain = device.iommu.driver.call("viommu_alloc_paging", device=device, flags=flags, data=data)
        return cls(
            context=context,
            iommu=device.iommu,
            pasid_compat=DomainFlags.PASID in flags,
            ioas=ioas,
            domain=domain,
            nest_parent=DomainFlags.NEST_PARENT in flags,
        )

    @property
    def any_domain(self) -> PagingDomain:
        """The driver's domain."""
        return self.domain

    @property
    def paging(self) -> PagingHwpt:
        """Itself."""
        return self

    def follow(self) -> None:
        """Let the domain follow the IOAS. Raises AddressInUse, Invalid, BadAddress, NoMemory."""
        try:
            self.ioas.add_domain(self.domain)
        except ViommuError:
            raise
        except Exception as error:
            raise DriverBug(self.iommu.driver.info.name, "PagingDomain", told(error)) from error
        self.ioas.hwpts.append(self)
        self.filled = True

    def enforce_coherency(self) -> None:
        """Make DMA coherent, if the hardware can."""
        self.enforces_coherency = self.enforces_coherency or self.domain.enforce_coherency()

    def destroy(self) -> None:
        """Empty the domain and free it."""
        if self.filled:
            self.ioas.hwpts.remove(self)
            self.ioas.remove_domain(self.domain)
        super().destroy()
        self.ioas.drop()

    def put(self) -> None:
        """Let go of it; an automatic one goes with the last."""
        self.drop()
        if self.auto and self.users == 1:
            self.context.table.destroy(self)

    def set_dirty_tracking(self, enable: bool) -> None:
        """Switch dirty tracking; what was marked before it is enabled is forgotten. Raises Unsupported."""
        if not self.domain.dirty_tracking:
            raise Unsupported(self.title, "dirty tracking", bound="allocated with DIRTY_TRACKING")
        driver = self.iommu.driver
        allocation_point("dirty tracking")
        if enable:
            for area in self.ioas.space.areas:
                driver.ask(
                    "viommu_read_dirty",
                    domain=self.domain,
                    iova=area.start,
                    length=area.length,
                    clear=True,
                    bitmap=None,
                )
        driver.ask("viommu_set_dirty_tracking", domain=self.domain, enable=enable)


@define(eq=False, kw_only=True, repr=False)
class NestedHwpt(Hwpt):
    """A guest's table, on a parent: directly, or through a vIOMMU (which then holds the parent)."""

    kind: ClassVar[str] = "HWPT_NESTED"

    domain: NestedDomain
    parent: PagingHwpt
    viommu: Viommu | None = None

    @classmethod
    def alloc_on_parent(
        cls, context: Context, parent: PagingHwpt, device: PhysicalDevice, flags: DomainFlags, data: UserData
    ) -> NestedHwpt:
        """Make a nested domain directly on a parent. Raises Invalid, Unsupported, BadAddress."""
        if parent.auto or not parent.nest_parent or parent.iommu.driver is not device.iommu.driver:
            raise Invalid(parent.title, "flags", bound="allocated with NEST_PARENT, by the device's driver")
        domain: NestedDomain = device.iommu.driver.call(
            "viommu_alloc_nested", device=device, parent=parent.domain, flags=flags, data=data
        )
        parent.hold()
        return cls(
            context=context,
            iommu=device.iommu,
            pasid_compat=DomainFlags.PASID in flags,
            domain=domain,
            parent=parent,
        )

    @classmethod
    def alloc_on_viommu(cls, context: Context, viommu: Viommu, flags: DomainFlags, data: UserData) -> NestedHwpt:
        """Make a nested domain on a vIOMMU. Raises Invalid where it is empty, or as the driver does."""
        parent = viommu.parent
        viommu.hold()
        try:
            domain: NestedDomain = viommu.iommu.driver.call(
                "viommu_alloc_nested_on", viommu=viommu, flags=flags, data=data
            )
        except BaseException:
            viommu.drop()
            raise
        return cls(
            context=context,
            iommu=viommu.iommu,
            pasid_compat=DomainFlags.PASID in flags,
            domain=domain,
            parent=parent,
            viommu=viommu,
        )

    @property
    def any_domain(self) -> NestedDomain:
        """The driver's domain."""
        return self.domain

    @property
    def paging(self) -> PagingHwpt:
        """The parent."""
        return self.parent

    def destroy(self) -> None:
        """Free the domain, and let go of what it stands on."""
        super().destroy()
        (self.parent if self.viommu is None else self.viommu).drop()
