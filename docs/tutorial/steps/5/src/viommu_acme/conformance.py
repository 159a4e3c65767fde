"""What viommu's conformance kit has to know: how hardware is programmed by hand, and how guests speak to their host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from viommu.policies import Policy
from viommu.testing import GuestKit

from viommu_acme.guest_data import TYPE, AcmeInvalidate, HwptAcme
from viommu_acme.spec import CTRL, DTBASE, DTE, Event, Mode
from viommu_acme.translate import SHAPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from viommu import PhysicalMemory
    from viommu.io_page_table import TableShape
    from viommu.testing import GuestMemory

PAGE_LG2 = 12
PAGE = 1 << PAGE_LG2
MOST_LG2 = 52


@frozen
class ByHand:
    """Programs one device, in a device table that is as long as it has to be."""

    tables: TableShape = SHAPE

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        """Let page tables at ``root`` govern a device; give the registers' values."""
        lg2 = requester.bit_length()
        table = take(-(-(DTE.size << lg2) // PAGE))
        entry = DTE(V=1, Mode=Mode.TRANSLATE, TablePtr=root, DomainID=1)
        memory.write(table + DTE.size * requester, entry.encode())
        return {"DTBASE": int(DTBASE(Address=table, SizeLg2=lg2)), "CTRL": int(CTRL(E=1))}


@frozen
class AcmeSpace:
    """A guest's page table, and how the guest has its host forget what was in it."""

    number: int
    data: HwptAcme
    data_type: int | None = TYPE
    pasid: int | None = None
    request_type: int | None = TYPE

    def drop(self, start: int, last: int) -> Sequence[AcmeInvalidate]:
        """Forget the smallest block around a range."""
        lg2 = min(((start ^ last) >> PAGE_LG2).bit_length(), MOST_LG2)
        return [AcmeInvalidate.of(address=start >> PAGE_LG2 + lg2 << PAGE_LG2 + lg2, space=self.number, lg2=lg2)]


@frozen
class AcmeEvents:
    """Events of guests."""

    type: int = TYPE

    def told(self, raw: bytes) -> tuple[int, int | None]:
        """Read whose event it is, and of which address."""
        event = Event.decode(raw)
        return event.DeviceID, event.Address


@frozen
class AcmeGuests:
    """Guests of this hardware."""

    tables: TableShape = SHAPE
    viommu: int | None = TYPE
    queues: None = None
    events: AcmeEvents = AcmeEvents()

    def viommu_data(self) -> None:
        """There is none."""

    def space(self, memory: GuestMemory, root: int, number: int, virt_id: int) -> AcmeSpace:
        """Give a page table to the host, under a number of the guest's."""
        return AcmeSpace(number, HwptAcme.of(table=root, space=number))

    def drop_device(self, virt_id: int) -> None:
        """There are no device TLBs."""

    def illegal(self) -> AcmeInvalidate:
        """A block that is larger than the address space."""
        return AcmeInvalidate.of(lg2=99)


KIT = GuestKit(policy=Policy(invalidate_by_viommu=True), bare=ByHand(), nesting=AcmeGuests())
