"""The driver that is asked: what it implements, what it says of itself, and why a rule may not apply to it."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import define

from viommu.drivers import BoundDriver, bind, bind_plugin
from viommu.errors import BadValue
from viommu.hookspecs import LiveHardware
from viommu.kernel_errors import KernelError
from viommu.machine import Machine
from viommu.ops import DomainFlags
from viommu.testing.guest_kit import RECORDED, GuestKit
from viommu.testing.room import Room
from viommu.testing.rule import Need
from viommu.testing.worlds import BASE, GUEST_BYTES, IOVA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.endpoint import Endpoint
    from viommu.ops import DeviceFacts
    from viommu.testing.guest_kit import Events, Nesting, Queues
    from viommu.testing.rule import Rule

__all__ = ["Subject"]

PAGE_LG2 = 12


@define(slots=False)
class Subject:
    """A bound driver, with its guest kit."""

    driver: BoundDriver
    kit: GuestKit

    @classmethod
    def of(cls, driver: object, kit: GuestKit | None = None) -> Subject:
        """Bind a driver: an object with hooks, or the name of an installed one. ``kit`` None: what the driver gives.

        Raises UnknownDriver, BrokenDriver, DriverBug, BadValue (a guest kit that is none, or names what no record has).
        """
        bound = bind(driver) if isinstance(driver, str) else bind_plugin(driver)
        found = kit if kit is not None else bound.ask("viommu_conformance")
        if found is None:
            found = GuestKit()
        if not isinstance(found, GuestKit):
            raise BadValue("viommu_conformance", found, "a viommu.testing.GuestKit, or None")
        strange = set(found.unrecorded) - set(RECORDED)
        if strange:
            raise BadValue("GuestKit.unrecorded", sorted(strange), f"of {', '.join(RECORDED)}")
        return cls(bound, found)

    def machine(self, **changes: object) -> Machine:
        """Make a machine whose IOMMU is the driver's. Raises as Machine."""
        usual = {"memory": "64M", "registers": dict(self.kit.registers), "policy": self.kit.policy}
        return Machine(self.driver, **usual | changes)  # type: ignore[arg-type]

    @property
    def requesters(self) -> tuple[int, int]:
        """The kit's ids of two devices, or 0 and 1 where hardware has no ids that large."""
        first, second = self.kit.requesters
        return (first, second) if max(first, second) < 1 << self.driver.info.requester_bits else (0, 1)

    def plug(self, machine: Machine, number: int) -> Endpoint:
        """Put one of the kit's two devices into a machine. Raises as `Machine.add_device`."""
        has = self.kit.features
        return machine.add_device(
            self.requesters[number],
            ats=has.ats,
            page_requests=has.page_requests,
            pasid_bits=has.pasid_bits,
            pasid_exec=has.pasid_exec,
            pasid_privileged=has.pasid_privileged,
            stalls=has.stalls,
        )

    @property
    def nesting(self) -> Nesting:
        """How guests stand on their host; not to be asked where there are none."""
        assert self.kit.nesting is not None  # noqa: S101 - a rule that needs NESTING has it
        return self.kit.nesting

    @property
    def queues(self) -> Queues:
        """Guests' queues; as `nesting`."""
        assert self.nesting.queues is not None  # noqa: S101
        return self.nesting.queues

    @property
    def events(self) -> Events:
        """Guests' events; as `nesting`."""
        assert self.nesting.events is not None  # noqa: S101
        return self.nesting.events

    @cached_property
    def facts(self) -> DeviceFacts | None:
        """What the driver says of a device with the kit's features; None without a host driver."""
        if not self.driver.implements("viommu_alloc_paging"):
            return None
        with self.machine() as machine:
            return self.plug(machine, 0).physical.facts

    @cached_property
    def has_host(self) -> bool:
        """Whether it has a host driver that can be brought up."""
        return self.driver.implements("viommu_alloc_paging") and self.driver.implements("viommu_attach")

    @cached_property
    def is_live(self) -> bool:
        """Whether software can program its hardware."""
        with self.machine() as machine:
            return isinstance(machine.hardware.model, LiveHardware)

    @cached_property
    def smallest(self) -> int:
        """The smallest page of the driver's page tables, in bytes."""
        with self.machine() as machine:
            device = self.plug(machine, 0).physical
            domain = self.driver.call("viommu_alloc_paging", device=device, flags=DomainFlags(0), data=None)
            sizes: int = domain.page_sizes
            self.driver.ask("viommu_free_domain", domain=domain)
            return sizes & -sizes

    @cached_property
    def room(self) -> Room:
        """Where both devices may be given what an IOAS maps."""
        with self.machine() as machine, machine.open_iommufd() as iommu:
            ioas = iommu.ioas_alloc()
            for number in range(2):
                device = iommu.bind(self.plug(machine, number))
                with suppress(KernelError):  # of two devices that cannot share, the first says where
                    device.attach(ioas.hwpt_alloc(device))
            return Room(ioas.ranges())

    @property
    def base(self) -> int:
        """Where rules map, with room for `viommu.testing.room.NEEDED` bytes. Raises Inapplicable."""
        return self.room.base

    @cached_property
    def unfit(self) -> str | None:
        """Say what the kit cannot map in the driver's page tables."""
        if self.smallest > 1 << PAGE_LG2:
            return (
                f"its domains map no 4K page (the smallest has {self.smallest >> 10}K), and the kernel that is "
                "modelled has pages of 4K"
            )
        return None

    @cached_property
    def unfit_guests(self) -> str | None:
        """Say what the kit cannot map in the guests' tables, or for them."""
        shape = self.nesting.tables
        if shape.granule_lg2 > PAGE_LG2:
            return "pages of the guests' tables are larger than 4 KiB, and the kit maps pages of that size"
        if 1 << shape.input_bits < IOVA + GUEST_BYTES:
            return f"the guests' tables translate {shape.input_bits} bits, and the kit maps from {IOVA:#x} on"
        if not (self.room.holds(BASE, GUEST_BYTES) and self.room.holds(IOVA, GUEST_BYTES)):
            return (
                f"the kit has guests' memory at {BASE:#x} and their spaces at {IOVA:#x}, which its domains do not map"
            )
        return None

    def why_not(self, asked: Rule) -> str | None:
        """Say why a rule does not apply; None where it does."""
        if asked.id in self.kit.waived:
            return f"the driver says: {self.kit.waived[asked.id]}"
        lacking = [need.value for need in asked.needs if not self.has(need)]
        if lacking:
            return f"the driver has no {', and no '.join(lacking)}"
        guests = Need.NESTING in asked.needs or Need.VIOMMU in asked.needs or Need.QUEUES in asked.needs
        if self.has_host and (guests or Need.HOST in asked.needs) and self.unfit is not None:
            return self.unfit
        return self.unfit_guests if self.has_host and guests else None

    def has(self, need: Need) -> bool:
        """Say whether the driver has what a rule needs."""
        return PRESENT[need](self)


