"""Paging domains: a first-stage or second-stage table that an IOAS fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field
from viommu.io_page_table import IoPageTable
from viommu.kernel_errors import Invalid, Unsupported
from viommu.ops import DomainFlags
from viommu.table_shapes import riscv as riscv_shape

from viommu_riscv.host import requests
from viommu_riscv.host.abilities import LEVELS
from viommu_riscv.host.requests import EVERYTHING, Pages

if TYPE_CHECKING:
    from viommu.numbers import Numbers
    from viommu.ops import Prot, UserData

    from viommu_riscv.host.device import HostDevice
    from viommu_riscv.host.guests import GuestIommu
    from viommu_riscv.host.unit import Unit
    from viommu_riscv.spec.commands import Command
    from viommu_riscv.spec.directories import StageMode

WRITE = 1 << 2
"""W of a leaf."""


@define(eq=False, kw_only=True)
class PagingDomain:
    """A page table of the host (`viommu.ops.PagingDomain`). ``tags``: by which number each unit's caches know it.

    ``devices`` are those, and their PASIDs, that it governs; a tag is taken with the first in a unit, and given back
    with the last.
    """

    mode: StageMode
    table: IoPageTable
    page_sizes: int
    aperture: tuple[int, int]
    dirty_tracking: bool = False
    nest_parent: bool = False
    tags: dict[Unit, int] = field(factory=dict)
    devices: list[tuple[HostDevice, int]] = field(factory=list)

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map a range: what was not there is cached nowhere. Raises NoMemory, OutOfRangeSize."""
        self.table.map(iova, pa, length, prot, largest)

    def unmap(self, iova: int, length: int) -> None:
        """Unmap a range, and let no cache remember it; only then may its tables be used for something else."""
        gone = self.table.unmap(iova, length)
        self.drop(Pages.around(iova, iova + length - 1), tables=bool(gone.tables))
        gone.free()

    def physical(self, iova: int) -> int | None:
        """Translate one IOVA."""
        return self.table.physical(iova)

    def writable(self, iova: int) -> int | None:
        """Translate one IOVA, where devices may write."""
        leaf = self.table.leaf(iova)
        return leaf.pa if leaf is not None and leaf.entry & WRITE else None

    def enforce_coherency(self) -> bool:
        """All DMA is coherent."""
        return True

    def free(self) -> None:
        """Give the table back; nothing is attached."""
        self.table.free()

    def drop(self, pages: Pages, *, tables: bool) -> None:
        """Have all caches drop pages. Device TLBs come after the IOTLBs, which they would fill from again."""
        for unit, tag in list(self.tags.items()):
            unit.submit([*self.commands(unit, tag, pages, tables=tables), *self.to_devices(unit, pages)])

    def commands(self, unit: Unit, tag: int, pages: Pages, *, tables: bool) -> list[Command]:
        """Give the commands by which a unit's caches drop pages."""
        raise NotImplementedError

    def to_devices(self, unit: Unit, pages: Pages) -> list[Command]:
        """Give the commands by which devices drop pages."""
        return [
            requests.device_tlb(device.id, pasid or None, pages)
            for device, pasid in self.devices
            if device.unit is unit and device.ats
        ]

    def govern(self, device: HostDevice, pasid: int) -> int:
        """Take note of a device's PASID; its tag there. Raises NoSpace."""
        unit = device.unit
        if unit not in self.tags:
            self.tags[unit] = self.numbers(unit).take(unit.name)
        self.devices.append((device, pasid))
        return self.tags[unit]

    def ungovern(self, device: HostDevice, pasid: int) -> None:
        """Forget a device's PASID. Caches forget its tag with the last."""
        self.devices.remove((device, pasid))
        self.let_go(device.unit)

    def let_go(self, unit: Unit) -> None:
        """Give a unit's tag back if nobody needs it there."""
        if unit in self.tags and not self.is_used(unit):
            tag = self.tags.pop(unit)
            unit.submit(self.commands(unit, tag, EVERYTHING, tables=True))
            self.numbers(unit).give_back(tag)

    def is_used(self, unit: Unit) -> bool:
        """Whether a tag is needed in a unit."""
        return any(device.unit is unit for device, _ in self.devices)

    def numbers(self, unit: Unit) -> Numbers:
        """Where its tags come from."""
        raise NotImplementedError

    def check(self, unit: Unit) -> None:
        """Refuse a unit that the table does not fit. Raises Invalid."""
        raise NotImplementedError


