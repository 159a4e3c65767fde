"""What happened on a machine, in lines: who was asked how often, what hardware executed, what it would have cost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from viommu.activity import Activity
    from viommu.instance.iommu import Iommu

__all__ = [
    "Summary",
]

SHOWN_KINDS = 6
"""Of ioctls, or of commands; the rest is added up."""


@frozen
class Summary:
    """What `viommu.Machine.summary` gives. ``str`` of it is a table of lines, a title and what belongs to it."""

    activity: Activity
    host_commands: Counter[str]
    """Commands that hardware executed from the host's own queues, by kind."""
    costs: Sequence[str]
    """What that would have cost on real hardware, in the words of the driver (`viommu_costs`)."""
    lookups: Mapping[str, int] = field(factory=Counter)
    """Of all IOMMUs: translations, and of them hits, walks, faults and what else the engine counts."""
    faults: Mapping[str, int] = field(factory=Counter)
    """Accesses that were refused, by kind."""

    @classmethod
    def of(cls, activity: Activity, iommus: Iterable[Iommu]) -> Summary:
        """Gather it. Raises DriverBug."""
        every, drivers = Counter[str](), {}
        lookups, faults = Counter[str](), Counter[str]()
        for iommu in iommus:
            counted = iommu.translator.counters()
            faults.update(counted.pop("faults_by_kind"))
            lookups.update(counted)
            every += iommu.command_counts
            drivers[iommu.driver.info.name] = iommu.driver
        costs = [line for driver in drivers.values() for line in driver.ask("viommu_costs", activity=activity) or ()]
        return cls(activity, every - activity.guest_commands, costs, lookups, faults)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Give titles and texts."""
        did = self.activity
        found = Counter(self.lookups)
        called = f"{_kinds(did.ioctls)}; event queues: {_kinds(did.file_calls)}"
        return [
            ("ioctls of the user", called),
            ("invalidation requests", f"{did.requests} executed for ioctls"),
            ("interrupts of the host", _kinds(did.interrupts)),
            ("host driver", f"{did.register_writes} register writes, {did.register_reads} reads"),
            ("its commands", _kinds(self.host_commands)),
            ("guests, without exit", f"{did.guest_writes} register writes, {did.guest_reads} reads"),
            ("their commands", _kinds(did.guest_commands)),
            ("written to guests", _kinds(did.guest_records)),
            ("translations", f"{found['translations']}: {found['hits']} hits, {found['walks']} walks"),
            ("faults", _kinds(self.faults)),
            *(("on real hardware", line) for line in self.costs),
        ]

    def __str__(self) -> str:
        width = max(len(title) for title, _ in self.lines)
        return "\n".join(f"{title:{width}}  {text}" for title, text in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Give it as the commands print it."""
        did = self.activity
        return {
            "ioctls": dict(did.ioctls),
            "file_calls": dict(did.file_calls),
            "invalidation_requests": did.requests,
            "interrupts": dict(did.interrupts),
            "host_register_writes": did.register_writes,
            "host_register_reads": did.register_reads,
            "host_commands": dict(self.host_commands),
            "guest_register_writes": did.guest_writes,
            "guest_register_reads": did.guest_reads,
            "guest_commands": dict(did.guest_commands),
            "guest_records": dict(did.guest_records),
            "lookups": dict(self.lookups),
            "faults": dict(self.faults),
            "costs": list(self.costs),
        }


def _kinds(counts: Mapping[str, int]) -> str:
    """Say a total, and the kinds that are most of it."""
    total = sum(counts.values())
    if not total:
        return "0"
    most = Counter(counts).most_common(SHOWN_KINDS)
    told = [f"{count} {name}" for name, count in most if count]
    rest = total - sum(count for _, count in most)
    return f"{total} ({', '.join([*told, f'{rest} others'] if rest else told)})"