PRESENT: Mapping[Need, Callable[[Subject], bool]] = {
    Need.LIVE: lambda subject: subject.is_live,
    Need.BARE: lambda subject: subject.kit.bare is not None,
    Need.HOST: lambda subject: subject.has_host,
    Need.DIRTY: lambda subject: (
        subject.facts is not None and subject.facts.dirty_tracking and subject.driver.implements("viommu_read_dirty")
    ),
    Need.PASIDS: lambda subject: subject.facts is not None and subject.facts.max_pasids > 1,
    Need.ATS: lambda subject: subject.facts is not None and subject.facts.ats,
    Need.PAGE_REQUESTS: lambda subject: (
        subject.kit.features.page_requests and subject.driver.implements("viommu_page_response")
    ),
    Need.KINDS: lambda subject: bool(subject.driver.kinds()),
    Need.LOG_LINES: lambda subject: subject.driver.implements("viommu_log_line"),
    Need.NESTING: lambda subject: subject.kit.nesting is not None,
    Need.VIOMMU: lambda subject: subject.kit.nesting is not None and subject.kit.nesting.viommu is not None,
    Need.REQUESTS: lambda subject: subject.kit.nesting is not None,
    Need.QUEUES: lambda subject: subject.kit.nesting is not None and subject.kit.nesting.queues is not None,
    Need.FENCES: lambda subject: subject.kit.fences is not None,
    Need.EVENTS: lambda subject: subject.kit.nesting is not None and subject.kit.nesting.events is not None,
}
