"""What rules are asked on: a machine with its host, and guests on it, made anew for each example."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from viommu import Iotlb
from viommu.faults import Access, Fault
from viommu.testing.tables import PAGE, Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viommu.api.device import Device
    from viommu.api.hwpt import Hwpt
    from viommu.api.ioas import Ioas
    from viommu.api.iommufd import Iommufd
    from viommu.api.nested import NestedHwpt
    from viommu.api.viommu import HwQueue, Vdevice, Viommu
    from viommu.machine import Machine
    from viommu.policies import Policy
    from viommu.testing.guest_kit import Queue, Space
    from viommu.testing.subject import Subject

BASE = 0x4000_0000
"""Where a guest has its memory, as it sees it."""
GUEST_PAGES = 512
GUEST_BYTES = GUEST_PAGES * PAGE
IOVA = 0x1_0000_0000
"""Where guests map: beyond their memory, so that an IOVA taken for an IPA leads nowhere."""
TAG_BYTES = 8


@contextmanager
def host(
    subject: Subject, *, cached: bool = True, abandoned: bool = False, policy: Policy | None = None
) -> Iterator[Host]:
    """Make a machine with an open file, and close it in the end; not if it is ``abandoned`` with broken hardware.

    ``policy`` None: the kit's.
    """
    machine = subject.machine(iotlb=Iotlb() if cached else None, policy=policy or subject.kit.policy)
    try:
        yield Host(subject, machine, machine.open_iommufd())
    except Exception:  # not of what hangs: closing would hang too
        with suppress(Exception):  # what was seen first is what is told
            machine.close()
        raise
    if not abandoned:
        machine.close()


@contextmanager
def guest(subject: Subject, *, cached: bool = True, policy: Policy | None = None) -> Iterator[Guest]:
    """Make a machine with one guest on it, as `host`."""
    with host(subject, cached=cached, policy=policy) as made:
        yield made.guest()


@define(eq=False)
class Host:
    """A machine, and the one program that uses it."""

    subject: Subject
    machine: Machine
    iommu: Iommufd
    devices: list[Device] = field(factory=list)

    @property
    def base(self) -> int:
        """Where rules map for a device of the host's (`viommu.testing.subject.Subject.base`)."""
        return self.subject.base

    def device(self, number: int = 0) -> Device:
        """Give one of the kit's two devices, bound."""
        while len(self.devices) <= number:
            self.devices.append(self.iommu.bind(self.subject.plug(self.machine, len(self.devices))))
        return self.devices[number]

    def guest(self, number: int = 0, *, on: Viommu | None = None, virt_id: int | None = None) -> Guest:
        """Make a guest on one of the devices, by a nesting parent of its own; ``on``: that is given to this vIOMMU.

        ``virt_id`` None: the kit's for that device.
        """
        device = self.device(number)
        ioas, memory = self.iommu.ioas_alloc(), self.machine.buffer(GUEST_PAGES * PAGE)
        ioas.map(memory, BASE)
        parent = ioas.hwpt_alloc(device, nest_parent=True)
        if on is not None:
            on.set_stage2(parent)
        name = self.subject.kit.virtual_ids[number] if virt_id is None else virt_id
        return Guest(self, device, memory, ioas, parent, number, name, on)


