"""The values that hooks are given and give back (`viommu.hookspecs`, the driver face).

Addresses and lengths are in bytes, ranges closed.
"""

from __future__ import annotations

from enum import Enum, IntFlag
from typing import TYPE_CHECKING, ClassVar, Protocol

from attrs import define, field, frozen

from viommu.kernel_errors import BadAddress, Invalid, NoMemory, TooBig

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.objects.physical import PhysicalDevice

__all__ = [
    "DeviceFacts",
    "DeviceFeatures",
    "DeviceTlbRequest",
    "DirtyBitmap",
    "DomainFlags",
    "HwInfo",
    "NestedDomain",
    "PageFault",
    "PagingDomain",
    "Prot",
    "RegionKind",
    "ReservedRegion",
    "UserArray",
    "UserData",
    "may_write",
]

FIRST_SHIFT = 4
PAGE_BITS = 12
ALLOCATION_LAST = 4 << 20
"""The most that the kernel's kmalloc gives, with pages of 4 KiB (bytes)."""


class Prot(IntFlag):
    """What DMA may do with a mapping."""

    READ = 1
    WRITE = 2


_WRITABLE = (Prot.WRITE, Prot.READ | Prot.WRITE)


def may_write(prot: Prot) -> bool:
    """Say whether DMA may write (an identity test, as maps are many and an enum's operators slow)."""
    return prot is _WRITABLE[0] or prot is _WRITABLE[1]


class DomainFlags(IntFlag):
    """What a paging or nested domain is wanted for; the values of HWPT_ALLOC's flags."""

    NEST_PARENT = 1
    DIRTY_TRACKING = 2
    PASID = 8


class RegionKind(Enum):
    """Why a device keeps IOVAs for itself."""

    RESERVED = "reserved"
    MSI = "msi"
    SOFTWARE_MSI = "software msi"
    DIRECT = "direct"
    DIRECT_RELAXABLE = "direct, relaxable"


@frozen
class ReservedRegion:
    """IOVAs that no mapping may use (closed range)."""

    start: int
    last: int
    kind: RegionKind = RegionKind.RESERVED


@frozen
class DeviceFacts:
    """What a driver says of one device.

    ``max_pasids`` 0: none but PASID 0 exists. ``pasid_width`` is what GET_HW_INFO shows.
    """

    cache_coherent: bool = True
    enforces_coherency: bool = False
    dirty_tracking: bool = False
    ats: bool = False
    max_pasids: int = 0
    pasid_exec: bool = False
    pasid_privileged: bool = False
    user_pasid_table: bool = False
    """Faults of PASIDs that nobody attached go to the nested HWPT of the RID."""


@frozen
class DeviceFeatures:
    """What a device can itself, as its configuration space or firmware says; its IOMMU may be able to do less.

    ``pasid_bits`` 0: it sends no PASIDs. ``stalls``: its accesses may wait for software, without PRI (Arm).
    """

    ats: bool = False
    page_requests: bool = False
    pasid_bits: int = 0
    pasid_exec: bool = False
    pasid_privileged: bool = False
    stalls: bool = False


@frozen
class HwInfo:
    """Registers as GET_HW_INFO gives them: the type of the data, and its bytes."""

    type: int
    data: bytes


class PagingDomain(Protocol):
    """A page table of a driver: IOVA (or IPA) to physical addresses, filled by the IOAS.

    ``page_sizes`` is a bitmap; its lowest bit is the alignment that the IOAS then demands. Nothing outside
    ``aperture`` (closed) is ever mapped. Ranges are multiples of the lowest page size; what is mapped is free, and
    what is unmapped was mapped. None of these calls goes through a hook: they are the data path of an IOAS.
    """

    page_sizes: int
    aperture: tuple[int, int]
    dirty_tracking: bool

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map a physically contiguous range, with no entry larger than ``largest`` (None: as the driver likes).

        Raises KernelError, and then nothing of it is mapped.
        """

    def unmap(self, iova: int, length: int) -> None:
        """Unmap a range, and let no translation of it stay cached."""

    def physical(self, iova: int) -> int | None:
        """Translate one IOVA; None where nothing is mapped."""

    def enforce_coherency(self) -> bool:
        """Make DMA coherent whatever devices ask for, if the hardware can; say whether it is so."""


class NestedDomain(Protocol):
    """A guest's table, or configuration, on top of a parent: whatever a driver keeps of it."""


