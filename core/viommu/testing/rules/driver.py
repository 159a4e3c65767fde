"""DRV: what a driver says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo
from viommu.layout import Descriptor
from viommu.testing.rule import Inapplicable, Need, expect, rule
from viommu.testing.worlds import host

if TYPE_CHECKING:
    from viommu.testing.subject import Subject

NEST_HOOKS = ("viommu_alloc_nested", "viommu_alloc_nested_on")


@rule(
    "DRV-001",
    "A driver tells the same name, bounds and title each time.",
    source="viommu_driver_info, Owes",
)
def info_stays(subject: Subject) -> None:
    """Ask three times."""
    told = [subject.driver.call("viommu_driver_info") for _ in range(3)]
    expect(all(isinstance(info, DriverInfo) for info in told), f"viommu_driver_info gave {told[0]!r}")
    expect(len(set(map(repr, told))) == 1, "viommu_driver_info gave different values", told=lambda: told)
    expect(told[0].title.strip(), "the title is empty")


@rule("DRV-002", "Layouts are Descriptor classes by name, the same each time.", source="viommu_layouts, Owes")
def layouts_stay(subject: Subject) -> None:
    """Ask twice."""
    first, second = dict(subject.driver.layouts()), dict(subject.driver.layouts())
    wrong = [name for name, kind in first.items() if Descriptor not in getattr(kind, "__mro__", ())]
    expect(not wrong, f"{', '.join(wrong)}: no Descriptor classes")
    expect(first == second, "viommu_layouts gave different mappings")


@rule(
    "DRV-003",
    "Kinds of explained bytes have sizes of one byte or more, the same each time.",
    source="viommu_kinds, Owes",
    needs=(Need.KINDS,),
)
def kinds_stay(subject: Subject) -> None:
    """Ask twice."""
    first, second = dict(subject.driver.kinds()), dict(subject.driver.kinds())
    expect(first == second, "viommu_kinds gave different mappings")
    wrong = [kind for kind, sizes in first.items() if not sizes or any(size < 1 for size in sizes)]
    expect(not wrong, f"{', '.join(wrong)}: no sizes")


@rule(
    "DRV-004",
    "A driver that lets guests nest says how guests do it, so that the kit can ask.",
    source="viommu_conformance, Owes",
)
def guests_are_described(subject: Subject) -> None:
    """Look for the guest kit."""
    nests = [hook for hook in NEST_HOOKS if subject.driver.implements(hook)]
    if not nests:
        raise Inapplicable("the driver lets no guest nest (viommu_alloc_nested, viommu_alloc_nested_on)")
    expect(subject.kit.nesting is not None, f"it implements {', '.join(nests)}, and no GuestKit.nesting says how")


@rule(
    "DRV-006",
    "A machine's summary can be told at any time, in lines of text.",
    source="viommu_costs, Returns",
    needs=(Need.HOST,),
)
def costs_are_lines(subject: Subject) -> None:
    """Ask before and after something has happened."""
    with host(subject) as world:
        for _ in range(2):
            lines = subject.driver.ask("viommu_costs", activity=world.machine.activity) or ()
            expect(all(isinstance(line, str) for line in lines), "viommu_costs gives something that is no text")
            expect(str(world.machine.summary()).strip(), "the summary is empty")
            device = world.device()
            device.attach(world.iommu.ioas_alloc())
            device.dma_read(0x1000, 8)
            device.detach()


@rule(
    "DRV-005",
    "What a driver says of a device stays as it is.",
    source="viommu_device_facts, viommu_reserved_regions, Owes",
    needs=(Need.HOST,),
)
def facts_stay(subject: Subject) -> None:
    """Ask about one device twice, before and after it was attached."""
    with host(subject) as world:
        device = world.device()
        physical = device.endpoint.physical
        regions = list(subject.driver.ask("viommu_reserved_regions", device=physical) or ())
        facts = physical.facts
        ioas = world.iommu.ioas_alloc()
        device.attach(ioas)
        expect(physical.facts == facts, "facts changed", before=repr(facts), after=lambda: repr(physical.facts))
        again = list(subject.driver.ask("viommu_reserved_regions", device=physical) or ())
        expect(again == regions, "reserved regions changed", before=repr(regions), after=repr(again))