@define(eq=False)
class Guest:
    """A guest with one device. Its memory (a `GuestMemory`) lies at `BASE`; nothing is attached yet."""

    host: Host
    device: Device
    memory: NDArray[np.uint8]
    ioas: Ioas
    parent: Hwpt
    number: int
    virt_id: int
    """By which the guest knows its device."""
    viommu: Viommu | None = None
    next: int = BASE
    spaces: list[GuestSpace] = field(factory=list)
    vdevices: list[Vdevice] = field(factory=list)
    queues: list[HwQueue] = field(factory=list)
    kept: list[int] = field(factory=list)
    """Pages for a rule to use again and again."""

    def __attrs_post_init__(self) -> None:
        """Make the vIOMMU, if it is not there, and let it know the device."""
        nesting = self.subject.nesting
        if self.viommu is None and nesting.viommu is not None:
            self.viommu = self.parent.viommu_alloc(self.device, nesting.viommu, nesting.viommu_data())
            self.vdevices.append(self.viommu.vdevice_alloc(self.device, self.virt_id))

    @property
    def subject(self) -> Subject:
        """The driver that is asked."""
        return self.host.subject

    # --- memory

    def take(self, pages: int = 1) -> int:
        """Take zeroed pages, aligned to their size rounded up to a power of two; the guest's address."""
        size = PAGE << (pages - 1).bit_length()
        at = -(-self.next // size) * size
        self.next = at + pages * PAGE
        assert self.next <= BASE + GUEST_PAGES * PAGE, "the guest's memory is full"  # noqa: S101 - a bug of the kit
        return at

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        at = address - BASE
        self.memory[at : at + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, address: int, length: int) -> bytes:
        """Load bytes."""
        return self.memory[address - BASE : address - BASE + length].tobytes()

    def page(self) -> int:
        """Take a page that begins with its own address, by which DMA tells where it came to."""
        at = self.take()
        self.write(at, tag(at))
        return at

    # --- address spaces

    def space(self) -> GuestSpace:
        """Make an address space with an empty table, and the HWPT of it."""
        tables = Tables(self, self.subject.nesting.tables)
        made = self.subject.nesting.space(self, tables.root, len(self.spaces) + 1, self.virt_id)
        below = self.parent if self.viommu is None else self.viommu
        hwpt = below.hwpt_alloc(self.device, made.data, data_type=made.data_type)
        self.spaces.append(GuestSpace(self, tables, made, hwpt))
        return self.spaces[-1]

    def attached(self) -> GuestSpace:
        """Make an address space, and attach it."""
        made = self.space()
        made.attach()
        return made

    def end(self) -> None:
        """Give everything back but the device."""
        self.device.detach()
        for hwpt in [one.hwpt for one in self.spaces]:
            hwpt.destroy()
        for made in [*self.queues, *self.vdevices]:
            made.destroy()
        if self.viommu is not None:
            self.viommu.destroy()
        self.parent.destroy()
        self.ioas.destroy()

    def queue(self) -> Queue:
        """Make a hardware queue, and open it."""
        assert self.viommu is not None  # noqa: S101 - queues are of vIOMMUs
        queues = self.subject.queues
        base = self.take(-(-queues.length // PAGE))
        made = self.viommu.hw_queue_alloc(queues.type, 0, base, queues.length, by_iova=queues.by_iova)
        self.queues.append(made)
        return queues.open(self.viommu, self, base)


@define(eq=False)
class GuestSpace:
    """One address space of a guest."""

    guest: Guest
    tables: Tables
    space: Space
    hwpt: NestedHwpt
    is_attached: bool = False

    def attach(self) -> None:
        """Let it govern the guest's device, in the place of what does."""
        attached = [one for one in self.guest.spaces if one is not self and one.is_attached]
        act = self.guest.device.replace if attached else self.guest.device.attach
        act(self.hwpt)
        for one in attached:
            one.is_attached = False
        self.is_attached = True

    def drop(self, start: int = 0, last: int = (1 << 64) - 1) -> int:
        """Have the guest invalidate IOVAs, by whatever it invalidates with; how many requests were executed."""
        requests = self.space.drop(start, last)
        viommu = self.guest.viommu
        # Where requests of a nested HWPT are the driver's way, it says so by having no vIOMMU.
        target = self.hwpt if viommu is None else viommu
        return target.invalidate(requests, data_type=self.space.request_type)

    def reaches(self, iova: int) -> int | None:
        """Read by DMA where an IOVA leads: the guest's address of the page; None where the access is refused."""
        found = self.guest.device.dma_read(iova, TAG_BYTES, self.space.pasid)
        return int.from_bytes(found, "little") if isinstance(found, bytes) else None

    def translates(self, iova: int, access: Access = Access.READ) -> bool:
        """Whether an access goes through."""
        return not isinstance(self.guest.device.translate(iova, access, self.space.pasid), Fault)

    def explained(self, iova: int) -> str:
        """Explain the walk of an IOVA, by the engine, and the entries as the kit reads them."""
        machine, device = self.guest.host.machine, self.guest.device.endpoint
        explained = machine.explain(device.requester, iova, Access.READ, self.space.pasid)
        return f"{explained}\nthe guest's entries, as the kit reads them:\n{self.tables.entries(iova)}"


def tag(address: int) -> bytes:
    """What a page begins with."""
    return address.to_bytes(TAG_BYTES, "little")