@define(eq=False, kw_only=True)
class FirstStageDomain(PagingDomain):
    """First stage, as a CPU has it: what is mapped can be read. The lower half of addresses is used."""

    def commands(self, unit: Unit, tag: int, pages: Pages, *, tables: bool) -> list[Command]:
        """By PSCID."""
        return [*requests.first_stage(unit.able.capabilities, tag, pages, tables=tables)]

    def numbers(self, unit: Unit) -> Numbers:
        """PSCIDs."""
        return unit.spaces

    def check(self, unit: Unit) -> None:
        """Refuse a unit without the mode. Raises Invalid."""
        _check_mode(self.mode, unit.able.first_stage, "first-stage domain")


@define(eq=False, kw_only=True)
class SecondStageDomain(PagingDomain):
    """Second stage. ``guests`` are the vIOMMUs that stand on it. ``tracking``: writes are noted now."""

    guests: list[GuestIommu] = field(factory=list)
    tracking: bool = False

    def commands(self, unit: Unit, tag: int, pages: Pages, *, tables: bool) -> list[Command]:
        """By GSCID: its own, and those of guests that have one to themselves."""
        tags = dict.fromkeys((tag, *(guest.tag for guest in self.guests if guest.unit is unit)))
        able = unit.able.capabilities
        return [one for each in tags for one in requests.guest_space(able, each, pages, tables=tables)]

    def to_devices(self, unit: Unit, pages: Pages) -> list[Command]:
        """Nobody can tell which of a guest's addresses lead to these pages: its devices drop everything."""
        found = super().to_devices(unit, pages)
        for guest in self.guests:
            found += guest.empty_device_tlbs() if guest.unit is unit else []
        return found

    def numbers(self, unit: Unit) -> Numbers:
        """GSCIDs."""
        return unit.guests

    def is_used(self, unit: Unit) -> bool:
        """Guests need it too."""
        return super().is_used(unit) or any(guest.unit is unit for guest in self.guests)

    def check(self, unit: Unit) -> None:
        """Refuse a unit without the mode, or without what the table is wanted for. Raises Invalid."""
        _check_mode(self.mode, unit.able.second_stage, "second-stage domain")
        if self.dirty_tracking and not unit.able.dirty:
            raise Invalid("second-stage domain", "dirty tracking", bound="a unit that has it (AMO_HWAD)")


def make(unit: Unit, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """Make an empty one: first stage wherever there is no reason against it. Raises Unsupported, NoMemory."""
    if data is not None:
        raise Unsupported("paging domain", "data_type", data.type, "0: it takes no driver data")
    if flags & ~(DomainFlags.NEST_PARENT | DomainFlags.DIRTY_TRACKING | DomainFlags.PASID):
        raise Unsupported("paging domain", "flags", int(flags), "of NEST_PARENT, DIRTY_TRACKING and PASID")
    if not flags & ~DomainFlags.PASID and unit.able.first_stage:
        return _first_stage(unit)
    if DomainFlags.PASID in flags:
        raise Unsupported("paging domain", "flags", int(flags), "PASID alone: second stage is a device's")
    if DomainFlags.NEST_PARENT in flags and not unit.able.nested:
        raise Unsupported("paging domain", "flags", int(flags), "without NEST_PARENT: both stages are needed")
    if DomainFlags.DIRTY_TRACKING in flags and not unit.able.dirty:
        raise Unsupported("paging domain", "flags", int(flags), "without DIRTY_TRACKING: AMO_HWAD is needed")
    return _second_stage(unit, flags)


def _first_stage(unit: Unit) -> FirstStageDomain:
    mode = unit.able.first_stage
    shape = riscv_shape(LEVELS[mode])
    return FirstStageDomain(
        mode=mode,
        table=IoPageTable(unit.frames, shape),
        page_sizes=shape.page_sizes,
        aperture=(0, (1 << 11 + 9 * LEVELS[mode]) - 1),
    )


def _second_stage(unit: Unit, flags: DomainFlags) -> SecondStageDomain:
    mode = unit.able.second_stage
    tracks = DomainFlags.DIRTY_TRACKING in flags
    shape = riscv_shape(LEVELS[mode], guest_stage=True, dirty=tracks)
    return SecondStageDomain(
        mode=mode,
        table=IoPageTable(unit.frames, shape),
        page_sizes=shape.page_sizes,
        aperture=(0, (1 << 14 + 9 * LEVELS[mode]) - 1),
        dirty_tracking=tracks,
        nest_parent=DomainFlags.NEST_PARENT in flags,
    )


def _check_mode(mode: StageMode, has: StageMode, what: str) -> None:
    if mode != has:
        raise Invalid(what, "mode", int(mode), f"the one of the unit, {has.name}")