class DirtyBitmap(Protocol):
    """Where `viommu_read_dirty` reports."""

    def mark(self, iova: int, length: int) -> None:
        """Take note that DMA wrote to this range."""


@frozen
class PageFault:
    """One page request of a device. ``perm``: 1 read, 2 write, 4 execute, 8 privileged."""

    addr: int
    perm: int
    grpid: int = 0
    pasid: int | None = None
    last: bool = True


@frozen(eq=False)
class UserData:
    """One item of driver data: a type, and bytes of user memory that are read when the driver wants them.

    A driver that answers a wrong type with EOPNOTSUPP looks at ``type`` itself, before `copy`.
    """

    process: UserProcess
    type: int
    address: int
    length: int

    def copy(self, kind: int, least: int, size: int) -> bytes:
        """Give ``size`` bytes, zeros where user space gave fewer.

        Raises Invalid (another type, shorter than ``least``, longer than ``size``), BadAddress.
        """
        self._check(kind, least, size)
        raw = self.process.read(self.address, self.length)
        if raw is None:
            raise BadAddress("driver data", "data_uptr", self.address, f"{self.length:#x} readable bytes")
        return raw.ljust(size, b"\0")

    def reply(self, kind: int, least: int, data: bytes) -> None:
        """Copy the driver's answer back, as far as user space has room. Raises as `copy`."""
        self._check(kind, least, len(data))
        if not self.process.write(self.address, data[: self.length]):
            raise BadAddress("driver data", "data_uptr", self.address, f"{self.length:#x} writable bytes")

    def _check(self, kind: int, least: int, size: int) -> None:
        if self.type != kind:
            raise Invalid("driver data", "type", self.type, f"{kind:#x}")
        if self.length < least:
            raise Invalid("driver data", "data_len", self.length, f"at least {least:#x}")
        if self.length > size:
            raise Invalid("driver data", "data_len", self.length, f"at most {size:#x}")


@define(eq=False)
class UserArray:
    """Invalidation requests in user memory. The hook sets ``done`` to how many it has handled, also when it raises."""

    process: UserProcess
    type: int
    address: int
    entry_length: int
    count: int
    done: int = 0

    def entry(self, index: int, kind: int, least: int, size: int) -> bytes:
        """Give one entry, ``size`` bytes. Raises Invalid (type, length outside ``least`` to ``size``), BadAddress."""
        if not self.address:
            raise Invalid("invalidation", "data_uptr", 0, "an address")
        data = UserData(self.process, self.type, self.address + index * self.entry_length, self.entry_length)
        return data.copy(kind, least, size)

    def whole(self, kind: int, size: int) -> list[bytes]:
        """Give all entries, ``size`` bytes each: shorter ones are filled with zeros, longer ones end in zeros.

        Raises NoMemory (the kernel copies them into one allocation), Invalid (type, no entries), BadAddress, TooBig.
        """
        if self.count * size > ALLOCATION_LAST:
            self.done = self.count  # drivers return before they count
            raise NoMemory("invalidation", "entry_num", self.count, f"at most {ALLOCATION_LAST // size:#x}")
        if self.type != kind:
            raise Invalid("invalidation", "data_type", self.type, f"{kind:#x}")
        if not self.count or not self.address:
            raise Invalid("invalidation", "entry_num", self.count, "at least one entry, at an address")
        return [self.padded(index, size) for index in range(self.count)]

    def padded(self, index: int, size: int) -> bytes:
        """Give ``size`` bytes of one entry: a shorter one filled with zeros. Raises BadAddress, TooBig."""
        address = self.address + index * self.entry_length
        raw = self.process.read(address, self.entry_length)
        if raw is None:
            raise BadAddress("invalidation", "data_uptr", address, "readable")
        if raw[size:].strip(b"\0"):
            raise TooBig("invalidation", "entry_len", self.entry_length, f"{size:#x} bytes, or zeros after them")
        return raw[:size].ljust(size, b"\0")


@frozen
class DeviceTlbRequest:
    """One invalidation of a device's own TLB: [``start``, ``last``] in bytes.

    ``pasid`` None and ``every_pasid`` False: translations without a PASID.
    """

    device: PhysicalDevice
    pasid: int | None
    start: int
    last: int
    every_pasid: bool = False


@define(eq=False)
class Blocked:
    """The state of a device, or of a PASID, that is attached to nothing: all DMA is refused."""

    name: ClassVar[str] = "blocked"
    notes: dict[str, object] = field(factory=dict)
