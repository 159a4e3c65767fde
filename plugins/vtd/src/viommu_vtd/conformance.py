"""What the conformance kit has to know of VT-d: how guests write first-stage tables, descriptors and their queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu.iommufd.experimental import ExperimentalType, HwptVtdGuest, VeventVtd, ViommuVtd, VtdDescriptor
from viommu.ops import DeviceFeatures
from viommu.policies import Policy
from viommu.table_shapes import vtd_second_stage, x86
from viommu.testing import GuestKit
from viommu_vtd.spec.commands import (
    DeviceTlbInvalidate,
    InvalidationType,
    InvalidationWait,
    PasidIotlbGranularity,
    PasidIotlbInvalidate,
)
from viommu_vtd.spec.faults import FRCD
from viommu_vtd.spec.offsets import OFFSETS
from viommu_vtd.spec.registers import GSTS, RTADDR
from viommu_vtd.spec.root_context import ContextEntry, RootEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from viommu.api import Viommu
    from viommu.io_page_table import TableShape
    from viommu.memory import PhysicalMemory
    from viommu.objects.mmap import RegisterMapping
    from viommu.testing import GuestMemory, Space

PAGE_LG2, ENTRY = 12, 32
KIND = int(ExperimentalType.VTD)
MOST_PAGES_LG2 = 18
"""More are told as everything."""
DEVICE_EVERYTHING = (1 << 63) - (1 << PAGE_LG2)
UNKNOWN = (0xF).to_bytes(ENTRY, "little")
"""A descriptor of a type that there is not."""


def forget(domain: int, start: int, last: int) -> PasidIotlbInvalidate:
    """Give the descriptor of the smallest block around a range."""
    lg2 = ((start ^ last) >> PAGE_LG2).bit_length()
    kind = InvalidationType.PASID_IOTLB
    if lg2 > MOST_PAGES_LG2:
        return PasidIotlbInvalidate(Type=kind, G=PasidIotlbGranularity.PASID, DID=domain)
    address = start >> PAGE_LG2 + lg2 << PAGE_LG2 + lg2
    return PasidIotlbInvalidate(Type=kind, G=PasidIotlbGranularity.PAGE, DID=domain, AM=lg2, ADDR=address)


@frozen
class VtdSpace:
    """A first-stage table, known by a DID of the guest's."""

    domain: int
    data: HwptVtdGuest
    data_type: int | None = None
    pasid: int | None = None
    request_type: int | None = KIND

    def drop(self, start: int, last: int) -> Sequence[VtdDescriptor]:
        """Forget pages of the DID."""
        return [_request(forget(self.domain, start, last).encode())]


@define(eq=False)
class VtdQueue:
    """The invalidation queue of a guest, whose registers the VMM has mapped."""

    memory: GuestMemory
    base: int
    entries: int
    registers: RegisterMapping

    def write(self, index: int, command: bytes) -> None:
        """Store a descriptor of 256 bits."""
        self.memory.write(self.base + ENTRY * index, command.ljust(ENTRY, b"\0"))

    def ring(self, tail: int) -> None:
        """Write IQT."""
        self.registers.write(OFFSETS["IQT"], (tail * ENTRY).to_bytes(8, "little"))

    def head(self) -> int:
        """Read IQH."""
        return int.from_bytes(self.registers.read(OFFSETS["IQH"], 8), "little") // ENTRY

    def drop(self, space: Space, start: int, last: int) -> Sequence[bytes]:
        """Forget pages of the DID."""
        assert isinstance(space, VtdSpace)  # noqa: S101 - the kit gives back what it was given
        return [forget(space.domain, start, last).encode()]

    def illegal(self) -> bytes:
        """A type that there is not."""
        return UNKNOWN

    def close(self) -> None:
        """Unmap."""
        self.registers.close()


@frozen
class VtdQueues:
    """Software's queues (policy ``software_queues``), one for each vIOMMU."""

    type: int = KIND
    length: int = 1 << PAGE_LG2
    by_iova: bool = False

    def open(self, viommu: Viommu, memory: GuestMemory, base: int) -> VtdQueue:
        """Map its page of registers."""
        where = ViommuVtd.decode(viommu.data)
        registers = viommu.mmap(where.out_queue_mmap_offset, where.out_queue_mmap_length)
        return VtdQueue(memory, base, self.length // ENTRY, registers)


@frozen
class VtdEvents:
    """Fault records."""

    type: int = KIND

    def told(self, raw: bytes) -> tuple[int, int | None]:
        """Read SID and FI."""
        record = FRCD.decode(VeventVtd.decode(raw).record)
        return record.SID, record.FI


@frozen
class VtdGuests:
    """Guests by a vIOMMU, which is beyond mainline."""

    tables: TableShape = field(factory=x86)
    viommu: int | None = KIND
    queues: VtdQueues = field(factory=VtdQueues)
    events: VtdEvents = field(factory=VtdEvents)

    def viommu_data(self) -> ViommuVtd:
        """Ask where the queue's registers are."""
        return ViommuVtd.of()

    def space(self, memory: GuestMemory, root: int, number: int, virt_id: int) -> VtdSpace:  # noqa: ARG002
        """Nothing leads to a table but the HWPT."""
        return VtdSpace(number, HwptVtdGuest.of(pgtbl_addr=root, addr_width=48, domain_id=number))

    def drop_device(self, virt_id: int) -> VtdDescriptor:
        """Empty a device's TLB."""
        kind = InvalidationType.DEVICE_TLB
        return _request(DeviceTlbInvalidate(Type=kind, SID=virt_id, S=1, ADDR=DEVICE_EVERYTHING).encode())

    def illegal(self) -> VtdDescriptor:
        """A type that there is not."""
        return _request(UNKNOWN)


def _request(raw: bytes) -> VtdDescriptor:
    return VtdDescriptor.of(descriptor=raw.ljust(ENTRY, b"\0"))


@frozen
class VtdFences:
    """Wait descriptors with SW."""

    def request(self, address: int, value: int) -> VtdDescriptor:
        """By a call."""
        return _request(self.command(address, value))

    def command(self, address: int, value: int) -> bytes:
        """By a queue."""
        return InvalidationWait(Type=InvalidationType.WAIT, SW=1, STDATA=value, STADDR=address).encode()


@frozen
class VtdByHand:
    """Legacy mode, with second-stage tables of four levels."""

    tables: TableShape = field(factory=vtd_second_stage)

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        """Write a root entry and a context entry."""
        bus, function = divmod(requester, 256)
        roots, contexts = take(1), take(1)
        memory.write(roots + bus * RootEntry.size, RootEntry(P=1, CTP=contexts).encode())
        entry = ContextEntry(P=1, AW=2, DID=5, SSPTPTR=root)
        memory.write(contexts + function * ContextEntry.size, entry.encode())
        return {"GSTS": int(GSTS(TES=1)), "RTADDR": int(RTADDR(RTA=roots))}


KIT = GuestKit(
    policy=Policy(invalidate_by_viommu=True, software_queues=True),
    requesters=(0x0108, 0x0310),
    features=DeviceFeatures(ats=True, page_requests=True, pasid_bits=8),
    bare=VtdByHand(),
    nesting=VtdGuests(),
    fences=VtdFences(),
)
