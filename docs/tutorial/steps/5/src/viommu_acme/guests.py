"""Guests: their slices of the hardware, their page tables on the host's, their invalidations, their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field
from viommu import hookimpl
from viommu.kernel_errors import Invalid, KernelError, Unsupported
from viommu.objects.veventq import report_event

from viommu_acme.guest_data import TYPE, AcmeInvalidate, HwptAcme
from viommu_acme.spec import DTE, Mode

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DomainFlags, UserArray, UserData

    from viommu_acme.domains import Domain
    from viommu_acme.spec import Event
    from viommu_acme.unit import Unit

PAGE = 0x1000
SPACES = 1 << 12
LARGEST_LG2 = 52
IDS = 1 << 16


@define(eq=False)
class Guest:
    """A vIOMMU. Its spaces are known to hardware by numbers of the host's, so that guests cannot name one another's."""

    parent: Domain
    nested: list[Nested] = field(factory=list)


@define(eq=False)
class Nested:
    """A guest's page table on the host's."""

    guest: Guest
    unit: Unit
    table: int
    space: int
    number: int

    @property
    def entry(self) -> DTE:
        """What lets it govern a device."""
        return self.guest.parent.entry.replace(Mode=Mode.NESTED, GuestTablePtr=self.table, GuestSpace=self.number)

    def forget(self, address: int, lg2: int) -> None:
        """Let no translation of 2^(12 + lg2) bytes stay cached."""
        self.unit.forget_space_pages(self.guest.parent.number, self.number, address, lg2)

    def free(self) -> None:
        """Give its number back, once nothing remembers it."""
        self.forget(0, LARGEST_LG2)
        self.guest.nested.remove(self)
        self.unit.spaces.give_back(self.number)


@hookimpl
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool:
    """There is one type."""
    return viommu_type == TYPE


@hookimpl
def viommu_init(viommu: Viommu, parent: Domain, data: UserData | None) -> None:
    """Make a guest's slice."""
    if data is not None:
        raise Unsupported(viommu.title, "data_type", data.type, "none")
    if parent.unit is not viommu.iommu.data:
        raise Invalid(viommu.title, "parent", bound=f"one that was made for {viommu.iommu.name}")
    viommu.data = Guest(parent)


@hookimpl
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> Nested:
    """Take a guest's page table. What lies in it is the guest's business."""
    if flags:
        raise Unsupported(viommu.title, "flags", int(flags), "0")
    given = HwptAcme.decode(data.copy(TYPE, HwptAcme.total, HwptAcme.total))
    if given.table % PAGE or given.table >> LARGEST_LG2:
        raise Invalid(viommu.title, "table", given.table, "a multiple of 0x1000 of 52 bits")
    if given.space >= SPACES or given.reserved:
        raise Invalid(viommu.title, "space", given.space, f"below {SPACES:#x}, with nothing reserved set")
    guest, unit = viommu.data, viommu.iommu.data
    made = Nested(guest, unit, given.table, given.space, unit.spaces.take(viommu.title))
    guest.nested.append(made)
    return made


@hookimpl
def viommu_vdevice_init(vdevice: Vdevice) -> None:
    """Let a guest know a device by an id of its own."""
    if vdevice.virt_id >= IDS:
        raise Invalid(vdevice.title, "virt_id", vdevice.virt_id, f"below {IDS:#x}")


@hookimpl
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Forget what a guest asks to forget, request by request, up to one that is wrong."""
    guest: Guest = viommu.data
    if not requests.count and requests.type == TYPE:
        return True
    for raw in requests.whole(TYPE, AcmeInvalidate.total):
        asked = AcmeInvalidate.decode(raw)
        if asked.lg2 > LARGEST_LG2 or asked.space >= SPACES:
            raise Invalid(viommu.title, "lg2", asked.lg2, f"at most {LARGEST_LG2}, of a space below {SPACES:#x}")
        for nested in guest.nested:
            if nested.space == asked.space:
                nested.forget(asked.address & (1 << LARGEST_LG2) - PAGE, asked.lg2)
        requests.done += 1
    return True


def tell(iommu: PhysicalIommu, event: Event) -> None:
    """Tell the guest that has the device, if its DMA went through tables of the guest's."""
    device = iommu.devices.get(event.DeviceID)
    vdevice = None if device is None else device.vdevice
    if vdevice is None or iommu.data.entry(event.DeviceID).Mode != Mode.NESTED:
        return
    try:
        report_event(vdevice.viommu, TYPE, event.replace(DeviceID=vdevice.virt_id).encode())
    except KernelError:
        return  # nobody has made a queue for it: the event is lost
